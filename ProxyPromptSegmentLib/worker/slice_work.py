"""Segments slices of a job as its tile plan says, with the engine's caches, and counts what was done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.by_hand.decode import corrected, enter_by_hand, nothing_yet, prediction_of
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.tiling.plan import SEGMENTING, TilePlan, TileUse
from ProxyPromptSegmentLib.inference.tiling.stack import Planned, asks_whole
from ProxyPromptSegmentLib.inference.tiling.tiler import closer_for, plan_for
from ProxyPromptSegmentLib.support.asked import AskedObjects

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.attribution import Reading
    from ProxyPromptSegmentLib.inference.by_hand.prompts import OnSlice
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
        closer: Numbers of the objects that are looked at closer.
    """

    def __init__(
        self, steps: Steps, job: Job, choice: TileChoice, keep: bool = True, closer: bool = USE_CLOSER
    ) -> None:
        """Prepare to segment.

        Args:
            steps: The steps of the task.
            job: The job.
            choice: Whether slices are cut into tiles.
            keep: Whether embeddings of tiles and crops are cached for the next run.
            closer: Whether small structures are looked at closer.
        """
        self._steps, self._job, self._choice, self._keep, self._closer = steps, job, choice, keep, closer
        self.plan: TilePlan | None = None
        self.closer: tuple[int, ...] = ()
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
            self.closer = closer_for(segmenter, self._job.support, self.plan) if self._closer else ()
        self._segmenter = segmenter
        if self._alone:
            return True
        whole = tiler = closer = None
        if asks_whole(segmenter, self.plan) and (whole := self._steps.prepare(segmenter)) is None:
            return False
        if self.plan.in_tiles and (tiler := self._steps.prepare_tiles(segmenter, self.plan)) is None:
            return False
        if self.closer and (closer := self._steps.prepare_closer(segmenter, self.closer)) is None:
            return False
        self._planned = Planned(segmenter=segmenter, plan=self.plan, whole=whole, tiler=tiler, closer=closer)
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
        first: int = 0,
    ) -> None:
        """Segment some slices into the result, and correct those on which something is prompted by hand.

        Args:
            images: The job's slices, or some of them.
            indices: 0-based indices into ``images``.
            result: The result of ``images``.
            encoded: Cached embeddings of whole slices.
            helps: What is known of the slices of ``images`` beside their intensities.
            first: Number of the first of ``images`` among the job's slices.
        """
        if not self._alone:
            self._prompted(images, indices, result, encoded, helps)
        for index in indices:
            said = self._job.by_hand.get(first + index)
            if said is not None or self._alone:
                if self._steps.context.cancel.cancelled:
                    break
                self._by_hand(images, index, result, encoded, helps, said or {})

    @property
    def _alone(self) -> bool:
        """Whether there are prompts by hand alone."""
        asked = self._job.support
        return isinstance(asked, AskedObjects) and asked.by_hand

    def _prompted(
        self,
        images: np.ndarray,
        indices: Sequence[int],
        result: SegmentResult,
        encoded: Encodings | None,
        helps: Helps | None,
    ) -> None:
        """Segment some slices as the supports or classes prompt them."""
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
            for number in self._job.ruled_out:
                result.probability[list(indices), number] = result.presence[list(indices), number] = 0
        finally:
            self._embedded += sum(len(one.fresh) for one in self._tiles)
            self._tiles.clear()

    def _by_hand(
        self,
        images: np.ndarray,
        index: int,
        result: SegmentResult,
        encoded: Encodings | None,
        helps: Helps | None,
        said: OnSlice,
    ) -> None:
        """Correct a slice by what is prompted by hand; a slice that is not segmented yet stays so.

        Raises:
            UsageError: If an object is segmented in tiles.
        """
        segmenter, plan, job = self._segmenter, self.plan, self._job
        assert segmenter is not None and plan is not None  # `begin` comes first
        if not (self._alone or result.done[index]):
            return
        tiled = [number for number in said if number in plan.in_tiles]
        if tiled:
            raise UsageError(
                f"'{job.support.objects[tiled[0]]}' is segmented in tiles, which prompts by hand do not correct; "
                "segment it without tiles, or without these prompts."
            )
        embedded = segmenter.embedded(images, [index], job.window, job.view.spacing_mm, encoded)
        if helps is not None:
            embedded = embedded.at_depths(helps.at([index]).depths)
        objects, shape = len(job.support.objects), (images.shape[1], images.shape[2])
        before, prompt = nothing_yet(index, objects, shape), None
        if not self._alone:
            assert self._planned is not None and self._planned.whole is not None  # what is not in tiles is whole
            before = prediction_of(result, index)
            prompt = segmenter.prompt(embedded, self._planned.whole)
        enter_by_hand(result, corrected(segmenter, embedded, said, before, prompt), said)

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
