"""The undo memory of a run: compact, and enough to undo the run without reverting later edits.

The Segment Editor's history copies every segment completely, about 40 ms and 79 MB for each of 512x512x300 voxels, and
its undo would also revert the user's own strokes. Here each replaced slice is stored as bits, and empty slices, the
majority, as None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import slicer

Place = tuple[str, int]
Plane = npt.NDArray[np.bool_]


@dataclass
class Planes:
    """Slices of segments, stored as bits.

    Attributes:
        bits: Packed voxels by segment id and slice; None for an empty slice.
    """

    shape: tuple[int, int]
    bits: dict[Place, npt.NDArray[np.uint8] | None] = field(default_factory=dict)

    def put(self, place: Place, plane: Plane) -> None:
        """Store a slice."""
        self.bits[place] = np.packbits(plane) if plane.any() else None

    def get(self, place: Place) -> Plane:
        """Return a stored slice; empty if it was not stored."""
        packed = self.bits.get(place)
        if packed is None:
            return np.zeros(self.shape, dtype=bool)
        return np.unpackbits(packed, count=self.shape[0] * self.shape[1]).reshape(self.shape).view(bool)


@dataclass
class Removed:
    """Segments that were removed by undo and are restored by redo.

    Attributes:
        segments: The vtkSegment of each id.
        order: All ids before they were removed.
    """

    segments: dict[str, slicer.vtkSegment]
    order: tuple[str, ...]


class Step:
    """A run as one undo step.

    Attributes:
        created: Segments that the run made.
        before: Replaced slices before their first change by the run.
        written: Those slices as the run wrote them last.
        taken: Voxels that the run took from other segments and still holds.
        after: Replaced slices at the time of undo; empty unless the run is undone.
        removed: Segments removed by undo; None unless the run is undone.
    """

    def __init__(self, shape: tuple[int, int], created: tuple[str, ...]) -> None:
        """Create a step without changes except for the created segments."""
        self.created = created
        self.before, self.written = Planes(shape), Planes(shape)
        self.taken, self.after = Planes(shape), Planes(shape)
        self.removed: Removed | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed."""
        return not self.created and not self.before.bits

    def remember(self, place: Place, plane: Plane) -> None:
        """Store a slice as it was before the run; only the first call for a slice counts."""
        if place not in self.before.bits:
            self.before.put(place, plane)
