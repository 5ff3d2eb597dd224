"""The files of following a target: target and supports in; masks and overlay out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.commands.checks import refuse_existing
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.frames import BadFrame, Frame, FrameSource, open_frames
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.frames.mask_files import check_tracked_path
from ProxyPromptSegmentLib.frames.timing import time_steps
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice
from ProxyPromptSegmentLib.inference.job import Job, plan
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.overlay import write_overlay
from ProxyPromptSegmentLib.support.case import SupportCase, read_support_case
from ProxyPromptSegmentLib.support.matching import has_place
from ProxyPromptSegmentLib.tracking.clip_job import plan_clip
from ProxyPromptSegmentLib.tracking.result import FramesResult
from ProxyPromptSegmentLib.tracking.result_file import write_frames

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.commands.requests import TrackRequest

VOLUME_FPS, UNKNOWN_FPS = 5.0, 10.0
"""Frames per second of an overlay of slices, and of frames whose times are not known."""
_MOST_FPS = 120.0


# --- reading ------------------------------------------------------------------------------------------------


def read_inputs(request: TrackRequest) -> tuple[FrameSource, list[SupportCase], Job]:
    """Opens the target, reads the supports and plans the job.

    Raises:
        ProxyPromptError: As the readers say, or if ``--frames`` or ``--axis`` do not fit the target.
    """
    source = open_frames(request.target, request.axis)
    check_tracked_path(request.output, source)
    chosen = zip(request.supports, request.support_choices(), strict=True)
    cases = [read_support_case(image, mask, slices) for (image, mask), slices in chosen]
    if source.volume is not None:
        slices = SliceChoice.parse(request.slices, "--frames")
        job = plan(cases, source.volume, request.objects, request.axis, slices)
        if job.view != source.view:  # the supports decide in which plane cubic voxels are looked at
            source = open_frames(request.target, job.view.axis)
        return source, cases, job
    if request.axis != "auto":
        raise UsageError(
            f"--axis is for volumes; the frames of {request.target.name} follow each other in time. Leave it out."
        )
    if source.kind != "video" and source.count is not None:  # what a video says of itself may be wrong
        FrameChoice.parse(request.slices, "--frames").check(source.count, request.target.name)
    job = plan_clip(cases, source, request.objects)
    return source, cases, replace(job, notes=(*job.notes, *_notes_on_supports(request, source, cases)))


def _notes_on_supports(request: TrackRequest, source: FrameSource, cases: list[SupportCase]) -> list[Note]:
    """Return notes on what goes wrong most easily between a clip and a frame of another one."""
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
            f"The frames of {source.name} are turned as the directions in their file say, a support that is a picture "
            "has none and is taken as it is. Check in the --overlay that both are the same way up."
        )
        notes.append(Note(text))
    return notes


# --- writing ------------------------------------------------------------------------------------------------


def write_results(request: TrackRequest, source: FrameSource, found: FramesResult, written: list[Path]) -> list[str]:
    """Writes masks and overlay, each whole or not at all.

    Args:
        request: Says where to.
        source: The target.
        found: The masks.
        written: Gets each file as soon as it is complete.

    Returns:
        What the user should know, as sentences.

    Raises:
        OutputError: If a file cannot be written, or somebody else has written it meanwhile.
    """
    refuse_existing("--output", request.output, request.force)
    notes = write_frames(request.output, found, source)
    written.append(request.output)
    if request.overlay:
        refuse_existing("--overlay", request.overlay, request.force)
        shown = found.seen
        notes += write_overlay(
            request.overlay,
            _again(source, shown),
            (found.masks(index) for index in shown),
            found.colors,
            frames_per_second(source, shown),
            found.window,
            source.spacing_mm,
        )
        written.append(request.overlay)
    return notes


def _again(source: FrameSource, numbers: list[int]) -> Iterator[tuple[int, Frame | BadFrame]]:
    """Reads some frames a second time."""
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
    """At which rate an overlay plays: that of the usual time between two frames."""
    if source.kind == "volume":
        return VOLUME_FPS
    steps = time_steps(source, numbers)
    usual = float(np.median(steps)) if steps.size else 0.0
    return min(1 / usual, _MOST_FPS) if usual > 0 else UNKNOWN_FPS
