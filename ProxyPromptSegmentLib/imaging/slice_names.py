"""Names of slices: the 0-based index and the position in mm, as Slicer's slice views show it.

Slicer's slice offset is the signed distance of the slice plane from the RAS origin along the plane's normal. It grows
towards S in axial views, towards A in coronal views and towards L in sagittal views. Along an oblique normal it belongs
to the nearest of these directions; a view shows it if it is rotated to the volume plane.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, axis_number
from ProxyPromptSegmentLib.wording import consecutive_ranges

_DIRECTIONS = ("L", "A", "S")
_IN_LPS = np.array([1.0, -1.0, 1.0])  # L, A and S along the axes of LPS
_MOST_RANGES = 6


@dataclass(frozen=True)
class SliceNames:
    """Names of the slices of one volume along one axis.

    Attributes:
        direction: ``L``, ``A`` or ``S``: the anatomical direction nearest to the slice normal, in which the offset
            grows; empty if the volume has no position in the body.
        first_mm: Slice offset of slice 0 in mm.
        step_mm: Change of the offset from one slice to the next in mm; negative if indices run towards R, P or I.
    """

    direction: str = ""
    first_mm: float = 0.0
    step_mm: float = 1.0

    @classmethod
    def of(cls, geometry: VolumeGeometry | None, axis: str) -> SliceNames:
        """Return the names for a volume.

        Args:
            geometry: The voxel grid; None for pictures, which have no position.
            axis: Slicing axis.

        Raises:
            GeometryError: If the axis is not one of k, j and i.
        """
        number = 2 - axis_number(axis)
        if geometry is None:
            return cls()
        normal = geometry.direction[:, number]
        nearest = int(np.argmax(np.abs(normal)))
        sign = 1.0 if normal[nearest] * _IN_LPS[nearest] > 0 else -1.0
        first = sign * float(normal @ np.asarray(geometry.origin_lps))
        return cls(_DIRECTIONS[nearest], first, sign * geometry.spacing_mm[number])

    def offset_mm(self, index: int) -> float:
        """Return the slice offset of a slice in mm."""
        return self.first_mm + index * self.step_mm

    def position(self, index: int) -> str:
        """Return the position of a slice, e.g. ``S 34.5 mm``; empty if there is none."""
        return f"{self.direction} {self._number(index)} mm" if self.direction else ""

    def name(self, index: int) -> str:
        """Return the name of a slice: ``slice 12 (S 34.5 mm)``, or ``slice 12`` without a position."""
        return f"slice {self.short(index)}"

    def short(self, index: int) -> str:
        """Return the name without the word: ``12 (S 34.5 mm)``."""
        return f"{index} ({self.position(index)})" if self.direction else f"{index}"

    def names(self, indices: Iterable[int]) -> str:
        """Return the names of several slices: ``slices 3-5 (S 10.5 to 16.5 mm), 9 (S 28.5 mm)``."""
        runs = consecutive_ranges(indices)
        if len(runs) == 1 and runs[0][0] == runs[0][1]:
            return self.name(runs[0][0])
        parts = [self._range(first, last) for first, last in runs[:_MOST_RANGES]]
        return f"slices {', '.join(parts)}{' and more' if len(runs) > _MOST_RANGES else ''}"

    def _range(self, first: int, last: int) -> str:
        if first == last:
            return self.short(first)
        if not self.direction:
            return f"{first}-{last}"
        return f"{first}-{last} ({self.direction} {self._number(first)} to {self._number(last)} mm)"

    def _number(self, index: int) -> str:
        step = abs(self.step_mm)
        digits = 1 if step >= 0.2 else 2 if step >= 0.02 else 3  # neighbours have different names
        text = f"{self.offset_mm(index):.{digits}f}"
        return text.lstrip("-") if not text.strip("-0.") else text
