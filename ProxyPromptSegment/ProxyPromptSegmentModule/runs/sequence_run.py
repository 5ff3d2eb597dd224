"""Runs on sequences: a cine followed in time, or every volume of a 4D series on its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentModule.runs.destinations import in_scene
from ProxyPromptSegmentModule.runs.request import Output, Request
from ProxyPromptSegmentModule.runs.run import Chain, Run
from ProxyPromptSegmentModule.runs.tasks import CineTask, PlanTask
from ProxyPromptSegmentModule.scene import sequence_reader, sequence_writer
from ProxyPromptSegmentModule.translation import _

READ_SECONDS = 0.015


class SequenceSink:
    """A sequence of segmentations beside the image's, in the same browser.

    Attributes:
        segmentation: The proxy node, which shows the selected item.
        segment_ids: Segment of each object.
        notes: Nothing so far.
    """

    def __init__(self, browser: Any, target: Any, output: Output) -> None:
        """Nothing is made before `open`."""
        self.segmentation: Any = None
        self.segment_ids: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self._browser, self._target, self._output = browser, target, output
        self._writer: sequence_writer.SegmentationSequenceWriter | None = None
        self._items: tuple[int, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the nodes are still in the scene."""
        return in_scene(self._browser) and (self._writer is None or self._writer.usable)

    def open(self, frames: Any, support: Any) -> None:
        """Makes the sequence and its proxy node."""
        self._writer = sequence_writer.SegmentationSequenceWriter(
            self._browser, frames, support.objects, support.colors, support.terminologies, self._output.name
        )
        self._items = frames.items
        self.segmentation, self.segment_ids = self._writer.proxy, dict(self._writer.segment_ids)

    def write(self, slices: list[tuple[int, Any]]) -> None:
        """Writes frames by their place among the frames that were read."""
        assert self._writer is not None
        for place, masks in slices:
            self._writer.write(self._items[place], masks)

    def finish(self) -> None:
        """From now on corrections are kept in the sequence."""
        if self._writer is not None:
            self._writer.finish()

    def untouched(self) -> dict[str, str]:
        """A sequence is always written anew."""
        return {}

    def undo(self) -> bool:
        """Removes what was made."""
        return self._writer is not None and self._writer.undo()

    def redo(self) -> bool:
        """Not possible: the sequence is gone."""
        return False

    def close(self) -> None:
        """Lets go of the nodes."""
        self._writer = None


class SequenceRun(Run):
    """A run on the items of a sequence."""

    def __init__(self, request: Request, submit: Callable[[Any, str], Any]) -> None:
        """Writes into a new sequence of the request's browser."""
        super().__init__(request, submit, SequenceSink(request.browser, request.target, request.output))
        self.frames: Any = None

    def ras_of(self, index: int) -> tuple[float, float, float]:
        """The middle of the volume: an item has no place of its own."""
        bounds = [0.0] * 6
        self.request.target.GetRASBounds(bounds)
        return tuple((low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True))  # type: ignore[return-value]

    def _steps(self) -> Chain:
        self.state, self.what = "reading", _("Reading the sequence")
        self.frames = yield from self._read()
        self.sentences += self.frames.notes
        self.state = "running"
        if self.frames.kind == sequence_reader.SLICES:
            yield from self._cine()
        else:
            yield from self._volumes()

    def _read(self) -> Generator[Any, Any, Any]:
        """Copies the items, a few milliseconds at a time."""
        reading = sequence_reader.reading_frames(self.request.browser, self.request.target, self.request.items)
        until = time.perf_counter() + READ_SECONDS
        while True:
            try:
                self.done, self.total = next(reading)
            except StopIteration as end:
                return end.value
            if time.perf_counter() > until:
                yield None
                until = time.perf_counter() + READ_SECONDS

    def _plan(self, voxels: np.ndarray, number: int) -> PlanTask:
        request = self.request
        name = f"{request.target.GetName()} {self.frames.values[number]}"
        geometry = self.frames.geometries[number]
        return PlanTask(request.cases, voxels, geometry, name, request.objects, request.slices, request.settings)

    def _cine(self) -> Chain:
        """Single-slice items: followed in time where the model can, else each judged with its neighbours."""
        frames, settings = self.frames, self.request.settings
        stored = np.empty((*frames.geometries[0].shape_kji, *frames.images.shape[3:]), np.float32)
        frames.view.take(stored)[0] = frames.images[0]
        self.job = yield self._plan(stored, 0)
        self.sink.open(frames, self.job.support)
        self.result = yield CineTask(self.job, frames.images, settings)
        self.sentences += [note for note in self.result.notes if note not in self.sentences]
        self.take((yield self._summary(TrackingMode.PROXY_AND_BANK if settings.follow else TrackingMode.PROXY_ONLY)))

    def _volumes(self) -> Chain:
        """Volumes: each segmented on its own."""
        for number, voxels in enumerate(self.frames.volumes):
            if self._stopping:
                break
            self.job = yield self._plan(voxels, number)
            if number == 0:
                self.sink.open(self.frames, self.job.support)
            self.result = yield self._task()
            self._pending.clear()  # slices of an item are written together, as one item
            if not self.result.cancelled:
                masks = [segment.mask for segment in self.result.outcome.segmentation.segments]
                self._pending[number] = np.stack(masks)
                yield None

    def receive(self, event: Any) -> None:
        """Slices of a volume are not items, so they wait for the whole."""
        from ProxyPromptSegmentLib.worker.events import SliceReady

        if isinstance(event, SliceReady) and self.frames is not None and self.frames.kind == sequence_reader.VOLUMES:
            return
        super().receive(event)
