"""Positions of a network's features on a slice, as tiles of pixels, in the oriented and in the stored slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.imaging.geometry import AXES, SliceView
from ProxyPromptSegmentLib.networks.letterbox import Letterbox

Box = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels; rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """The feature positions of a letterbox as tiles of the slice, without those in the padding.

    Attributes:
        letterbox: Position of the slice in the network's square.
        rows: Edges of the ``h`` rows of tiles in pixels of the slice, 0 to ``H``; float ``(h + 1,)``.
        columns: Edges of the ``w`` columns likewise, 0 to ``W``; float ``(w + 1,)``.
    """

    letterbox: Letterbox
    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, letterbox: Letterbox, grid: int) -> Tiles:
        """Create the tiles of a grid of features; the last ones are cut where the padding begins."""
        stride = letterbox.size / grid
        edges = []
        for valid, pixels in zip(letterbox.valid, letterbox.shape, strict=True):
            count = int(np.ceil(valid / stride))  # the same count as `valid_tokens`
            edges.append(np.minimum(np.arange(count + 1) * stride, valid) * pixels / valid)
        return cls(letterbox, edges[0], edges[1])

    def at(self, row: float, column: float) -> tuple[int, int]:
        """Return row and column of the tile that contains a point; whole numbers are pixel centres."""
        found = [
            int(np.clip(np.searchsorted(edges, place + 0.5, side="right") - 1, 0, len(edges) - 2))
            for edges, place in ((self.rows, row), (self.columns, column))
        ]
        return found[0], found[1]

    def shares(self, token: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels' shares in rows and columns of tiles, ``(h, H)`` and ``(w, W)``; each line sums to 1.

        Args:
            token: Restrict the result to this tile, ``(H,)`` and ``(W,)``.
        """
        answer = []
        for number, edges in enumerate((self.rows, self.columns)):
            low, high = edges[:-1, None], edges[1:, None]
            if token is not None:
                low, high = low[token[number]], high[token[number]]
            pixels = np.arange(self.letterbox.shape[number])
            answer.append(np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0.0, None) / (high - low))
        return answer[0], answer[1]

    def spread(self, weights: np.ndarray) -> np.ndarray:
        """Spread weights ``(g, g)`` over the pixels of their tiles; return float32 ``(H, W)`` of the same sum."""
        rows, columns = self.shares()
        return (rows.T @ weights[: len(rows), : len(columns)] @ columns).astype(np.float32)

    def covered(self, token: tuple[int, int], mask: np.ndarray) -> float:
        """Return the share of a tile that a mask ``(H, W)`` covers, 0..1."""
        rows, columns = self.shares(token)
        return float(rows.reshape(-1) @ mask @ columns.reshape(-1))

    def box(self, token: tuple[int, int]) -> Box:
        """Return the pixels whose centres lie in a tile; at least one."""
        found = []
        for number, edges in enumerate((self.rows, self.columns)):
            low, high = edges[token[number]], edges[token[number] + 1]
            first, end = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5))
            if end <= first:  # a tile smaller than a pixel
                first = min(int((low + high) / 2), self.letterbox.shape[number] - 1)
                end = first + 1
            found.append((first, end))
        (top, bottom), (left, right) = found
        return top, left, bottom, right

    def center(self, token: tuple[int, int]) -> tuple[float, float]:
        """Return row and column of a tile's centre; whole numbers are pixel centres."""
        row, column = (
            float((edges[number] + edges[number + 1]) / 2 - 0.5)
            for edges, number in zip((self.rows, self.columns), token, strict=True)
        )
        return row, column

    def size_mm(self, token: tuple[int, int]) -> tuple[float, float]:
        """Return height and width of a tile in mm."""
        height, width = (
            float((edges[number + 1] - edges[number]) * mm)
            for edges, number, mm in zip((self.rows, self.columns), token, self.letterbox.spacing_mm, strict=True)
        )
        return height, width


def stored_box(box: Box, shape: tuple[int, int], view: SliceView) -> Box:
    """Convert a box of an oriented slice to the slice as stored.

    Args:
        box: Box on the oriented slice.
        shape: Rows and columns of the oriented slice.
        view: The orientation of the slice.
    """
    top, left, bottom, right = box
    if view.flip_rows:
        top, bottom = shape[0] - bottom, shape[0] - top
    if view.flip_columns:
        left, right = shape[1] - right, shape[1] - left
    return (left, top, right, bottom) if view.transpose else (top, left, bottom, right)


def index_ijk(
    point: tuple[float, float], shape: tuple[int, int], view: SliceView, index: int | None
) -> tuple[float, float, float] | None:
    """Convert a point of an oriented slice to the index ``(i, j, k)`` in the volume, with fractions.

    Args:
        point: Row and column; whole numbers are pixel centres.
        shape: Rows and columns of the oriented slice.
        view: The orientation of the slice.
        index: Index of the slice along ``view.axis``; None returns None.
    """
    if index is None:
        return None
    row = shape[0] - 1 - point[0] if view.flip_rows else point[0]
    column = shape[1] - 1 - point[1] if view.flip_columns else point[1]
    in_slice = [column, row] if view.transpose else [row, column]
    in_slice.insert(AXES.index(view.axis), float(index))
    return in_slice[2], in_slice[1], in_slice[0]
