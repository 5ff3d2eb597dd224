"""Runs on sequences: a cine followed in time, or every volume of a 4D series on its own."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.remedies import informing_first
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.worker.events import Event, SliceReady
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.chained import Submit
from ProxyPromptSegmentModule.runs.destinations import SequenceDestination
from ProxyPromptSegmentModule.runs.plan_task import PlanTask
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.run import Run
from ProxyPromptSegmentModule.runs.tasks import CineTask
from ProxyPromptSegmentModule.scene import sequence_reader
from ProxyPromptSegmentModule.scene.modality import modality_of
from ProxyPromptSegmentModule.scene.sequence_reader import Frames
from ProxyPromptSegmentModule.states import ItemKind, RunState
from ProxyPromptSegmentModule.translation import _

READ_SECONDS = 0.015


class SequenceRun(Run):
    """A run on the items of a sequence."""

    def __init__(self, request: Request, submit: Submit) -> None:
        """Prepare to write into a new sequence of the request's browser."""
        assert request.browser is not None  # otherwise it would not be a sequence run
        self._browser = request.browser
        self._sequence = SequenceDestination(request.browser, request.output)
        super().__init__(request, submit, self._sequence)
        self.frames: Frames | None = None

    def ras_of(self, index: int) -> tuple[float, float, float]:
        """Return the centre of the volume, because an item has no position of its own."""
        bounds = [0.0] * 6
        self.request.target.GetRASBounds(bounds)
        r, a, s = ((low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True))
        return r, a, s

    def _steps(self) -> Chain[None]:
        self.state, self.what = RunState.READING, _("Reading the sequence")
        self.frames = frames = yield from self._read()
        self.sentences += frames.notes
        self.state = RunState.RUNNING
        if frames.images is not None:
            yield from self._cine(frames, frames.images)
        else:
            yield from self._volumes(frames)

    def _read(self) -> Chain[Frames]:
        """Copy the items, for a few milliseconds at a time."""
        reading = sequence_reader.reading_frames(self._browser, self.request.target, self.request.items)
        until = time.perf_counter() + READ_SECONDS
        while True:
            try:
                self.done, self.total = next(reading)
            except StopIteration as end:
                frames: Frames = end.value
                return frames
            if time.perf_counter() > until:
                yield None
                until = time.perf_counter() + READ_SECONDS

    def _plan(self, frames: Frames, voxels: npt.NDArray[np.float32], number: int) -> PlanTask:
        request = self.request
        return PlanTask(
            cases=request.cases,
            voxels=voxels,
            geometry=frames.geometries[number],
            name=f"{request.target.GetName()} {frames.values[number]}",
            objects=request.objects,
            slices=request.slices,
            settings=request.settings,
            classes=request.classes,
            modality=modality_of(request.target),
            any_modality=request.any_modality,
        )

    def _cine(self, frames: Frames, images: npt.NDArray[np.float32]) -> Chain[None]:
        """Segment single-slice items: tracked if the model has a memory, else smoothed over neighbouring items."""
        assert frames.view is not None  # single slices have a view
        settings = self.request.settings
        stored = np.empty((*frames.geometries[0].shape_kji, *images.shape[3:]), np.float32)
        frames.view.take(stored)[0] = images[0]
        self.job = job = yield from outcome_of(self._plan(frames, stored, 0))
        self._sequence.open(frames, job.support)
        self.result = result = yield from outcome_of(CineTask(job=job, frames=images, settings=settings))
        self.sentences += [said for said in map(worded, informing_first(result.notes)) if said not in self.sentences]
        if result.cancelled and not self.written:
            return
        mode = TrackingMode.PROXY_AND_BANK if settings.follow else TrackingMode.PROXY_ONLY
        self.take((yield from outcome_of(self._summary(job, result, mode))))

    def _volumes(self, frames: Frames) -> Chain[None]:
        """Segment volumes one by one."""
        found, done = False, 0
        for number, voxels in enumerate(frames.volumes):
            if self._stopping:
                break
            self.job = job = yield from outcome_of(self._plan(frames, voxels, number))
            if self._stopping:  # the job of a plan that was cancelled is not to be carried out
                break
            if number == 0:
                self._sequence.open(frames, job.support)
            self.result = result = yield from outcome_of(self._task(job))
            self._pending.clear()  # an item is written as a whole
            if not result.cancelled:
                masks = [segment.mask for segment in result.segmentation.segments]
                self._pending[number] = np.stack(masks)
                found, done = found or not result.empty, done + 1
                yield None
        self.nothing_found = done > 0 and not found

    def receive(self, event: Event) -> None:
        """Handle an event; slices of a volume are ignored, because items are written as a whole."""
        if isinstance(event, SliceReady) and self.frames is not None and self.frames.kind == ItemKind.VOLUMES:
            return
        super().receive(event)
