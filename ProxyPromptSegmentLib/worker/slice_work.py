"""Segments slices of a job as its tile plan says, with the engine's caches, and counts what was done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.inference.tiling.plan import SEGMENTING, TilePlan, TileUse
from ProxyPromptSegmentLib.inference.tiling.stack import Planned, asks_whole
from ProxyPromptSegmentLib.inference.tiling.tiler import plan_for

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.attribution import Reading
    from ProxyPromptSegmentLib.inference.helps import Helps
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.results import SegmentResult
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
    from ProxyPromptSegmentLib.worker.encodings import Encodings
    from ProxyPromptSegmentLib.worker.steps import Steps


class SliceWork:
    """The segmenting of slices of one job; begun anew on every footing of the memory ladder.

    Attributes:
        plan: What is segmented in tiles; None before the model is known.
    """

    def __init__(self, steps: Steps, job: Job, choice: TileChoice, keep: bool = True) -> None:
        """Prepare to segment; ``keep`` says whether embeddings of tiles are cached for the next run."""
        self._steps, self._job, self._choice, self._keep = steps, job, choice, keep
        self.plan: TilePlan | None = None
        self._planned: Planned | None = None
        self._segmenter: Segmenter | None = None
        self._tiles: list[Encodings] = []
        self._embedded = 0
        self._done = self._here = self._counted = 0

    def begin(self, segmenter: Segmenter, shape: tuple[int, int]) -> bool:
        """Decide on tiles and prepare the support; return False if cancelled.

        Args:
            segmenter: The segmenter of this footing.
            shape: Rows and columns of a slice.
        """
        if self.plan is None:
            self.plan = plan_for(segmenter, self._job.support, shape, self._job.view.spacing_mm, self._choice)
        whole = tiler = None
        if asks_whole(segmenter, self.plan) and (whole := self._steps.prepare(segmenter)) is None:
            return False
        if self.plan.in_tiles and (tiler := self._steps.prepare_tiles(segmenter, self.plan)) is None:
            return False
        self._segmenter = segmenter
        self._planned = Planned(segmenter=segmenter, plan=self.plan, whole=whole, tiler=tiler)
        return True

    def reading(
        self, segmenter: Segmenter, image: np.ndarray, row: float, column: float, object_index: int
    ) -> Reading | None:
        """Return what the model saw of a point in its tile; None if the object is not segmented in tiles.

        Args:
            segmenter: The segmenter of this footing.
            image: The slice.
            row: Row of the point; whole numbers are pixel centres.
            column: Column likewise.
            object_index: 0-based number of the object.
        """
        self._segmenter = segmenter
        window, spacing_mm = self._job.window, self._job.view.spacing_mm
        shape = (image.shape[0], image.shape[1])
        plan = plan_for(segmenter, self._job.support, shape, spacing_mm, self._choice)
        if object_index not in plan.in_tiles or (tiler := self._steps.prepare_tiles(segmenter, plan)) is None:
            return None
        return tiler.reading(image, row, column, object_index, window, spacing_mm, self._cached)

    @property
    def use(self) -> TileUse | None:
        """How tiles were used so far; None without tiles."""
        tiler = None if self._planned is None else self._planned.tiler
        if tiler is None or self.plan is None:
            return None
        return TileUse(self.plan, tiler.supports, tiler.read, self._embedded)

    def start(self, slices: int) -> None:
        """Begin the stage of progress, again after a step of the ladder; its steps are tiles if any, else slices."""
        assert self.plan is not None  # `begin` comes first
        self._counted = 0
        tiles = self.plan.tiles
        self._steps.context.progress.start(slices * (tiles or 1), SEGMENTING if tiles else "segmenting")
        self._reach(self._done * (tiles or 1))

    def segment(
        self,
        images: np.ndarray,
        indices: Sequence[int],
        result: SegmentResult,
        encoded: Encodings | None,
        helps: Helps | None = None,
    ) -> None:
        """Segment some slices into the result.

        Args:
            images: The job's slices, or some of them.
            indices: 0-based indices into ``images``.
            result: The result of ``images``.
            encoded: Cached embeddings of whole slices.
            helps: What is known of the slices of ``images`` beside their intensities.
        """
        assert self._planned is not None  # `begin` comes first
        self._here = 0
        try:
            self._planned.segment(
                images,
                indices,
                self._job.window,
                self._job.view.spacing_mm,
                result,
                cancel=self._steps.context.cancel,
                encoded=encoded,
                keep=self._cached if self._keep else None,
                on_tiles=self._on_tiles,
                helps=helps,
            )
        finally:
            self._embedded += sum(len(one.fresh) for one in self._tiles)
            self._tiles.clear()

    def finished(self, slices: int) -> None:
        """Count finished slices."""
        assert self.plan is not None  # `begin` comes first
        self._done, self._here = self._done + slices, 0
        self._reach(self._done * (self.plan.tiles or 1))

    def _cached(self, tiles: np.ndarray) -> Encodings:
        assert self._segmenter is not None  # `begin` comes first
        window, spacing_mm = self._job.window, self._job.view.spacing_mm
        self._tiles.append(self._steps.engine.embedded(self._segmenter, tiles, window, spacing_mm))
        return self._tiles[-1]

    def _on_tiles(self, count: int) -> None:
        """Count tiles of the slice in progress; those that are computed again on another footing count once."""
        assert self.plan is not None  # `begin` comes first
        self._here += count
        self._embedded += 0 if self._keep else count
        self._reach(self._done * self.plan.tiles + self._here)

    def _reach(self, steps: int) -> None:
        if steps > self._counted:
            self._steps.context.progress.step(steps - self._counted)
            self._counted = steps
