"""The steps that all tasks share: open a model, prepare the support, step down the memory ladder, measure times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ProxyPromptSegmentLib.inference.closer.choice import enlarged
from ProxyPromptSegmentLib.inference.closer.look import CloserLook
from ProxyPromptSegmentLib.inference.results import SINGLE_TYPE, SegmentResult, empty_result
from ProxyPromptSegmentLib.inference.tiling.cut import MOST_READ, MOST_SUPPORT_TILES, support_tiles
from ProxyPromptSegmentLib.inference.tiling.plan import PREPARING
from ProxyPromptSegmentLib.inference.tiling.tiler import Tiler
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind, Severity
from ProxyPromptSegmentLib.support.asked import Asked, AskedObjects, support_of
from ProxyPromptSegmentLib.support.pieces import one_piece
from ProxyPromptSegmentLib.worker.memory_ladder import Ladder, Unusable
from ProxyPromptSegmentLib.worker.precision import AUTO

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.calibration import Calibration
    from ProxyPromptSegmentLib.inference.results import ModelFacts
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.tiling.plan import TilePlan
    from ProxyPromptSegmentLib.networks.values import Prepared
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.model_store import ModelStore

T = TypeVar("T")


class Steps:
    """The steps of one task."""

    def __init__(
        self,
        engine: ModelStore,
        context: Context,
        model: str,
        device: str,
        support: Asked,
        most_read: int | None = None,
        surrogate: bool = False,
        precision: str = AUTO,
    ) -> None:
        self.engine, self.context, self.model, self.full = engine, context, model, support
        self.ladder: Ladder = engine.ladder(model, device, support, context.say, most_read, surrogate, precision)
        self.most_read = most_read
        self.seconds = {"model": 0.0, "support": 0.0, "segmentation": 0.0}
        self._whole = support.one_piece if isinstance(support, AskedObjects) else one_piece(support)
        self._loading = not engine.is_loaded(model, self.ladder.footing.device)
        if self._loading:
            context.progress.start(1, "loading the model")

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of the weights; None before the model is opened or if there is none."""
        return None if self.ladder.segmenter is None else self.ladder.segmenter.calibration

    @property
    def precision(self) -> str:
        """The type in which products are computed, such as ``float32`` or ``bfloat16``."""
        half = None if self.ladder.segmenter is None else self.ladder.segmenter.half
        return SINGLE_TYPE if half is None else str(half).removeprefix("torch.")

    def choice_notes(self, unit: str = "slice") -> list[Note]:
        """Return a note if each slice (or frame) reads only some of the supports."""
        given, objects = len(self.ladder.footing.pairs), len(self.full.objects)
        if self.most_read is None or given <= (read := max(self.most_read, objects)):
            return []
        text = f"Each {unit} is prompted by those {read} of the {given} support slices that are most like it."
        return [Note(text, Remedy(kind=RemedyKind.READ_ALL), Severity.INFORMATION)]

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

    def prepare(self, segmenter: Segmenter) -> Prepared | None:
        """Prepare the pairs that the ladder uses now, or the classes that are asked for; return None if cancelled."""
        if isinstance(self.full, AskedObjects):
            return segmenter.prepare_classes(self.full)
        start = time.perf_counter()
        try:
            prepared = self.engine.prepared(
                segmenter, support_of(self.ladder.support), self.context.cancel, self.context.progress
            )
        finally:
            self.seconds["support"] += time.perf_counter() - start
        # Even with fewer pairs, all of the user's pairs decide whether small parts are removed.
        return None if prepared is None else replace(prepared, one_piece=self._whole)

    def prepare_tiles(self, segmenter: Segmenter, plan: TilePlan) -> Tiler | None:
        """Prepare tiles of the pairs that the ladder uses now; return None if cancelled.

        With fewer pairs, fewer tiles are prepared and read, so that they need less memory.
        """
        share = len(self.ladder.support) / len(self.full)
        tiles = support_tiles(
            support_of(self.ladder.support),
            plan.in_tiles,
            plan.magnification,
            max(1, round(share * MOST_SUPPORT_TILES)),
        )
        names = tuple(self.full.objects[number] for number in plan.in_tiles)
        start = time.perf_counter()
        try:
            prepared = self.engine.prepared_parts(
                segmenter, tiles, names, self.context.cancel, self.context.progress, PREPARING
            )
        finally:
            self.seconds["support"] += time.perf_counter() - start
        if prepared is None:
            return None
        return Tiler(segmenter, plan, tiles, prepared, max(1, round(share * MOST_READ)))

    def prepare_closer(self, segmenter: Segmenter, objects: tuple[int, ...]) -> CloserLook | None:
        """Prepare the pairs that the ladder uses now, enlarged around some objects; return None if cancelled."""
        start = time.perf_counter()
        support = enlarged(support_of(self.ladder.support), objects)
        try:
            prepared = self.engine.prepared(segmenter, support, self.context.cancel, self.context.progress)
        finally:
            self.seconds["support"] += time.perf_counter() - start
        return None if prepared is None else CloserLook(segmenter, objects, prepared)

    def empty(
        self, count: int, shape: tuple[int, int], across_slices: bool, plan: TilePlan | None = None
    ) -> SegmentResult:
        """Return a result of ``count`` slices of ``shape``, none of them segmented."""
        thin = () if plan is None else plan.thin
        return empty_result(self.full.objects, count, shape, self._whole, across_slices, thin)

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
