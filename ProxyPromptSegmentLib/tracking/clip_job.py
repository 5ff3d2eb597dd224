"""Planning of the job for a clip: its support, and the orientation of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.frames import FrameSource
from ProxyPromptSegmentLib.imaging.volumes import PICTURE_SUFFIXES, Volume
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, only_outside
from ProxyPromptSegmentLib.inference.classes import plan_classes
from ProxyPromptSegmentLib.inference.job import Job, plan, plan_without_support
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

_GREY_TOLERANCE = 8  # of 255
MOST_FRAMES = 1_000_000  # of a clip whose number of frames is not known


def plan_clip(cases: Sequence[SupportCase], source: FrameSource, objects: Sequence[str] | None = None) -> Job:
    """Choose the support slices for a clip; see `plan`.

    Args:
        cases: The supports, at least one.
        source: The clip; none of its frames is read.
        objects: Names of the objects; by default all that every support has.

    Raises:
        SupportError: If a support has none of the objects.
    """
    return plan(cases, _still(source, cases), objects)


def plan_clip_of_classes(classes: Sequence[PromptClass], source: FrameSource, any_modality: bool = False) -> Job:
    """Plan the segmentation of classes in each frame of a clip; see `plan_classes`.

    Args:
        classes: At least one.
        source: The clip; none of its frames is read, so that only a clip without colours rules a class out.
        any_modality: See `plan_classes`.
    """
    return plan_classes(classes, _still(source, ()), any_modality=any_modality or source.rgb)


def clip_with_hand(job: Job, said: ByHand, source: FrameSource) -> Job:
    """Return the job of a clip with prompts by hand, whose third index is the frame.

    Raises:
        UsageError: If an object or frame is unknown, or something lies outside of the frames.
    """
    if not said:
        return job
    _, rows, columns = source.geometry.shape_kji
    # The frame count in a video's header may be wrong.
    count = MOST_FRAMES if source.kind == "video" or source.count is None else source.count
    return replace(job, by_hand=said.on_slices(source.view, (count, rows, columns), job.support.objects))


def plan_clip_by_hand(said: ByHand, source: FrameSource) -> Job:
    """Plan the tracking of what the user points at in a clip, without a support.

    Raises:
        UsageError: If nothing is said, an object is nowhere said to be there, or something lies outside.
    """
    if not said:
        raise UsageError("nothing is prompted by hand; give a point or a box on a frame, or an annotated case.")
    asked = AskedObjects(said.objects, by_hand=True)
    job = clip_with_hand(plan_without_support(_still(source, ()), asked), said, source)
    missing = only_outside(job.by_hand, job.support.objects)
    if missing is not None:
        raise UsageError(
            f"of '{missing}' only points outside of it are given; give at least one inside of it, or a box."
        )
    return job


def _still(source: FrameSource, cases: Sequence[SupportCase]) -> Volume:
    """Return a stand-in of a clip for `plan`: a volume of one slice like its frames, with meaningless intensities.

    If the supports are grey pictures stored in colours, a grey clip counts as coloured too. If millimetres are not
    known, the stand-in is a picture, which `has_place` recognises by the suffix.
    """
    colour = source.rgb or bool(cases) and all(case.volume.is_rgb and _is_grey(case.volume.array) for case in cases)
    array = np.zeros((*source.geometry.shape_kji, *([3] if colour else [])), np.float32)
    array.flat[0] = 1.0
    path = None if source.has_spacing else source.path.with_suffix(PICTURE_SUFFIXES[0])
    return Volume(array, source.geometry, source.name, path)


def _is_grey(rgb: npt.NDArray[np.float32]) -> bool:
    """Return whether red, green and blue are equal, apart from artefacts of lossy compression."""
    return float(np.mean(np.ptp(rgb, axis=-1) > _GREY_TOLERANCE)) < 1e-3
