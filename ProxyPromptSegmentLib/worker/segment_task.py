"""Carries out the tasks that segment or explain volumes and slices; separate from `tasks` because this needs torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.attribution import Why, explain
from ProxyPromptSegmentLib.inference.gaps import frame_names
from ProxyPromptSegmentLib.inference.results import SegmentResult, empty_result
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult, notes_on, put_back
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.support.matching import slice_names
from ProxyPromptSegmentLib.support.pieces import one_piece
from ProxyPromptSegmentLib.tracking.state import FramePrediction, frame_result
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.tracking.volume import track_volume
from ProxyPromptSegmentLib.worker.memory_ladder import Ladder, Unusable
from ProxyPromptSegmentLib.worker.streaming import Stream, outwards
from ProxyPromptSegmentLib.worker.tasks import LiveSlice, LiveTask, SegmentTask, WhyTask

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.results import ModelFacts
    from ProxyPromptSegmentLib.inference.segmenter import EncodedSlices, Segmenter
    from ProxyPromptSegmentLib.networks.protocols import PreparedSupport
    from ProxyPromptSegmentLib.support.pairs import SupportSet
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.encodings import Encodings
    from ProxyPromptSegmentLib.worker.model_store import ModelStore

T = TypeVar("T")


class Steps:
    """The steps that all tasks share: open a model, prepare the support, step down the ladder, measure times."""

    def __init__(self, engine: ModelStore, context: Context, model: str, device: str, support: SupportSet) -> None:
        self.engine, self.context, self.model, self.full = engine, context, model, support
        self.ladder: Ladder = engine.ladder(model, device, support, context.say)
        self.seconds = {"model": 0.0, "support": 0.0, "segmentation": 0.0}
        self._whole = one_piece(support)
        self._loading = not engine.is_loaded(model, self.ladder.footing.device)
        if self._loading:
            context.progress.start(1, "loading the model")

    def run(self, work: Callable[[Segmenter], T]) -> T:
        """Run ``work`` on the first step of the ladder whose memory suffices; return its result."""
        last = time.perf_counter()

        def timed(segmenter: Segmenter) -> T:
            nonlocal last
            self.seconds["model"] += time.perf_counter() - last
            if self._loading:
                self._loading = False
                self.context.progress.step()
                self.context.progress.close()
            try:
                return work(segmenter)
            finally:
                last = time.perf_counter()

        return self.ladder.run(timed)

    def prepare(self, segmenter: Segmenter) -> PreparedSupport | None:
        """Prepare the pairs that the ladder uses now; return None if cancelled."""
        start = time.perf_counter()
        try:
            prepared = self.engine.prepared(segmenter, self.ladder.support, self.context.cancel, self.context.progress)
        finally:
            self.seconds["support"] += time.perf_counter() - start
        # Even with fewer pairs, all of the user's pairs decide whether small parts are removed.
        return None if prepared is None else replace(prepared, one_piece=self._whole)

    def empty(self, count: int, shape: tuple[int, int], across_slices: bool) -> SegmentResult:
        """Return a result of ``count`` slices of ``shape``, none of them segmented."""
        return empty_result(self.full.objects, count, shape, self._whole, across_slices)

    def check(self, *values: np.ndarray) -> None:
        """Raise an error for values that overflowed in half precision.

        Raises:
            Unusable: If a value is not finite.
        """
        if self.ladder.footing.half and not all(np.isfinite(array).all() for array in values):
            raise Unusable("values are not finite")

    def facts(self) -> ModelFacts:
        """Return the facts about the model's weights."""
        return self.engine.open(self.model, self.ladder.footing.device).facts


