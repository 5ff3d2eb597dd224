"""The tiles of the supports, and which of them are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.tiling.grid import TileGrid
from ProxyPromptSegmentLib.support.pairs import SupportSet

MOST_SUPPORT_TILES = 32
"""Largest number of support tiles that are prepared, of all supports together."""

MOST_READ = 4
"""Number of support tiles that a tile of the target reads, more only if there are more objects."""

BACKGROUND = 0.2
"""Share of these that may show none of the objects."""

FARTHER_PAIR = 0.3
"""Distance that two tiles of different supports count as farther apart, as a share of a slice's side."""


@dataclass(frozen=True, eq=False)
class SupportTile:
    """A tile of a support slice; unlike a `SupportPair` it may show none of the objects.

    Attributes:
        image: Intensities as acquired, ``(h, w)`` or ``(h, w, 3)``.
        masks: uint8 ``(N, h, w)``.
        spacing_mm: Pixel size (row, column).
        window: Intensities mapped to 0 and 1, those of the whole case.
        pair: 0-based number of the support pair.
        corner: First row and column of the tile on the pair's slice.
        center: Its centre as a share of the slice's height and width.
        depth: None: tiles do not use the position of their slice along the volume.
    """

    image: npt.NDArray[np.float32]
    masks: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float]
    window: tuple[float, float]
    pair: int
    corner: tuple[int, int]
    center: tuple[float, float]
    depth: float | None = None


def support_tiles(
    support: SupportSet, objects: Sequence[int], magnification: float, most: int = MOST_SUPPORT_TILES
) -> list[SupportTile]:
    """Cut all supports into tiles and return those that are prepared: spread over the slices and the supports.

    Args:
        support: The support set.
        objects: Numbers of the objects whose masks the tiles have.
        magnification: See `TileGrid.of`.
        most: Largest number of tiles. Each object is shown on at least one, whatever the number.
    """
    numbers = list(objects)
    candidates, areas = [], []
    for place, pair in enumerate(support.pairs):
        grid = TileGrid.of((pair.image.shape[0], pair.image.shape[1]), pair.spacing_mm, magnification)
        for tile, center in enumerate(grid.centers()):
            box = grid.box(tile)
            masks = pair.masks[numbers][:, box[0], box[1]]
            areas.append(masks.sum(axis=(1, 2), dtype=np.int64))
            candidates.append(
                SupportTile(
                    image=np.ascontiguousarray(pair.image[box]),
                    masks=np.ascontiguousarray(masks),
                    spacing_mm=pair.spacing_mm,
                    window=pair.window,
                    pair=place,
                    corner=grid.corner(tile),
                    center=(float(center[0]), float(center[1])),
                )
            )
    shown = np.stack(areas)
    where = np.array([(*tile.center, tile.pair) for tile in candidates])
    with_objects, without = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(~shown.any(axis=1))
    background = min(len(without), max(most - len(with_objects), round(BACKGROUND * most)))
    first = list(dict.fromkeys(int(np.argmax(shown[:, number])) for number in range(len(numbers))))
    chosen = _spread(where, with_objects, max(len(first), most - background), first)
    chosen += _spread(where, without, background, [])
    return [candidates[number] for number in sorted(chosen)]


def _spread(where: npt.NDArray[np.float64], among: npt.NDArray[np.intp], count: int, first: Sequence[int]) -> list[int]:
    """Return ``count`` of the candidates, each as far as possible from those before it, beginning with ``first``."""
    chosen = list(first)
    left = [int(number) for number in among if number not in first]
    if len(chosen) + len(left) <= count:
        return [*chosen, *left]
    away = np.full(len(where), np.inf)
    for number in chosen:
        away = np.minimum(away, _distance(where, number))
    while len(chosen) < count:
        best = max(left, key=lambda number: (away[number], -number))
        left.remove(best)
        chosen.append(best)
        away = np.minimum(away, _distance(where, best))
    return chosen


def _distance(where: npt.NDArray[np.float64], number: int) -> npt.NDArray[np.float64]:
    """Return the distance of all candidates ``(row, column, pair)`` from one of them."""
    apart = where - where[number]
    return np.hypot(apart[:, 0], apart[:, 1]) + FARTHER_PAIR * (apart[:, 2] != 0)
