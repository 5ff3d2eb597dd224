"""Planning of the job for a clip: its support, and the orientation of its frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.frames import FrameSource
from ProxyPromptSegmentLib.imaging.volumes import PICTURE_SUFFIXES, Volume
from ProxyPromptSegmentLib.inference.classes import plan_classes
from ProxyPromptSegmentLib.inference.job import Job, plan
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

_GREY_TOLERANCE = 8  # of 255


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
