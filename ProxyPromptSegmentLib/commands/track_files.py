"""Files of the subcommand ``track``: read target and supports, write masks and overlay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.commands.hand_options import said_by_hand, with_masks
from ProxyPromptSegmentLib.commands.segment_run import read_supports
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.frames import BadFrame, Frame, FrameSource, open_frames
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.frames.mask_files import check_tracked_path
from ProxyPromptSegmentLib.frames.timing import time_steps
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice
from ProxyPromptSegmentLib.inference.job import Job, plan
from ProxyPromptSegmentLib.inference.job_by_hand import plan_tracked_by_hand, with_hand
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.overlay import write_overlay
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.matching import has_place
from ProxyPromptSegmentLib.tracking.clip_job import (
    clip_with_hand,
    plan_clip,
    plan_clip_by_hand,
    plan_clip_of_classes,
)
from ProxyPromptSegmentLib.tracking.result import FramesResult
from ProxyPromptSegmentLib.tracking.result_file import write_frames

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.commands.requests import TrackRequest
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

VOLUME_FPS, UNKNOWN_FPS = 5.0, 10.0
"""Frames per second of an overlay of slices, and of frames whose times are not known."""
_MOST_FPS = 120.0


# --- reading ------------------------------------------------------------------------------------------------


def read_inputs(
    request: TrackRequest, classes: tuple[PromptClass, ...] = ()
) -> tuple[FrameSource, list[SupportCase], Job]:
    """Open the target, read the supports and plan the job.

    Args:
        request: The options.
        classes: What the model knows and is asked for, instead of supports.

    Raises:
        ProxyPromptError: If a file cannot be used, or ``--frames`` or ``--axis`` does not fit the target.
    """
    source = open_frames(request.target, request.axis)
    check_tracked_path(request.output, source)
    cases = read_supports(request)
    if source.volume is not None and classes:
        raise UsageError(
            f"{request.target.name} is a volume, and without a support its slices are not tracked; use `proxyprompt "
            "segment --class`."
        )
    if source.volume is not None:
        slices = SliceChoice.parse(request.slices, "--frames")
        said = with_masks(said_by_hand(request.points, request.boxes), request.masks, source.volume.geometry)
        if cases:
            job = with_hand(plan(cases, source.volume, request.objects, request.axis, slices, reslice=False), said)
        else:
            job = plan_tracked_by_hand(source.volume, said, request.axis, slices)
        if job.view != source.view:  # for cubic voxels the supports decide the axis
            source = open_frames(request.target, job.view.axis)
        return source, cases, job
    if request.axis != "auto":
        raise UsageError(
            f"--axis is for volumes; the frames of {request.target.name} follow each other in time. Omit it."
        )
    if source.kind != "video" and source.count is not None:  # the frame count in a video's header may be wrong
        FrameChoice.parse(request.slices, "--frames").check(source.count, request.target.name)
    if request.masks:
        raise UsageError("--mask is for volumes; on the frames of a clip use --point and --box.")
    said = said_by_hand(request.points, request.boxes)
    if classes and said:
        raise UsageError("--class finds each frame alone; prompts by hand are for tracking with a support or alone.")
    if classes:
        return source, cases, plan_clip_of_classes(classes, source, request.any_modality)
    if cases:
        job = clip_with_hand(plan_clip(cases, source, request.objects), said, source)
    else:
        job = plan_clip_by_hand(said, source)
    return source, cases, replace(job, notes=(*job.notes, *_notes_on_supports(request, source, cases)))


def _notes_on_supports(request: TrackRequest, source: FrameSource, cases: list[SupportCase]) -> list[Note]:
    """Return notes on two frequent mistakes: a support from the target itself, and differing orientations."""
    notes = []
    if request.target.is_dir():
        folder = request.target.resolve()
        for image, _ in request.supports:
            if image.resolve().parent == folder:
                text = (
                    f"The support {image.name} is one of the target's own frames; the result says nothing about other "
                    "cases."
                )
                notes.append(Note(text))
    view = source.view
    if (view.transpose or view.flip_rows or view.flip_columns) and not all(has_place(case.volume) for case in cases):
        text = (
            f"The frames of {source.name} are oriented by the directions in their file, but a support that is a "
            "picture has no directions and is used as it is. Check in the --overlay that both are oriented alike."
        )
        notes.append(Note(text))
    return notes


# --- writing ------------------------------------------------------------------------------------------------


def write_results(request: TrackRequest, source: FrameSource, found: FramesResult, written: list[Path]) -> list[str]:
    """Write masks and overlay, each completely or not at all.

    Args:
        request: The options, with the paths to write.
        source: The target.
        found: The masks.
        written: Gets each file as soon as it is complete.

    Returns:
        Notes for the user, as sentences.

    Raises:
        OutputError: If a file cannot be written, or another program has written it meanwhile.
    """
    notes = write_frames(request.output, found, source, replace=request.force)
    written.append(request.output)
    if request.overlay:
        shown = found.seen
        notes += write_overlay(
            request.overlay,
            _again(source, shown),
            (found.masks(index) for index in shown),
            found.colors,
            frames_per_second(source, shown),
            found.window,
            source.spacing_mm,
            replace=request.force,
        )
        written.append(request.overlay)
    return notes


def _again(source: FrameSource, numbers: list[int]) -> Iterator[tuple[int, Frame | BadFrame]]:
    """Yield some frames of the target, read a second time, with their indices."""
    if source.direct:
        yield from ((index, source.frame(index)) for index in numbers)
        return
    wanted = set(numbers)
    for index, frame in source:
        if index in wanted:
            yield index, frame
        if index >= numbers[-1]:
            return


def frames_per_second(source: FrameSource, numbers: list[int]) -> float:
    """Return the frame rate of an overlay in frames per second: 1 / the median time step, or a default."""
    if source.kind == "volume":
        return VOLUME_FPS
    steps = time_steps(source, numbers)
    usual = float(np.median(steps)) if steps.size else 0.0
    return min(1 / usual, _MOST_FPS) if usual > 0 else UNKNOWN_FPS
