"""Segments slices in tiles: each tile of a slice is embedded, prompted by the support tiles it reads, and stitched."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.inference.attribution import Part, Reading
from ProxyPromptSegmentLib.inference.closer.choice import objects_to_enlarge
from ProxyPromptSegmentLib.inference.results import SlicePrediction
from ProxyPromptSegmentLib.inference.tiling.choose import TileChooser
from ProxyPromptSegmentLib.inference.tiling.plan import TilePlan, decide, whole_slices
from ProxyPromptSegmentLib.inference.tiling.stitch import Stitcher
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.asked import Asked, AskedObjects

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
    from ProxyPromptSegmentLib.inference.tiling.cut import SupportTile
    from ProxyPromptSegmentLib.networks.protocols import Backbone
    from ProxyPromptSegmentLib.networks.values import PreparedSupport


def logit_side(backbone: Backbone) -> int:
    """Return the side of the square of logits that a backbone's mask decoder predicts.

    SAM's decoders enlarge the feature grid four times.
    """
    return min(backbone.image_size, 4 * backbone.grid)


def plan_for(
    segmenter: Segmenter,
    support: Asked,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    choice: TileChoice | None = None,
) -> TilePlan:
    """Return what is segmented in tiles with this model; arguments as in `plan.decide`.

    Without a support it is not known how thin an object is, and nothing is segmented in tiles.
    """
    backbone = segmenter.model.backbone
    if isinstance(support, AskedObjects):
        return whole_slices(support.objects, shape, spacing_mm)
    return decide(support, shape, spacing_mm, logit_side(backbone), choice, backbone.keeps_aspect)


def closer_for(segmenter: Segmenter, support: Asked, plan: TilePlan) -> tuple[int, ...]:
    """Return the objects that are looked at closer, see `objects_to_enlarge`; none without a support."""
    if isinstance(support, AskedObjects):
        return ()
    backbone = segmenter.model.backbone
    marked = [(pair.masks, pair.spacing_mm) for pair in support.pairs]
    return objects_to_enlarge(marked, plan.in_whole, logit_side(backbone), backbone.keeps_aspect)


class Tiler:
    """Segments slices of one target in tiles, with prepared support tiles.

    Attributes:
        supports: Number of support tiles.
        read: Number of support tiles that a tile of the target reads.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        plan: TilePlan,
        tiles: Sequence[SupportTile],
        prepared: PreparedSupport,
        most: int,
    ) -> None:
        """Combine a plan with the support tiles.

        Args:
            segmenter: Model and device.
            plan: The plan; its grid is that of the target's slices.
            tiles: The support tiles.
            prepared: The same tiles, prepared in this order for the plan's tiled objects.
            most: Number of support tiles that a target tile reads, unless there are more objects.
        """
        self._segmenter, self._grid, self._prepared, self._tiles = segmenter, plan.grid, prepared, tiles
        self._numbers = plan.in_tiles
        self._chooser = TileChooser(tiles, prepared, most)
        self.supports, self.read = len(tiles), self._chooser.count

    def segment(
        self,
        image: np.ndarray,
        index: int,
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        cancel: CancelToken | None = None,
        on_tiles: Callable[[int], None] | None = None,
        keep: Callable[[np.ndarray], MutableMapping[int, EncodedSlices]] | None = None,
    ) -> SlicePrediction | None:
        """Segment a slice.

        Args:
            image: ``(H, W)`` or ``(H, W, 3)``, intensities as acquired.
            index: Its index in the stack, for the prediction.
            window: Intensities mapped to 0 and 1, those of the whole target.
            spacing_mm: Pixel size (row, column).
            cancel: Checked before each batch of tiles.
            on_tiles: Called with the number of tiles of each finished batch.
            keep: Returns cached embeddings of the slice's tiles by their number; they are reused and completed.

        Returns:
            The prediction for the plan's tiled objects; None if cancelled.
        """
        tiles, places = self._grid.take(image), self._grid.centers()
        cache = None if keep is None else keep(tiles)
        stitcher, start = Stitcher(self._grid, len(self._numbers)), 0
        while start < len(tiles):  # not a range, because the batch may shrink
            if cancel is not None and cancel.cancelled:
                return None
            part = list(range(start, min(len(tiles), start + self._segmenter.batch)))
            encoded = self._segmenter.embedded(tiles, part, window, spacing_mm, cache)
            chosen = self._chooser.choose(encoded.features, places[part])
            for answer in self._segmenter.predict(encoded, self._prepared, chosen, calibrated=False):
                stitcher.add(part[answer.index], answer)
            start += len(part)
            if on_tiles is not None:
                on_tiles(len(part))
        return stitcher.prediction(index)

    def reading(
        self,
        image: np.ndarray,
        row: float,
        column: float,
        object_index: int,
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        keep: Callable[[np.ndarray], MutableMapping[int, EncodedSlices]] | None = None,
    ) -> Reading:
        """Return what the model saw in the tile that shows a point best; arguments as in `segment` and `explain`."""
        number = self._grid.nearest(row, column)
        tiles = self._grid.take(image)
        cache = None if keep is None else keep(tiles)
        encoded = self._segmenter.embedded(tiles, [number], window, spacing_mm, cache)
        chosen = self._chooser.choose(encoded.features, self._grid.centers()[[number]])[0].tolist()
        own = self._numbers.index(object_index)
        parts = tuple(
            Part(pair=tile.pair, corner=tile.corner, mask=tile.masks[own], spacing_mm=tile.spacing_mm)
            for tile in (self._tiles[one] for one in chosen)
        )
        return Reading(
            encoded=encoded,
            corner=self._grid.corner(number),
            shape=self._grid.tile,
            prepared=self._prepared.supports(chosen),
            parts=parts,
            object_index=own,
            whole=False,
        )
