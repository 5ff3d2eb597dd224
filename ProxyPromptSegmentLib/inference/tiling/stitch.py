"""Joins the predictions of overlapping tiles to the prediction of a slice, without seams.

Where tiles overlap, their probabilities are averaged with weights that fall to 0 at a tile's edge. A tile's presence
says whether the tile shows an object at all. It damps the tile's inside alone: a piece of an object in the margin of
one tile is judged by the neighbour that shows more of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.results import SlicePrediction
from ProxyPromptSegmentLib.inference.tiling.grid import TileGrid

Floats = npt.NDArray[np.float32]


class Stitcher:
    """The sums over the tiles of one slice."""

    def __init__(self, grid: TileGrid, objects: int) -> None:
        """Begin without tiles.

        Args:
            grid: The tiles of the slice.
            objects: Number of objects ``N``.
        """
        self._grid = grid
        self._rows, self._columns = grid.ramps()
        self._weight: Floats = np.zeros(grid.shape, np.float32)
        self._probability: Floats = np.zeros((objects, *grid.shape), np.float32)
        self._gate: Floats = np.zeros((objects, *grid.shape), np.float32)
        self._presence: Floats = np.zeros(objects, np.float32)
        self._drawn: npt.NDArray[np.float64] = np.zeros(objects)
        self._quality: npt.NDArray[np.float64] = np.zeros(objects)

    def add(self, number: int, tile: SlicePrediction) -> None:
        """Add the prediction of a tile; each tile once, in any order."""
        box = self._grid.box(number)
        rows, columns = divmod(number, len(self._grid.columns))
        down, across = self._rows[rows][:, None], self._columns[columns][None]
        weight, inside = down * across, np.minimum(1, 2 * down) * np.minimum(1, 2 * across)
        presence = np.asarray(tile.presence, np.float32)
        self._weight[box] += weight
        self._probability[(slice(None), *box)] += weight * tile.probability
        gate = self._gate[(slice(None), *box)]
        np.maximum(gate, presence[:, None, None] * inside, out=gate)
        self._presence = np.maximum(self._presence, presence)
        # A tile counts by what it draws: an empty tile says little about the quality of the slice's mask.
        drawn = (weight * tile.probability).sum(axis=(1, 2), dtype=np.float64) * presence + 1e-9
        self._drawn += drawn
        self._quality += drawn * tile.quality

    def prediction(self, index: int) -> SlicePrediction:
        """Return the prediction of the slice.

        Its presence is the highest of a tile. Probability times presence, by which masks are drawn, is the average of
        the tiles' probabilities, damped where no tile that shows the place has found the object.

        Args:
            index: Index of the slice in the stack.
        """
        most = np.maximum(self._presence, 1e-6)[:, None, None]
        return SlicePrediction(
            index=index,
            probability=self._probability / self._weight * np.minimum(self._gate / most, 1),
            presence=self._presence,
            quality=(self._quality / self._drawn).astype(np.float32),
        )
