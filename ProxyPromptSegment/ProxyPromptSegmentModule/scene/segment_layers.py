"""The labelmaps of a segmentation as layers on a volume's lattice; looked up each time, as VTK may replace them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.nodes import BINARY_LABELMAP

if TYPE_CHECKING:
    import slicer

    State = tuple[object, ...]

Plane = npt.NDArray[np.bool_]


class Layers:
    """A segmentation's labelmaps on a volume's lattice.

    Labelmaps are looked up after every change: the Segment Editor crops them, undo replaces them, and saving may merge
    several segments into one.

    Attributes:
        shape: The volume's ``(K, J, I)``.
        axis: The array axis (0, 1, 2) across the slices.
        touched: Labelmaps that were written into since the last `announce`.
    """

    def __init__(
        self,
        segmentation: slicer.vtkSegmentation,
        matrix: lattices.Matrix,
        shape: tuple[int, int, int],
        axis: int,
        home: lattices.Matrix,
    ) -> None:
        """Store the arguments; nothing is read yet.

        Args:
            segmentation: A vtkSegmentation with labelmaps as its source representation.
            matrix: Matrix from the volume's voxels to the segmentation's mm.
            shape: The volume's ``(K, J, I)``.
            axis: The array axis across the slices.
            home: The lattice of new labelmaps: matrix from their voxels to the segmentation's mm.
        """
        self._segmentation, self._matrix, self._home = segmentation, matrix, home
        self.shape, self.axis = shape, axis
        self.touched: list[slicer.vtkOrientedImageData] = []
        self._seen: dict[slicer.vtkOrientedImageData, tuple[State, lattices.Seen]] = {}

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the current segments."""
        return tuple(self._segmentation.GetSegmentIDs())

    def has(self, segment_id: str) -> bool:
        """Return whether the segment still exists."""
        return self._segmentation.GetSegment(segment_id) is not None

    def is_empty(self, segment_id: str) -> bool:
        """Return whether the segment has no voxels at all."""
        return self._look(segment_id) is None

    def read(self, segment_id: str, index: int) -> Plane:
        """Return a slice of a segment, True inside, with the volume's axes."""
        found = self._look(segment_id)
        if found is None:
            return np.zeros([n for m, n in enumerate(self.shape) if m != self.axis], dtype=bool)
        return found[0].read(self.axis, index, found[1])

    def write(self, segment_id: str, index: int, plane: npt.NDArray[np.bool_]) -> None:
        """Replace a slice of a segment; the segment first gets its own layer over the whole volume if needed."""
        seen, label = self._own(segment_id)
        view, _ = self._plane(seen, index)
        np.multiply(plane, label, out=view, casting="unsafe")
        self._touch(segment_id)

    def erase(self, segment_id: str, index: int, plane: Plane) -> None:
        """Remove voxels of a slice from a segment; other segments of its layer do not change."""
        found = self._look(segment_id)
        part = found and found[0].plane(self.axis, index)
        if found and part:
            view, where = part
            view[plane[where] & (view == found[1])] = 0
            self._touch(segment_id)

    def give(self, segment_id: str, index: int, plane: Plane) -> None:
        """Add voxels of a slice to a segment, except where another segment of its layer is."""
        if not plane.any():
            return
        seen, label = self._whole(segment_id)
        view, _ = self._plane(seen, index)
        view[plane & (view == 0)] = label
        self._touch(segment_id)

    def announce(self) -> None:
        """Notify observers of the segmentation once for all changed labelmaps; outdated surfaces are removed."""
        if not self.touched:
            return
        for labelmap in self.touched:
            labelmap.GetPointData().GetScalars().Modified()  # newer, without an event for each
        self.touched[-1].Modified()
        self.touched = []
        there = [self._labelmap(one) for one in self.ids()]
        self._seen = {labelmap: known for labelmap, known in self._seen.items() if labelmap in there}

    def forget(self) -> None:
        """Release all labelmaps."""
        self._seen, self.touched = {}, []

    def sharers(self, segment_id: str) -> list[str]:
        """Return the other segments in the same labelmap."""
        labelmap = self._labelmap(segment_id)
        others = (one for one in self.ids() if one != segment_id)
        return [one for one in others if labelmap is not None and self._labelmap(one) is labelmap]

    def prepare(self, segment_ids: Iterable[str]) -> None:
        """Give each segment its own layer before the first slice."""
        for segment_id in segment_ids:
            self._own(segment_id)

    # --- inside ---------------------------------------------------------------------------------------------

    def _labelmap(self, segment_id: str) -> slicer.vtkOrientedImageData | None:
        segment: slicer.vtkSegment | None = self._segmentation.GetSegment(segment_id)
        return None if segment is None else segment.GetRepresentation(BINARY_LABELMAP)

    def _touch(self, segment_id: str) -> None:
        labelmap = self._labelmap(segment_id)
        assert labelmap is not None  # it was written into
        if not any(labelmap is other for other in self.touched):
            self.touched.append(labelmap)

    def _plane(self, seen: lattices.Seen, index: int) -> tuple[lattices.Labels, tuple[slice, slice]]:
        found = seen.plane(self.axis, index)
        assert found is not None  # the layer covers the whole volume
        return found

    def _look(self, segment_id: str) -> tuple[lattices.Seen, int] | None:
        """Return a segment's current layer and its label value; None if it is empty."""
        labelmap = self._labelmap(segment_id)
        if labelmap is None or lattices.is_empty(labelmap):
            return None
        matrix = lattices.labelmap_matrix(labelmap)
        scalars = labelmap.GetPointData().GetScalars()
        state = (labelmap.GetExtent(), matrix.tobytes(), scalars, scalars.GetVoidPointer(0))
        known = self._seen.get(labelmap)
        if known is None or known[0] != state:
            seen = lattices.seen_on(labelmap, self._matrix, self.shape)
            if seen is None:
                raise GeometryError(
                    f"the segment '{self._segmentation.GetSegment(segment_id).GetName()}' was moved to another grid "
                    "meanwhile; undo that, or segment into a new segmentation."
                )
            known = self._seen[labelmap] = (state, seen)
        return known[1], self._segmentation.GetSegment(segment_id).GetLabelValue()

    def _own(self, segment_id: str) -> tuple[lattices.Seen, int]:
        """Return a segment's own layer over the whole volume; create it if needed."""
        if self.sharers(segment_id):
            self._segmentation.SeparateSegmentLabelmap(segment_id)
        return self._whole(segment_id)

    def _whole(self, segment_id: str) -> tuple[lattices.Seen, int]:
        """Return a segment's layer, extended over the whole volume if needed."""
        found = self._look(segment_id)
        if found is None or not found[0].is_whole:
            self._extend(segment_id)
            found = self._look(segment_id)
            assert found is not None
        return found

    def _extend(self, segment_id: str) -> None:
        """Give the segment, and those in the same layer, a labelmap that covers the volume."""
        old = self._labelmap(segment_id)
        members = [segment_id, *self.sharers(segment_id)]
        if old is None or lattices.is_empty(old):
            extent = lattices.covering_extent(self._home, None, self._matrix, self.shape)
            new = lattices.new_labelmap(self._home, extent)
        else:
            matrix = lattices.labelmap_matrix(old)
            extent = lattices.covering_extent(matrix, old.GetExtent(), self._matrix, self.shape)
            new = lattices.new_labelmap(matrix, extent, dtype=lattices.labelmap_array(old).dtype)
            low = [inner - outer for inner, outer in zip(old.GetExtent()[0::2], extent[0::2], strict=True)]
            i, j, k = (slice(start, start + n) for start, n in zip(low, old.GetDimensions(), strict=True))
            lattices.labelmap_array(new)[k, j, i] = lattices.labelmap_array(old)
        if old is not None:
            self._seen.pop(old, None)
        for member in members:
            self._segmentation.GetSegment(member).AddRepresentation(BINARY_LABELMAP, new)
