"""Slices as the registration reads them: grey, oriented, in 0..1, on a grid in mm whose first voxel is at 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import SimpleITK as sitk

Floats = npt.NDArray[np.float32]
Triple = tuple[float, float, float]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First index, and the index behind the last one, along slices, rows and columns."""

LEAST_PIXELS, LEAST_SLICES = 4, 1  # a box is never widened by less
_FEWEST = 12  # rows or columns of a box on the target


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of a volume.

    Attributes:
        array: Intensities in 0..1, float32 ``(S, H, W)``.
        spacing: Distance in mm between slices, rows and columns.
        origin: Position of the first voxel in mm, likewise.
        measured: Whether the distances are known; those of a volume without spacing are 1.
    """

    array: Floats
    spacing: Triple
    origin: Triple = (0.0, 0.0, 0.0)
    measured: bool = True

    @property
    def extent(self) -> tuple[float, float, float]:
        """Height, rows and columns in mm."""
        s, h, w = (n * mm for n, mm in zip(self.array.shape, self.spacing, strict=True))
        return s, h, w

    def with_array(self, array: npt.NDArray[Any]) -> Stack:
        """Return other values on the same grid."""
        return Stack(np.asarray(array, np.float32), self.spacing, self.origin, self.measured)

    def crop(self, box: Box) -> Stack:
        """Return the part inside a box."""
        low = [o + b[0] * mm for o, b, mm in zip(self.origin, box, self.spacing, strict=True)]
        return Stack(self.array[slices(box)], self.spacing, (low[0], low[1], low[2]), self.measured)

    def shrink(self, pixel_mm: float, slice_mm: float = 0.0) -> Stack:
        """Average whole blocks of voxels, so that voxels become about as large as asked for.

        Args:
            pixel_mm: Size of a pixel in mm; smaller ones are joined.
            slice_mm: Distance of slices in mm, likewise.
        """
        wanted = (slice_mm, pixel_mm, pixel_mm)
        blocks = [
            max(1, min(round(size / mm), n)) for size, mm, n in zip(wanted, self.spacing, self.array.shape, strict=True)
        ]
        if max(blocks) == 1:
            return self
        a, b, c = (n // block for n, block in zip(self.array.shape, blocks, strict=True))
        whole = self.array[: a * blocks[0], : b * blocks[1], : c * blocks[2]]
        joined = whole.reshape(a, blocks[0], b, blocks[1], c, blocks[2]).mean(axis=(1, 3, 5))
        k, j, i = (mm * block for mm, block in zip(self.spacing, blocks, strict=True))
        z, y, x = (o + (large - mm) / 2 for o, large, mm in zip(self.origin, (k, j, i), self.spacing, strict=True))
        return Stack(joined.astype(np.float32), (k, j, i), (z, y, x), self.measured)

    def index(self, points_mm: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Convert positions in mm, ``(3, ...)``, to fractional indices."""
        column = (3,) + (1,) * (points_mm.ndim - 1)
        return (points_mm - np.reshape(self.origin, column)) / np.reshape(self.spacing, column)

    def image(self) -> sitk.Image:
        """Return the stack as a SimpleITK image, whose axes are columns, rows and slices."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(np.ascontiguousarray(self.array, dtype=np.float32))
        image.SetSpacing(self.spacing[::-1])
        image.SetOrigin(self.origin[::-1])
        return image


def slices(box: Box) -> tuple[slice, slice, slice]:
    """Return a box as an index."""
    a, b, c = (slice(low, high) for low, high in box)
    return a, b, c


def box_of(marked: npt.NDArray[np.bool_], margin: float) -> Box:
    """Return the box around a mask, widened on every side.

    Args:
        marked: The mask, ``(S, H, W)``; not empty.
        margin: Share of the object's own size that is added on every side.
    """
    sides = []
    for axis, least in zip(range(3), (LEAST_SLICES, LEAST_PIXELS, LEAST_PIXELS), strict=True):
        there = np.flatnonzero(marked.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = int(there[0]), int(there[-1]) + 1
        wider = max(least, round(margin * (high - low)))
        sides.append((max(0, low - wider), min(marked.shape[axis], high + wider)))
    return sides[0], sides[1], sides[2]


def box_around(points: npt.NDArray[np.floating], shape: tuple[int, ...]) -> Box:
    """Return the box on a grid that holds some indices ``(3, n)``, clipped to the grid and never very small."""
    sides = []
    for axis, (line, size) in enumerate(zip(points, shape, strict=True)):
        low = int(np.clip(np.floor(line.min()), 0, size - 1))
        high = int(np.clip(np.ceil(line.max()) + 1, low + 1, size))
        if axis > 0 and high - low < _FEWEST:
            low = max(0, min(low, size - _FEWEST))
            high = min(size, low + _FEWEST)
        sides.append((low, high))
    return sides[0], sides[1], sides[2]
