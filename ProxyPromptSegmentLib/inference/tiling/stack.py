"""Segments the slices of a stack as a plan says: some objects in whole slices, others in tiles, small ones twice."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER, enlarged
from ProxyPromptSegmentLib.inference.closer.look import CloserLook
from ProxyPromptSegmentLib.inference.results import SegmentResult, empty_result
from ProxyPromptSegmentLib.inference.tiling.cut import MOST_READ, support_tiles
from ProxyPromptSegmentLib.inference.tiling.tiler import Tiler, closer_for, plan_for
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pieces import one_piece

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.helps import Helps
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
    from ProxyPromptSegmentLib.inference.tiling.plan import TilePlan
    from ProxyPromptSegmentLib.networks.values import Prepared
    from ProxyPromptSegmentLib.support.pairs import SupportSet

    Encoded = MutableMapping[int, EncodedSlices]


@dataclass(frozen=True, eq=False, kw_only=True)
class Planned:
    """A plan with everything that is prepared for it.

    Attributes:
        segmenter: Model and device.
        plan: What is segmented in tiles.
        whole: The prepared support of whole slices, with all objects; None if nothing is asked of it, see `asks_whole`.
        tiler: Segments the others; None if there are none.
        closer: Looks closer at some of those in whole slices; None if at none.
    """

    segmenter: Segmenter
    plan: TilePlan
    whole: Prepared | None
    tiler: Tiler | None
    closer: CloserLook | None = None

    def segment(
        self,
        images: np.ndarray,
        indices: Sequence[int],
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        result: SegmentResult,
        *,
        cancel: CancelToken | None = None,
        encoded: Encoded | None = None,
        keep: Callable[[np.ndarray], Encoded] | None = None,
        on_tiles: Callable[[int], None] | None = None,
        helps: Helps | None = None,
    ) -> None:
        """Segment some slices into the result; one that was cancelled before its last tile or look stays unfinished.

        Args:
            images: ``(S, H, W)`` or ``(S, H, W, 3)``.
            indices: 0-based indices of the slices.
            window: Intensities mapped to 0 and 1.
            spacing_mm: Pixel size (row, column).
            result: The result of the stack, which is completed.
            cancel: Checked before each batch of slices or tiles.
            encoded: Cached embeddings of whole slices, as in `Segmenter.segment`.
            keep: Cached embeddings of tiles and crops, see `Tiler.segment`.
            on_tiles: See `Tiler.segment`.
            helps: What is known of the slices of ``images``; tiles do not use it.
        """
        segmenter, wanted = self.segmenter, list(indices)
        if self.tiler is None:
            assert self.whole is not None  # some object is segmented
            segmenter.segment(
                images,
                self.whole,
                window,
                spacing_mm,
                wanted,
                cancel=cancel,
                encoded=encoded,
                result=result,
                helps=helps,
            )
            self._look_closer(result, images, wanted, window, spacing_mm, cancel, keep, helps)
            return
        if self.whole is not None and self.plan.in_whole:
            # With all objects, although only some are wanted: a batch of another size would round differently.
            found = segmenter.segment(
                images, self.whole, window, spacing_mm, wanted, cancel=cancel, encoded=encoded, helps=helps
            )
            self._look_closer(found, images, wanted, window, spacing_mm, cancel, keep, helps)
            result.cancelled = result.cancelled or found.cancelled
            wanted = [index for index in wanted if found.done[index]]
            for field in ("probability", "presence", "quality"):
                getattr(result, field)[wanted] = getattr(found, field)[wanted]
            if result.evidence is not None and found.evidence is not None:
                result.evidence[wanted] = found.evidence[wanted]
        elif self.whole is not None:
            self._compare(images, wanted, window, spacing_mm, result, cancel, encoded)
        objects = list(self.plan.in_tiles)
        for index in wanted:
            tiled = self.tiler.segment(images[index], index, window, spacing_mm, cancel, on_tiles, keep)
            if tiled is None:
                result.cancelled = True
                for field in ("probability", "presence", "quality"):
                    getattr(result, field)[index] = 0
                return
            result.probability[index, objects] = tiled.probability
            result.presence[index, objects], result.quality[index, objects] = tiled.presence, tiled.quality
            if result.evidence is not None:
                result.evidence[index, objects, : EVIDENCE.index("distance")] = np.nan
            result.done[index] = True

    def _look_closer(
        self,
        result: SegmentResult,
        images: np.ndarray,
        wanted: list[int],
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        cancel: CancelToken | None,
        keep: Callable[[np.ndarray], Encoded] | None,
        helps: Helps | None,
    ) -> None:
        """Look closer at the finished slices; those without it are unfinished again, as if they had not been begun."""
        if self.closer is None:
            return
        left = [index for index in wanted if result.done[index]]
        try:
            while left:
                if cancel is not None and cancel.cancelled:
                    result.cancelled = True
                    return
                self.closer.into(result, images, left[0], window, spacing_mm, helps, keep)
                del left[0]
        finally:
            for field in ("probability", "presence", "quality", "done"):
                getattr(result, field)[left] = 0

    def _compare(
        self,
        images: np.ndarray,
        wanted: list[int],
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        result: SegmentResult,
        cancel: CancelToken | None,
        encoded: Encoded | None,
    ) -> None:
        """Record how far whole slices are from the supports, so that the user learns if nothing resembles them."""
        if self.whole is None or result.evidence is None:
            return
        for index in wanted:
            if cancel is not None and cancel.cancelled:
                return
            embedded = self.segmenter.embedded(images, [index], window, spacing_mm, encoded)
            distance = self.segmenter.nearest(embedded, self.whole)
            result.evidence[index, :, EVIDENCE.index("distance")] = distance[0]


def asks_whole(segmenter: Segmenter, plan: TilePlan) -> bool:
    """Return whether the support of whole slices is needed: for objects, or to know what resembles it at all."""
    return bool(plan.in_whole) or segmenter.calibration is not None


def segment_stack(
    segmenter: Segmenter,
    images: np.ndarray,
    support: SupportSet,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    choice: TileChoice | None = None,
    slices: Sequence[int] | None = None,
    cancel: CancelToken | None = None,
    helps: Helps | None = None,
    closer: bool = USE_CLOSER,
) -> SegmentResult:
    """Segment a stack as the support demands, without engine and caches; for evaluations on arrays.

    Args:
        segmenter: Model and device.
        images: ``(S, H, W)`` or ``(S, H, W, 3)``.
        support: The support set.
        window: Intensities mapped to 0 and 1; by default of the whole stack.
        spacing_mm: Pixel size (row, column).
        choice: Whether tiles are used; by default the support decides.
        slices: 0-based indices of the slices; all by default.
        cancel: Checked between batches.
        helps: What is known of the slices of ``images`` beside their intensities.
        closer: Whether small structures are looked at closer.

    Returns:
        The predictions; its notes say whether tiles were used.
    """
    shape = (images.shape[1], images.shape[2])
    planned = planned_for(segmenter, support, shape, spacing_mm, choice, closer)
    return segment_planned(planned, images, support, window, spacing_mm, slices, cancel, helps)


def planned_for(
    segmenter: Segmenter,
    support: SupportSet,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    choice: TileChoice | None = None,
    closer: bool = USE_CLOSER,
    before: Planned | None = None,
) -> Planned:
    """Plan and prepare everything that depends on the support and on the size of slices alone.

    Args:
        segmenter: Model and device.
        support: The support set.
        shape: Rows and columns of the slices.
        spacing_mm: Their pixel size (row, column).
        choice: Whether tiles are used; by default the support decides.
        closer: Whether small structures are looked at closer.
        before: What was prepared of the same support for another size; what does not depend on it is taken from there.
    """
    plan = plan_for(segmenter, support, shape, spacing_mm, choice)
    tiler = None
    if plan.in_tiles:
        tiles = support_tiles(support, plan.in_tiles, plan.magnification)
        names = tuple(support.objects[number] for number in plan.in_tiles)
        parts = [
            segmenter.prepare_embedded(tile, names, segmenter.encode(tile.image[None], tile.window, tile.spacing_mm))
            for tile in tiles
        ]
        tiler = Tiler(segmenter, plan, tiles, parts[0].concatenate(parts), MOST_READ)
    whole = None if before is None else before.whole
    if not asks_whole(segmenter, plan):
        whole = None
    elif whole is None:
        whole = segmenter.prepare(support)
    numbers = closer_for(segmenter, support, plan) if closer else ()
    look = None if before is None or before.closer is None or before.closer.objects != numbers else before.closer
    if look is None and numbers:
        look = CloserLook(segmenter, numbers, segmenter.prepare(enlarged(support, numbers)))
    return Planned(segmenter=segmenter, plan=plan, whole=whole, tiler=tiler, closer=look)


def segment_planned(
    planned: Planned,
    images: np.ndarray,
    support: SupportSet,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    slices: Sequence[int] | None = None,
    cancel: CancelToken | None = None,
    helps: Helps | None = None,
) -> SegmentResult:
    """Segment a stack by what `planned_for` prepared of the same support, for slices of this size.

    Arguments and result as of `segment_stack`.
    """
    window, shape = window or intensity_window(images), (images.shape[1], images.shape[2])
    pieces, across = one_piece(support), planned.segmenter.across_slices
    result = empty_result(support.objects, len(images), shape, pieces, across, planned.plan.thin)
    result.notes += planned.plan.notes()
    wanted = list(range(len(images)) if slices is None else slices)
    planned.segment(images, wanted, window, spacing_mm, result, cancel=cancel, helps=helps)
    return result
