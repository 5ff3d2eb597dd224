"""The layout of the tiles of a slice: equal rectangles that overlap and cover it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

OVERLAP = 0.25
"""Smallest share of a tile's side by which neighbours overlap."""

SMALLEST_TILE = 8
"""Shortest side of a tile in pixels."""

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class TileGrid:
    """Tiles of one size, evenly spaced.

    Attributes:
        shape: Rows and columns of the slice.
        tile: Rows and columns of each tile.
        rows: First row of each row of tiles, ascending.
        columns: First column of each column of tiles, ascending.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, int], spacing_mm: tuple[float, float], magnification: float) -> TileGrid:
        """Lay out tiles that show a slice ``magnification`` times larger than the whole slice is shown.

        The side of a tile in mm is the longer side of the slice, divided by the magnification. A slice that is
        narrower than that has tiles of its own width.

        Args:
            shape: Rows and columns of the slice.
            spacing_mm: Pixel size (row, column).
            magnification: At least 1.
        """
        side_mm = max(pixels * mm for pixels, mm in zip(shape, spacing_mm, strict=True)) / magnification
        sides, starts = [], []
        for pixels, mm in zip(shape, spacing_mm, strict=True):
            side = min(pixels, max(SMALLEST_TILE, round(side_mm / mm)))
            count = 1 + math.ceil((pixels - side) / ((1 - OVERLAP) * side) - 1e-9)
            sides.append(side)
            starts.append(tuple(int(place) for place in np.round(np.linspace(0, pixels - side, count))))
        return cls(shape, (sides[0], sides[1]), starts[0], starts[1])

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.rows) * len(self.columns)

    def corner(self, number: int) -> tuple[int, int]:
        """Return first row and first column of a tile; tiles are numbered row by row."""
        return self.rows[number // len(self.columns)], self.columns[number % len(self.columns)]

    def box(self, number: int) -> tuple[slice, slice]:
        """Return the rows and columns of a tile."""
        (top, left), (height, width) = self.corner(number), self.tile
        return slice(top, top + height), slice(left, left + width)

    def take(self, image: npt.NDArray[T]) -> npt.NDArray[T]:
        """Cut a slice ``(H, W)`` or ``(H, W, 3)`` into tiles, ``(T, h, w)`` or ``(T, h, w, 3)``."""
        return np.stack([image[self.box(number)] for number in range(len(self))])

    def centers(self) -> npt.NDArray[np.float64]:
        """Return the centre of each tile as a share of the slice's height and width, ``(T, 2)``."""
        corners = np.array([self.corner(number) for number in range(len(self))], np.float64)
        return (corners + np.array(self.tile) / 2) / np.array(self.shape)

    def nearest(self, row: float, column: float) -> int:
        """Return the tile whose centre is nearest to a point; whole numbers are pixel centres."""
        away = self.centers() * np.array(self.shape) - np.array([row + 0.5, column + 0.5])
        return int(np.argmin((away**2).sum(axis=1)))

    def ramps(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the weights with which tiles are blended, by row of tiles ``(R, h)`` and by column ``(C, w)``.

        From 0 at a tile's edge they rise smoothly to 1 where the neighbour ends, so that the weights of two neighbours
        sum to 1; at the edge of the slice they are 1.
        """
        return _ramps(self.rows, self.tile[0]), _ramps(self.columns, self.tile[1])


def _ramps(starts: tuple[int, ...], side: int) -> npt.NDArray[np.float32]:
    """Return the weights along one axis, ``(tiles, side)``."""
    weights = np.ones((len(starts), side), np.float32)
    for number in range(len(starts) - 1):
        shared = starts[number] + side - starts[number + 1]
        rise = (np.arange(shared, dtype=np.float32) + 0.5) / shared
        rise = rise * rise * (3 - 2 * rise)
        weights[number + 1, :shared] *= rise
        weights[number, side - shared :] *= rise[::-1]
    return weights
