"""Carries out a `FramesTask`, tracking through frames in time; separate from `tasks` because this needs torch."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.frames.source import BadFrame, Frame, first_window
from ProxyPromptSegmentLib.inference.gaps import frame_names, notes_on_gaps
from ProxyPromptSegmentLib.inference.tiling.choice import OFF, TileChoice
from ProxyPromptSegmentLib.inference.tiling.tiler import plan_for
from ProxyPromptSegmentLib.inference.unlike import nearest_of, note_if_unlike
from ProxyPromptSegmentLib.networks.values import Prepared
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.tracking.beginning import begin_by_hand
from ProxyPromptSegmentLib.tracking.choices import PROMPTED_MODES, TrackingMode
from ProxyPromptSegmentLib.tracking.inputs import frame_shape
from ProxyPromptSegmentLib.tracking.result import FramesResult
from ProxyPromptSegmentLib.tracking.state import FramePrediction, frame_result
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.worker.frame_by_frame import FrameByFrame
from ProxyPromptSegmentLib.worker.steps import Steps
from ProxyPromptSegmentLib.worker.tasks import FramesTask

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.model_store import ModelStore


def follow_frames(task: FramesTask, engine: ModelStore, context: Context) -> FramesResult:
    """Carry out a `FramesTask`.

    Raises:
        InputError: If none of the frames can be used.
        UsageError: If the mode needs later frames, or the frames end before the first requested one.
    """
    if task.mode not in PROMPTED_MODES:  # by hand alone, the memory alone is used whatever the mode
        raise UsageError(f"mode '{task.mode}' cannot track frames in time; choose {' or '.join(PROMPTED_MODES)}")
    steps = Steps(engine, context, task.model, task.device, task.support, task.most_read, precision=task.precision)
    start = time.perf_counter()
    with closing(_Clip(task, steps)) as clip:
        steps.run(clip.follow)
    context.progress.close()
    found = clip.found
    taken = time.perf_counter() - start - steps.seconds["model"] - steps.seconds["support"]
    steps.seconds["segmentation"] = max(0.0, taken)
    footing = steps.ladder.footing
    found.seconds, found.model, found.device = steps.seconds, steps.facts(), footing.device
    found.rungs, found.half, found.precision = list(steps.ladder.rungs), footing.half, steps.precision
    found.notes[:0] = [*clip.notes, *map(Note, found.rungs)]
    unlike = note_if_unlike(clip.nearest, steps.calibration, not found.empty)
    found.notes += [*([] if unlike is None else [unlike]), *steps.choice_notes("frame"), *gap_notes(found)]
    if not found.cancelled:
        _check(task, found, clip.read)
    return found


def gap_notes(found: FramesResult) -> list[Note]:
    """Return the notes that name the frames without an object between frames that show it."""
    shown = np.zeros((found.length, len(found.objects)), bool)
    for index, one in found.done.items():
        shown[index] = one.area_px > 0
    return notes_on_gaps(found.objects, shown, np.zeros_like(shown), found.is_done, frame_names)


def _check(task: FramesTask, found: FramesResult, read: int) -> None:
    """Raise an error if no frame was segmented; complete the result of a clip that was read to its end.

    Args:
        task: The task.
        found: Its result.
        read: Number of frames that were read.
        nearest: Distance to the supports of the frame that is most like them; NaN before the first.
    """
    source, last = task.source, task.choice.last
    if not found.seen:
        raise UsageError(
            f"{source.title} ends after {read} frames, before the first requested one",
            Remedy(kind=RemedyKind.CHOOSE_FRAMES),
        )
    if not found.done:
        index, reason = next(iter(found.skipped.items()))
        raise InputError(
            f"none of the {len(found.skipped)} frames of {source.title} can be used (frame {index}: {reason}); "
            "export it again."
        )
    found.wanted = task.choice.total(read)
    if last is not None and last >= read:
        text = f"{source.title} ends with frame {read - 1}, before the last requested one."
        found.notes.append(Note(text))


class _Clip:
    """A clip that is being tracked; finished frames are kept when the ladder steps down.

    Attributes:
        found: The result so far.
        read: Number of frames that were read.
        notes: Notes on the support.
    """

    def __init__(self, task: FramesTask, steps: Steps) -> None:
        source = task.source
        self.task, self.steps, self.read = task, steps, 0
        self.nearest = float("nan")
        self.notes: list[Note] = []
        self.found = FramesResult(
            objects=task.support.objects,
            shape=source.shape,
            colors=tuple(task.support.colors),
            terminologies=tuple(task.support.terminologies),
            values=tuple(task.support.values),
            count=source.count,
            wanted=task.choice.total(source.count),
            window=task.window or (0.0, 1.0),
        )
        self._frames = iter(source)
        self._waiting: tuple[int, Frame | BadFrame] | None = None
        self._window = task.window

    def close(self) -> None:
        """Close the file that the frames are read from."""
        self._frames.close()

    def follow(self, segmenter: Segmenter) -> None:
        """Track from the first unfinished frame; a new footing begins with an empty memory."""
        task, context, found = self.task, self.steps.context, self.found
        alone = isinstance(task.support, AskedObjects)
        by_hand = isinstance(task.support, AskedObjects) and task.support.by_hand
        tracker: Tracker | FrameByFrame
        if by_hand:
            tracker = Tracker(segmenter, TrackingMode.BANK_ONLY)
        else:
            tracker = FrameByFrame(segmenter, task.ruled_out) if alone else Tracker(segmenter, task.mode)
        source = task.source
        tiles = plan_for(segmenter, task.support, source.shape, source.spacing_mm, TileChoice(OFF))
        self.notes = tiles.notes(tracked=True)
        prepared = None if by_hand else self.steps.prepare(segmenter)
        if prepared is None and not by_hand:
            found.cancelled = True
            return
        found.cancelled = False
        if self._waiting is None:
            context.progress.start(found.wanted or 0, "segmenting" if alone and not by_hand else "tracking")
        elif found.done and (by_hand or (not alone and task.mode == TrackingMode.PROXY_AND_BANK)):
            # Memory has run out, or half precision was unusable; the ladder reports which.
            note = f"From frame {self._waiting[0]} on, earlier frames are no longer remembered."
            found.notes.append(Note(note))
            context.say(note)
        follower = _Follower(tracker, prepared, self)
        with segmenter.precision():
            while (now := self._next()) is not None:
                index, frame = now
                if task.choice.last is not None and index > task.choice.last:
                    return
                if context.cancel.cancelled:
                    found.cancelled = True
                    return
                self.read = index + 1
                if index in task.choice:
                    follower.take(index, frame)
                    context.progress.step()
                else:
                    follower.skip(index)
                self._waiting = None

    def window_of(self, frame: Frame) -> tuple[float, float]:
        """Return the window of the clip, which its first usable frame determines."""
        if self._window is None:
            self._window = self.found.window = first_window(frame, self.task.source)
        return self._window

    def _next(self) -> tuple[int, Frame | BadFrame] | None:
        """Return the frame that memory ran out on, or read the next one; None at the end."""
        if self._waiting is None:
            self._waiting = next(self._frames, None)
        return self._waiting


class _Follower:
    """The use of one tracker, or of frames one by one, on one footing of the ladder."""

    def __init__(self, tracker: Tracker | FrameByFrame, prepared: Prepared | None, clip: _Clip) -> None:
        self.tracker: Any = tracker
        self.prepared, self.clip = prepared, clip
        self.begun = False

    def skip(self, index: int) -> None:
        """Advance the tracker's time by a frame without segmenting it."""
        if self.begun:
            self.tracker.skip(index)

    def take(self, index: int, frame: Frame | BadFrame) -> None:
        """Predict a frame; report and skip an unusable one."""
        if not isinstance(frame, np.ndarray):
            self._leave_out(index, frame.reason)
            return
        task, said = self.clip.task, self.clip.task.by_hand.get(index)
        if not self.begun and self.prepared is None and not said:
            self._leave_out(index, "nothing has been prompted by hand up to it")
            return
        window, spacing_mm = self.clip.window_of(frame), task.source.spacing_mm
        if not self.begun:
            names = (task.support.objects,) if self.prepared is None else ()
            self.tracker.start(self.prepared, window, spacing_mm, *names)
        try:
            if not self.begun and self.prepared is None and said:
                frame_shape(frame, f"frame {index}")
                encoded = self.tracker.segmenter.encode(frame[None], window, spacing_mm)
                prediction = begin_by_hand(self.tracker, frame, said, index, encoded)
            else:
                self.begun = True
                prediction = self.tracker.step(frame, index)
                prediction = self.tracker.correct_by_hand(said) if said else prediction
            self.begun = True
        except InputError as error:
            self._leave_out(index, str(error))
        else:
            self._keep(prediction)

    def _leave_out(self, index: int, reason: str) -> None:
        self.clip.found.skipped[index] = reason
        self.skip(index)
        self.clip.steps.context.frame_looked_at(index, None, reason)

    def _keep(self, prediction: FramePrediction) -> None:
        steps, index = self.clip.steps, prediction.index
        steps.check(prediction.probability, prediction.presence)
        self.clip.nearest = float(np.fmin(self.clip.nearest, nearest_of(prediction.evidence)))
        masks = prediction.masks(self.clip.task.threshold)
        found = frame_result(prediction, masks)
        self.clip.found.keep(index, masks, found)
        steps.context.slice_ready(index, masks, found.confidence, True)
        steps.context.frame_looked_at(index, found)
