"""Following a target: the frames of a clip as they come, the slices of a volume both ways."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.tracking.result import FrameFindings, Tracked

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.frames import BadFrame, Frame, FrameSource
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.tracking.tracker import FramePrediction, Tracker

NARROW = 64
"""Of 256 grey levels: an 8-bit frame whose window is narrower is a black or nearly empty one and decides nothing."""


def first_window(frame: Frame, source: FrameSource) -> tuple[float, float]:
    """The intensity window of a clip: that of its first frame, because no frame may know what comes later.

    It is found as the support's is. Where that frame shows nothing, the source's own window serves.

    Raises:
        InputError: If the source has but one intensity.
    """
    try:
        low, high = intensity_window(frame)
    except InputError:
        return source.window()
    return source.window() if source.eight_bit and high - low < NARROW else (low, high)


def follow_clip(
    tracker: Tracker,
    source: FrameSource,
    job: Job,
    choice: FrameChoice,
    threshold: float,
    on_frame: Callable[[Tracked, int], None] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Tracked:
    """Follows frames in the order of time, each with what came before it alone.

    Args:
        tracker: Not begun.
        source: The clip.
        job: The support.
        choice: Which frames; those between them are read, and their time passes.
        threshold: Pixels of higher probability belong to the object.
        on_frame: Called with what has been found so far and the number of each frame as soon as it is known.
        progress: Told of each frame.
        cancel: Looked at before each frame.

    Raises:
        InputError: If not one frame can be used.
        UsageError: If the clip ends before the first frame that was asked for.
    """
    progress, cancel = progress or Progress(), cancel or CancelToken()
    found = Tracked(job.support.objects, source.shape, choice.total(source.count))
    clip = _Clip(tracker, source, job, threshold, found)
    count, start = 0, time.perf_counter()
    progress.start(found.wanted or 0, "tracking")
    try:
        with closing(iter(source)) as frames:  # type: ignore[type-var]
            for index, frame in frames:
                if choice.last is not None and index > choice.last:
                    break
                if cancel.cancelled:
                    found.cancelled = True
                    break
                count = index + 1
                if index not in choice:
                    clip.pass_over(index)
                    continue
                clip.take(index, frame)
                if on_frame:
                    on_frame(found, index)
                progress.step()
    finally:
        progress.close()
    found.seconds = time.perf_counter() - start
    if found.cancelled:
        return found
    if not found.seen:
        raise UsageError(f"{source.path.name} ends after {count} frames; --frames asks for none of them.")
    if not found.done:
        index, reason = next(iter(found.skipped.items()))
        raise InputError(
            f"none of the {len(found.skipped)} frames of {source.path.name} can be used (frame {index}: {reason}); "
            "export it again."
        )
    found.wanted = choice.total(count)
    if choice.last is not None and choice.last >= count:
        found.notes.append(f"{source.path.name} ends with frame {count - 1}; --frames asks for more.")
    return found


class _Clip:
    """A clip that is being followed."""

    def __init__(self, tracker: Tracker, source: FrameSource, job: Job, threshold: float, found: Tracked) -> None:
        self.tracker, self.source, self.job, self.threshold, self.found = tracker, source, job, threshold, found
        self.begun = False

    def pass_over(self, index: int) -> None:
        """Lets the time of a frame pass."""
        if self.begun:
            self.tracker.skip(index)

    def take(self, index: int, frame: Frame | BadFrame) -> None:
        """Predicts a frame; one that cannot be used is noted and passed over."""
        if not isinstance(frame, np.ndarray):
            self.leave_out(index, frame.reason)
            return
        if not self.begun:
            self.found.window = first_window(frame, self.source)
            self.tracker.start(self.job.support, self.found.window, self.source.spacing_mm)
            self.begun = True
        try:
            prediction = self.tracker.step(frame, index)
        except InputError as error:
            self.leave_out(index, str(error))
            return
        masks = prediction.masks(self.threshold)
        self.found.keep(index, masks, FrameFindings.of(prediction, masks))

    def leave_out(self, index: int, reason: str) -> None:
        """Notes why a frame is not used."""
        self.found.skipped[index] = reason
        self.pass_over(index)


def follow_volume(
    tracker: Tracker,
    job: Job,
    threshold: float,
    on_frame: Callable[[Tracked, int], None] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Tracked:
    """Follows the slices of a volume both ways, from the one that is most like the support.

    Its masks are made as `segment` makes them, with what neighbouring slices say.

    Args:
        tracker: Not begun.
        job: Support and target.
        threshold: Voxels of higher probability belong to the object.
        on_frame: Called with what was found and the number of each slice, in their order, at the end.
        progress: Told of each slice.
        cancel: Looked at before each slice.
    """
    from ProxyPromptSegmentLib.tracking.volume import track_volume

    predictions: dict[int, FramePrediction] = {}

    def note(prediction: FramePrediction) -> None:
        nothing = prediction.probability[:, :0, :0]  # the result has it; a long volume is not kept twice
        predictions[prediction.index] = replace(prediction, probability=nothing)

    images = job.view.take(job.target.array)
    start = time.perf_counter()
    result = track_volume(
        tracker,
        images,
        job.support,
        job.window,
        job.view.spacing_mm,
        job.slices,
        progress=progress,
        cancel=cancel,
        on_frame=note,
    )
    masks = result.masks(threshold)
    confidence = result.confidence(masks)
    found = Tracked(result.objects, (images.shape[1], images.shape[2]), len(job.slices), window=job.window)
    found.cancelled, found.seconds, found.notes = result.cancelled, time.perf_counter() - start, result.notes
    for index in job.slices:
        if result.done[index]:
            found.keep(index, masks[index], FrameFindings.of(predictions[index], masks[index], confidence[index]))
        elif not result.cancelled:
            found.skipped[index] = "it cannot be used"
    if on_frame:
        for index in found.seen:
            on_frame(found, index)
    return found