def segment(task: SegmentTask, engine: ModelStore, context: Context) -> VolumeResult:
    """Carry out a `SegmentTask`."""
    job = task.job
    steps = Steps(engine, context, task.model, task.device, job.support)
    run = _Volume(task, steps)
    start = time.perf_counter()
    result = steps.run(run.follow if task.follow else run.slice_by_slice)
    context.progress.close()
    result.fill_gaps = task.fill_gaps and not task.in_time
    masks, filled = result.masks_and_filled(task.threshold)
    confidence = result.confidence(masks)
    named = frame_names if task.in_time else slice_names(job.target, job.view.axis).names
    taken = time.perf_counter() - start - steps.seconds["model"] - steps.seconds["support"]
    steps.seconds["segmentation"] = max(0.0, taken)
    run.stream.end(np.flatnonzero(result.done).tolist(), masks, confidence)
    footing = steps.ladder.footing
    return VolumeResult(
        segmentation=put_back(masks, job.support, job.view, job.target.geometry),
        masks=masks,
        result=result,
        confidence=confidence,
        cancelled=result.cancelled,
        notes=[
            *job.notes,
            *map(Note, steps.ladder.rungs),
            *result.notes,
            *notes_on(result, masks, task.threshold, filled, named),
        ],
        seconds=steps.seconds,
        model=steps.facts(),
        device=footing.device,
        rungs=list(steps.ladder.rungs),
        embedded=len(run.embedded),
        pairs=len(footing.pairs),
        half=footing.half,
        followed={
            index: frame_result(prediction, masks[index], confidence[index])
            for index, prediction in run.predictions.items()
        },
        filled=filled,
    )


class _Volume:
    """A volume that is being segmented; finished slices are kept when the ladder steps down."""

    def __init__(self, task: SegmentTask, steps: Steps) -> None:
        self.task, self.steps, self.context = task, steps, steps.context
        self.images = task.job.view.take(task.job.target.array)
        self.stream = Stream(self.context.slice_ready)
        self.embedded: set[int] = set()
        self.order: list[list[int]] = []
        self.result: SegmentResult | None = None
        self.predictions: dict[int, FramePrediction] = {}
        self.counted = 0

    def slice_by_slice(self, segmenter: Segmenter) -> SegmentResult:
        """Segment each slice independently, outwards from the slice on screen."""
        job, context, steps = self.task.job, self.context, self.steps
        prepared = steps.prepare(segmenter)
        if self.result is None:
            self.result = self._empty()
            self.order = outwards(job.slices, segmenter.batch, self.task.first)
        result = self.result
        result.cancelled = prepared is None
        if prepared is None:
            return result
        encodings = self._encodings(segmenter)
        wanted = sum(map(len, self.order))
        if self.counted == 0:
            context.progress.start(wanted, "segmenting")
        for batch in self.order:
            left = [index for index in batch if not result.done[index]]
            if not left:
                continue
            if context.cancel.cancelled:
                result.cancelled = True
                break
            try:
                segmenter.segment(
                    self.images,
                    prepared,
                    job.window,
                    job.view.spacing_mm,
                    left,
                    cancel=context.cancel,
                    encoded=encodings,
                    result=result,
                )
                self._check(left)
            finally:
                self._embedded(encodings)
                self._send(left)
            steps.ladder.notice()
        return result

    def follow(self, segmenter: Segmenter) -> SegmentResult:
        """Track with SAM 2's memory, from the slice most like the support; a new footing restarts the tracking."""
        job, context, steps = self.task.job, self.context, self.steps
        tracker = Tracker(segmenter, self.task.mode)
        self.predictions.clear()
        prepared = steps.prepare(segmenter)
        if prepared is None:
            result = self._empty()
            result.cancelled = True
            return result
        encodings = self._encodings(segmenter)

        def on_frame(prediction: FramePrediction) -> None:
            steps.check(prediction.probability, prediction.presence)
            masks = prediction.masks(self.task.threshold)
            self.stream.now(prediction.index, masks, prediction.confidence(self.task.threshold))
            nothing = prediction.probability[:, :0, :0]  # the result holds it; a long volume must not be stored twice
            self.predictions[prediction.index] = replace(prediction, probability=nothing)

        try:
            with segmenter.precision():
                result = track_volume(
                    tracker,
                    self.images,
                    prepared,
                    job.window,
                    job.view.spacing_mm,
                    job.slices,
                    progress=context.progress,
                    cancel=context.cancel,
                    on_frame=on_frame,
                    encoded=encodings,
                )
        finally:
            self._embedded(encodings)
        result.across_slices = self.task.across_slices
        return result

    def _empty(self) -> SegmentResult:
        shape = (self.images.shape[1], self.images.shape[2])
        return self.steps.empty(len(self.images), shape, self.task.across_slices)

    def _encodings(self, segmenter: Segmenter) -> Encodings | None:
        job = self.task.job
        if not self.task.keep:
            return None
        return self.steps.engine.embedded(segmenter, self.images, job.window, job.view.spacing_mm)

    def _embedded(self, encodings: Encodings | None) -> None:
        """Record which slices were embedded; without a store, all of them were."""
        done = np.flatnonzero(self.result.done).tolist() if self.result is not None else self.task.job.slices
        self.embedded |= set(done) if encodings is None else encodings.fresh

    def _check(self, indices: list[int]) -> None:
        """Mark slices as not segmented if half precision made their values unusable, and raise `Unusable`."""
        assert self.result is not None
        try:
            self.steps.check(self.result.probability[indices], self.result.presence[indices])
        except Unusable:
            self.result.done[indices] = False
            raise

    def _send(self, indices: list[int]) -> None:
        """Send the finished slices among ``indices``, and count them."""
        assert self.result is not None
        done = [index for index in indices if self.result.done[index]]
        self.stream.from_result(self.result, done, self.task.threshold)
        self.counted += len(done)
        if done:
            self.context.progress.step(len(done))


