"""Carries out the tasks that segment or explain volumes and slices; separate from `tasks` because this needs torch."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.attribution import Reading, Why, explain
from ProxyPromptSegmentLib.inference.gaps import frame_names
from ProxyPromptSegmentLib.inference.helps import Helps, HelpsUsed
from ProxyPromptSegmentLib.inference.results import THRESHOLD, SegmentResult
from ProxyPromptSegmentLib.inference.tiling.choice import OFF, TileChoice
from ProxyPromptSegmentLib.inference.tiling.tiler import plan_for
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult, notes_on, put_back
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.support.asked import AskedObjects, support_of
from ProxyPromptSegmentLib.support.matching import slice_names
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.state import FramePrediction, frame_result
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.tracking.volume import track_volume
from ProxyPromptSegmentLib.worker.first_batches import FirstBatches, peak_bytes
from ProxyPromptSegmentLib.worker.memory_ladder import Unusable
from ProxyPromptSegmentLib.worker.resliced import brought_back, in_support_plane, point_in_support_plane
from ProxyPromptSegmentLib.worker.slice_work import SliceWork
from ProxyPromptSegmentLib.worker.steps import Steps
from ProxyPromptSegmentLib.worker.streaming import Stream, outwards
from ProxyPromptSegmentLib.worker.tasks import LiveSlice, LiveTask, SegmentTask, WhyTask

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.support.registration.prior import Registered
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.encodings import Encodings
    from ProxyPromptSegmentLib.worker.model_store import ModelStore


def segment(task: SegmentTask, engine: ModelStore, context: Context) -> VolumeResult:
    """Carry out a `SegmentTask`."""
    job = task.job
    resliced = job.reslicing is not None and not task.follow and not task.in_time
    steps = Steps(engine, context, task.model, task.device, job.support, task.most_read, task.surrogate, task.precision)
    run = _Volume(in_support_plane(task), steps, Stream(lambda *_: None)) if resliced else _Volume(task, steps)
    start = run.first.begun
    result = steps.run(run.follow if task.follow else run.slice_by_slice)
    context.progress.close()
    result.fill_gaps = task.fill_gaps and not task.in_time
    masks, filled = result.masks_and_filled(task.threshold)
    confidence = result.confidence(masks)
    if resliced:
        result = brought_back(result, masks, confidence, job, task.threshold)
        masks, filled = result.masks_and_filled(task.threshold)
        confidence = result.confidence(masks)
        run.stream = Stream(context.slice_ready)
    named = frame_names if task.in_time else slice_names(job.target, job.view.axis).names
    others = sum(value for stage, value in steps.seconds.items() if stage != "segmentation")
    taken = time.perf_counter() - start - others
    steps.seconds["segmentation"] = max(0.0, taken)
    run.stream.end(np.flatnonzero(result.done).tolist(), masks, confidence)
    footing = steps.ladder.footing
    plan = run.work.plan
    about = [] if plan is None else plan.notes(tracked=task.follow)
    about += run.notes
    chosen = steps.choice_notes("frame" if task.in_time else "slice") if plan is None or plan.in_whole else []
    found = [*result.notes, *notes_on(result, masks, task.threshold, filled, named, steps.calibration, job)]
    return VolumeResult(
        segmentation=put_back(masks, job.support, job.view, job.target.geometry),
        masks=masks,
        result=result,
        confidence=confidence,
        cancelled=result.cancelled,
        notes=[*job.notes, *about, *chosen, *map(Note, steps.ladder.rungs), *found],
        seconds=steps.seconds,
        model=steps.facts(),
        device=footing.device,
        rungs=list(steps.ladder.rungs),
        embedded=len(run.embedded),
        pairs=len(footing.pairs),
        half=footing.half,
        precision=steps.precision,
        tiles=run.work.use,
        helps=run.used,
        followed={
            index: frame_result(prediction, masks[index], confidence[index])
            for index, prediction in run.predictions.items()
        },
        filled=filled,
        forecast=run.first.forecast,
        peak_bytes=peak_bytes(footing.device),
    )


class _Volume:
    """A volume that is being segmented; finished slices are kept when the ladder steps down."""

    def __init__(self, task: SegmentTask, steps: Steps, stream: Stream | None = None) -> None:
        self.task, self.steps, self.context = task, steps, steps.context
        self.images = task.job.view.take(task.job.target.array)
        self.stream = stream or Stream(self.context.slice_ready)
        self.embedded: set[int] = set()
        self.order: list[list[int]] = []
        self.result: SegmentResult | None = None
        self.predictions: dict[int, FramePrediction] = {}
        self.work = SliceWork(steps, task.job, TileChoice.of(task.tiles), task.keep, task.closer)
        self.helps: Helps | None = None
        self.used, self.notes = HelpsUsed(), list[Note]()
        self.first = FirstBatches(time.perf_counter())

    def slice_by_slice(self, segmenter: Segmenter) -> SegmentResult:
        """Segment each slice independently, outwards from the slice on screen."""
        job = self.task.job
        ready = self.work.begin(segmenter, self._shape)
        if self.result is None:
            self.result = self._empty()
            tiled = self.work.plan is not None and self.work.plan.tiles
            self.order = outwards(job.slices, 1 if tiled else segmenter.batch, self.task.first)
        else:  # what was timed is of another device, batch or precision
            self.first = FirstBatches(self.first.begun)
        result = self.result
        result.cancelled = not ready
        if not ready:
            return result
        encodings, helps = self._encodings(segmenter), self._helps(segmenter)
        self.work.start(sum(map(len, self.order)))
        self.first.start()
        try:
            self._in_order(segmenter, result, encodings, helps)
        finally:
            if segmenter.ahead is not None:
                segmenter.ahead.close()
        return result

    def _in_order(self, segmenter: Segmenter, result: SegmentResult, encodings: Encodings | None, helps: Helps) -> None:
        """Segment the slices that are left, batch by batch; the next batch is read meanwhile."""
        job, context, steps = self.task.job, self.context, self.steps
        in_whole = self.work.plan is not None and self.work.plan.in_whole
        for number, batch in enumerate(self.order):
            left = [index for index in batch if not result.done[index]]
            if not left:
                continue
            if context.cancel.cancelled:
                result.cancelled = True
                break
            if in_whole and number + 1 < len(self.order):
                segmenter.read_ahead(
                    self.images,
                    self.order[number + 1],
                    job.window,
                    job.view.spacing_mm,
                    () if encodings is None else encodings,
                )
            try:
                self.work.segment(self.images, left, result, encodings, helps)
                self._check(left)
            finally:
                self._embedded(encodings)
                self._send(left)
            steps.ladder.notice()
            device = steps.ladder.footing.device
            made = self.first.finished(*self._looks(left), self._growth(encodings), device)
            if made is not None:
                context.forecasted(made.seconds, made.memory_bytes, device)

    def _looks(self, batch: list[int]) -> tuple[int, int]:
        """Return the looks at the slices of a batch, and those that later batches will take.

        Closer looks are at slices that show the object: in later ones where a registered support does, or else as often
        as in this batch.
        """
        assert self.result is not None
        left = [index for index in self.task.job.slices if not self.result.done[index]]
        closer = list(self.work.closer)
        if not closer:
            return len(batch), len(left)
        shown = (self.result.probability[batch][:, closer].max(axis=(1, 2, 3), initial=0) > THRESHOLD).sum()
        prior = None if self.helps is None else self.helps.prior
        if prior is None:
            expected = round(len(left) * float(shown) / max(1, len(batch)))
        else:
            expected = sum(bool((prior[index, closer] > THRESHOLD).any()) for index in left)
        return len(batch) + int(shown), len(left) + expected

    def _growth(self, encodings: Encodings | None) -> int:
        """Return the bytes that later slices and the end of the run add: probabilities, masks, kept embeddings."""
        assert self.result is not None
        device = self.steps.ladder.footing.device
        left = int((~self.result.done[list(self.task.job.slices)]).sum())
        done = int(self.result.done.sum())
        kept = 0 if encodings is None else left * self.steps.engine.encodings.held(device) // max(1, done)
        if device.startswith("cuda"):
            return kept
        each = self.result.probability[0].nbytes
        return (
            kept + left * each + len(self.result.done) * each
        )  # masks, their copies and those of the file: a byte each

    def follow(self, segmenter: Segmenter) -> SegmentResult:
        """Track with SAM 2's memory, from the slice most like the support; a new footing restarts the tracking."""
        job, context, steps = self.task.job, self.context, self.steps
        alone = isinstance(job.support, AskedObjects) and job.support.by_hand
        if not alone:
            support_of(job.support)  # the slice to begin with is the one most like it
        tracker = Tracker(segmenter, TrackingMode.BANK_ONLY if alone else self.task.mode)
        self.work.plan = plan_for(segmenter, job.support, self._shape, job.view.spacing_mm, TileChoice(OFF))
        self.predictions.clear()
        prepared = None if alone else steps.prepare(segmenter)
        if not (alone or isinstance(prepared, PreparedSupport)):
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
                    prepared if isinstance(prepared, PreparedSupport) else None,
                    job.window,
                    job.view.spacing_mm,
                    job.slices,
                    progress=context.progress,
                    cancel=context.cancel,
                    on_frame=on_frame,
                    encoded=encodings,
                    by_hand=job.by_hand,
                    names=job.support.objects,
                )
        finally:
            self._embedded(encodings)
        result.across_slices = self.task.across_slices
        return result

    def _helps(self, segmenter: Segmenter) -> Helps:
        """Return what is known of the slices; supports are registered once, whatever the ladder does."""
        job, task = self.task.job, self.task
        if self.helps is None:
            depths = _depths(job, task.position and not task.in_time, segmenter)
            prior: npt.NDArray[np.float32] | None = None
            registered: tuple[Registered, ...] = ()
            whole = self.work.plan is not None and self.work.plan.in_whole
            if task.register and whole and job.volumes and not task.in_time:
                prior, registered = self._registered()
            self.helps = Helps(depths=depths, prior=prior)
            names = tuple(job.support.objects[number] for number in self.work.closer)
            self.used = HelpsUsed(position=depths is not None, registered=registered, closer=names)
        return self.helps

    def _registered(self) -> tuple[npt.NDArray[np.float32] | None, tuple[Registered, ...]]:
        """Register the supports; return the prior and the outcome for each support."""
        start = time.perf_counter()
        found = self.steps.engine.priors.of(self.task.job, self.context.progress, self.context.cancel)
        self.steps.seconds["registration"] = time.perf_counter() - start
        self.notes += found.notes
        return found.masks, found.supports

    @property
    def _shape(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def _empty(self) -> SegmentResult:
        return self.steps.empty(len(self.images), self._shape, self.task.across_slices, self.work.plan)

    def _encodings(self, segmenter: Segmenter) -> Encodings | None:
        job = self.task.job
        if not self.task.keep:
            return None
        return self.steps.engine.embedded(segmenter, self.images, job.window, job.view.spacing_mm)

    def _embedded(self, encodings: Encodings | None) -> None:
        """Record which whole slices were embedded; without a store, all of them were."""
        if self.work.plan is not None and not self.work.plan.in_whole:
            return
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
        if done:
            self.work.finished(len(done))


def live(task: LiveTask, engine: ModelStore, context: Context) -> LiveSlice:
    """Carry out a `LiveTask`."""
    job = task.job
    steps = Steps(engine, context, task.model, task.device, job.support, task.most_read, task.surrogate, task.precision)
    images = job.view.take(job.target.array)
    if not 0 <= task.index < len(images):
        raise UsageError(f"the target has no slice {task.index}; its slices are 0 to {len(images) - 1}")
    image = images[task.index : task.index + 1]

    planned = SliceWork(steps, job, TileChoice.of(task.tiles), closer=task.closer)
    shape = (image.shape[1], image.shape[2])

    def work(segmenter: Segmenter) -> SegmentResult:
        ready = planned.begin(segmenter, shape)
        result = steps.empty(1, shape, False, planned.plan)
        if not ready or context.cancel.cancelled:
            result.cancelled = True
            return result
        encodings = engine.embedded(segmenter, image, job.window, job.view.spacing_mm)
        helps = Helps(depths=_depths(job, task.position, segmenter))
        if task.register and job.volumes and planned.plan is not None and planned.plan.in_whole:
            helps = replace(helps, prior=engine.priors.of(job, context.progress, context.cancel).masks)
        planned.segment(image, [0], result, encodings, helps.at([task.index]), first=task.index)
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
    task = point_in_support_plane(task)
    job = task.job
    steps = Steps(engine, context, task.model, task.device, job.support, task.most_read, precision=task.precision)
    images = job.view.take(job.target.array)
    tiled = SliceWork(steps, job, TileChoice.of(task.tiles))

    def work(segmenter: Segmenter) -> Why:
        encoded: EncodedSlices | None = None
        reading: Reading | None = None
        prepared: PreparedSupport | None = None
        if 0 <= task.index < len(images):
            reading = tiled.reading(segmenter, images[task.index], task.row, task.column, task.object_index)
        if reading is None and 0 <= task.index < len(images):
            image = images[task.index : task.index + 1]
            kept = engine.embedded(segmenter, image, job.window, job.view.spacing_mm)
            if 0 not in kept:
                kept[0] = segmenter.encode(image, job.window, job.view.spacing_mm)
            depths = _depths(job, task.position, segmenter)
            encoded = kept[0].at_depths(None if depths is None else depths[[task.index]])
            prepared = engine.prepared(segmenter, support_of(steps.ladder.support))
        point = (task.index, task.row, task.column, task.object_index)
        with segmenter.precision():
            now = _job_with(job, steps)
            return explain(segmenter, now, *point, encoded=encoded, prepared=prepared, reading=reading)

    return steps.run(work)


def _depths(job: Job, wanted: bool, segmenter: Segmenter) -> npt.NDArray[np.float32] | None:
    """Return the position of each slice of the target; None if it is unwanted, unknown, or not read by the model."""
    if not (wanted and segmenter.reads_depth) or any(pair.depth is None for pair in job.support.pairs):
        return None
    return job.depths


def _job_with(job: Job, steps: Steps) -> Job:
    """Return the job with only the pairs that the ladder uses now."""
    pairs = steps.ladder.footing.pairs
    if len(pairs) == len(job.support):
        return job
    return replace(job, support=steps.ladder.support, shown=tuple(job.shown[number] for number in pairs))
