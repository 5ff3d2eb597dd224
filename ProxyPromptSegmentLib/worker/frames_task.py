"""How frames in time are followed by a `FramesTask`, on the worker thread; split off because this needs torch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.tracking.choices import PROMPTED_MODES, TrackingMode
from ProxyPromptSegmentLib.tracking.tracker import FramePrediction, Tracker
from ProxyPromptSegmentLib.worker.segment_task import Steps
from ProxyPromptSegmentLib.worker.tasks import FramesOutcome, FramesTask

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.model_store import ModelStore


def follow_frames(task: FramesTask, engine: ModelStore, context: Context) -> FramesOutcome:
    """Does a `FramesTask`."""
    if task.mode not in PROMPTED_MODES:
        raise UsageError(f"frames are followed by {' or '.join(PROMPTED_MODES)}, not by '{task.mode}'")
    frames = np.asarray(task.frames)
    if frames.ndim < 3 or frames.shape[3:] not in ((), (3,)) or not frames.size:
        raise InputError(f"the frames have shape {frames.shape}; allowed are (T, H, W) and (T, H, W, 3)")
    count = len(frames)
    wanted = set(range(count)) if task.wanted is None else {int(index) for index in task.wanted}
    outside = sorted(index for index in wanted if not 0 <= index < count)
    if outside or not wanted:
        raise UsageError(
            f"the sequence has no frame {outside[0] if outside else 'that was asked for'}; its frames are 0 to "
            f"{count - 1} (counted from 0)"
        )
    steps = Steps(engine, context, task.model, task.device, task.support)
    run = _Frames(task, frames, wanted, steps)
    start = time.perf_counter()
    steps.run(run.follow)
    context.progress.close()
    taken = time.perf_counter() - start - steps.seconds["model"] - steps.seconds["support"]
    steps.seconds["segmentation"] = max(0.0, taken)
    return run.outcome()


class _Frames:
    """Frames that are being followed; those that are done stay when the ladder begins anew."""

    def __init__(self, task: FramesTask, frames: np.ndarray, wanted: set[int], steps: Steps) -> None:
        self.task, self.frames, self.wanted, self.steps = task, frames, wanted, steps
        count, objects = len(frames), len(task.support.objects)
        self.masks = np.zeros((count, objects, *frames.shape[1:3]), np.uint8)
        self.confidence, self.presence = np.zeros((2, count, objects), np.float32)
        self.agreement = np.full((count, objects), np.nan, np.float32)
        self.disagrees = np.zeros((count, objects), bool)
        self.done = np.zeros(count, bool)
        self.skipped: dict[int, str] = {}
        self.next, self.begun, self.cancelled = 0, False, False
        self.notes: list[str] = []

    def follow(self, segmenter: Segmenter) -> None:
        """From the first frame that is not done; another footing begins with an empty memory."""
        task, context = self.task, self.steps.context
        tracker = Tracker(segmenter, task.mode)
        prepared = self.steps.prepare(segmenter)
        if prepared is None:
            self.cancelled = True
            return
        if self.begun and self.next and task.mode == TrackingMode.PROXY_AND_BANK:
            self._note(f"From frame {self.next} on the frames before it are not remembered, because memory ran out.")
        if not self.begun:
            context.progress.start(len(self.wanted), "following")
            self.begun = True
        tracker.start(prepared, task.window, task.spacing_mm)
        with segmenter.precision():
            while self.next <= max(self.wanted):
                if context.cancel.cancelled:
                    self.cancelled = True
                    return
                self._take(tracker, self.next)
                self.next += 1

    def _take(self, tracker: Tracker, index: int) -> None:
        """Predicts a frame, or lets its time pass."""
        if index not in self.wanted:
            tracker.skip(index)
            return
        try:
            prediction = tracker.step(self.frames[index], index)
        except InputError as error:
            tracker.skip(index)
            self.skipped[index] = str(error)
            self._note(f"Frame {index} was left out: {error}.")
        else:
            self._keep(prediction)
        self.steps.context.progress.step()

    def _keep(self, prediction: FramePrediction) -> None:
        self.steps.check(prediction.probability, prediction.presence)
        index, threshold = prediction.index, self.task.threshold
        masks, confidence = prediction.masks(threshold), prediction.confidence(threshold)
        self.masks[index], self.confidence[index], self.done[index] = masks, confidence, True
        self.presence[index], self.agreement[index] = prediction.presence, prediction.agreement
        self.disagrees[index] = prediction.disagrees
        self.steps.context.slice_ready(index, masks, confidence, True)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.steps.context.say(text)

    def outcome(self) -> FramesOutcome:
        """What came of it."""
        steps, names = self.steps, self.task.support.objects
        notes = [*steps.ladder.rungs, *self.notes]
        for number, name in enumerate(names):
            doubtful = int(self.disagrees[:, number].sum())
            if doubtful:
                notes.append(
                    f"On {doubtful} frames the support alone and the memory of the frames before say different things "
                    f"about '{name}'; look at them."
                )
        footing = steps.ladder.footing
        return FramesOutcome(
            names,
            self.masks,
            self.confidence,
            self.presence,
            self.agreement,
            self.disagrees,
            self.done,
            self.skipped,
            notes,
            steps.seconds,
            steps.facts(),
            footing.device,
            list(steps.ladder.rungs),
            self.cancelled,
            footing.half,
        )