def live(task: LiveTask, engine: ModelStore, context: Context) -> LiveSlice:
    """Carry out a `LiveTask`."""
    job = task.job
    steps = Steps(engine, context, task.model, task.device, job.support)
    images = job.view.take(job.target.array)
    if not 0 <= task.index < len(images):
        raise UsageError(f"the target has no slice {task.index}; its slices are 0 to {len(images) - 1}")
    image = images[task.index : task.index + 1]

    def work(segmenter: Segmenter) -> SegmentResult:
        result = steps.empty(1, (image.shape[1], image.shape[2]), False)
        prepared = steps.prepare(segmenter)
        if prepared is None or context.cancel.cancelled:
            result.cancelled = True
            return result
        encodings = engine.embedded(segmenter, image, job.window, job.view.spacing_mm)
        segmenter.segment(image, prepared, job.window, job.view.spacing_mm, encoded=encodings, result=result)
        steps.check(result.probability, result.presence)
        return result

    result = steps.run(work)
    masks = result.masks(task.threshold)
    confidence = result.confidence(masks)
    if not result.cancelled:
        context.slice_ready(task.index, masks[0].copy(), confidence[0].copy(), True)
    return LiveSlice(
        index=task.index,
        masks=masks[0],
        confidence=confidence[0],
        model=steps.facts(),
        device=steps.ladder.footing.device,
        rungs=list(steps.ladder.rungs),
        cancelled=result.cancelled,
    )


def why(task: WhyTask, engine: ModelStore, context: Context) -> Why:
    """Carry out a `WhyTask`."""
    job = task.job
    steps = Steps(engine, context, task.model, task.device, job.support)
    images = job.view.take(job.target.array)

    def work(segmenter: Segmenter) -> Why:
        encoded: EncodedSlices | None = None
        if 0 <= task.index < len(images):
            image = images[task.index : task.index + 1]
            kept = engine.embedded(segmenter, image, job.window, job.view.spacing_mm)
            if 0 not in kept:
                kept[0] = segmenter.encode(image, job.window, job.view.spacing_mm)
            encoded = kept[0]
        now, prepared = _job_with(job, steps), engine.prepared(segmenter, steps.ladder.support)
        with segmenter.precision():
            return explain(
                segmenter, now, task.index, task.row, task.column, task.object_index, encoded=encoded, prepared=prepared
            )

    return steps.run(work)


def _job_with(job: Job, steps: Steps) -> Job:
    """Return the job with only the pairs that the ladder uses now."""
    pairs = steps.ladder.footing.pairs
    if len(pairs) == len(job.support):
        return job
    return replace(job, support=steps.ladder.support, shown=tuple(job.shown[number] for number in pairs))
