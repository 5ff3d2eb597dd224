"""What is in a segment now: its slices, its voxels, and which slices were changed by hand."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, ProxyPromptError
from ProxyPromptSegmentLib.imaging.geometry import Axis, axis_number
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.nodes import check_volume, geometry_of, name_of
from ProxyPromptSegmentModule.scene.segment_layers import Layers
from ProxyPromptSegmentModule.scene.slice_prints import EMPTY, OWN, SlicePrints, print_of
from ProxyPromptSegmentModule.scene.stamps import Stamp, labelmap_stamp, place_stamp

if TYPE_CHECKING:
    import slicer

Plane = npt.NDArray[np.bool_]

_NOTHING = np.zeros((0, 0), bool)
"""A slice of a segment that has no voxels: a run begins with one, and 300 slices of nothing take 10 ms to read."""


@dataclass(frozen=True, kw_only=True)
class SegmentState:
    """What a segment holds now.

    Attributes:
        axis: The axis across the slices.
        pixels: Pixels of each slice that shows something, by slice.
        changed: Slices that were changed by hand, or accepted, since runs wrote them; empty without prints.
        voxel_mm3: Volume of a voxel in mm³.
        content: Print of all slices that show something: another one after any change of a voxel.
    """

    axis: Axis
    pixels: dict[int, int]
    changed: tuple[int, ...]
    voxel_mm3: float
    content: str = ""

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return sum(self.pixels.values())

    @property
    def volume_ml(self) -> float:
        """Volume in ml."""
        return self.voxels * self.voxel_mm3 / 1000


class SegmentStates:
    """What segments hold, read again only after a change of voxels; one for all that show or use it."""

    def __init__(self) -> None:
        """Know no segment yet."""
        self._known: dict[tuple[str, str, str], _Reading] = {}

    def of(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        volume: slicer.vtkMRMLVolumeNode,
        axis: Axis,
    ) -> SegmentState | None:
        """Return what a segment holds now, see `state_of`."""
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        if segment is None:
            return None
        prints = SlicePrints.read(segment)
        reading = self._reading(segmentation, segment_id, volume, axis if prints is None else prints.axis)
        reading.go_on()
        return reading.state(prints)

    def read_some(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        volume: slicer.vtkMRMLVolumeNode,
        axis: Axis,
        until: float,
    ) -> bool:
        """Read slices of a segment until a time (`time.perf_counter`); return whether `of` is immediate now."""
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        if segment is None:
            return True
        prints = SlicePrints.read(segment)
        return self._reading(segmentation, segment_id, volume, axis if prints is None else prints.axis).go_on(until)

    def learn(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        volume: slicer.vtkMRMLVolumeNode,
        axis: Axis,
        count: int,
        prints: Mapping[int, str],
        pixels: Mapping[int, int],
    ) -> None:
        """Know what a segment holds that was just put into the scene, without reading it.

        Args:
            segmentation: The segmentation.
            segment_id: The segment.
            volume: The volume whose slices are counted.
            axis: The axis across the slices.
            count: Number of slices.
            prints: Print of each slice that shows something, in the order of the slices.
            pixels: Number of pixels of each of these slices.
        """
        reading = _Reading(self._stamp(segmentation, segment_id, volume, axis), axis, volume, iter(()))
        reading.take(count, prints, pixels)
        self._known[(segmentation.GetID(), segment_id, volume.GetID())] = reading

    @staticmethod
    def _stamp(
        segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, volume: slicer.vtkMRMLVolumeNode, axis: Axis
    ) -> Stamp:
        return (labelmap_stamp(segmentation, segment_id), place_stamp(volume), axis)

    def _reading(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        volume: slicer.vtkMRMLVolumeNode,
        axis: Axis,
    ) -> _Reading:
        place = (segmentation.GetID(), segment_id, volume.GetID())
        stamp = self._stamp(segmentation, segment_id, volume, axis)
        known = self._known.get(place)
        if known is None or known.stamp != stamp:
            known = self._known[place] = _Reading(stamp, axis, volume, _planes(segmentation, segment_id, volume, axis))
        return known

    def forget(self) -> None:
        """Forget all segments, because their scene is closed."""
        self._known.clear()


class _Reading:
    """The slices of a segment, read one after another.

    Attributes:
        stamp: Another one after any change of the voxels, or of the grid on which they are counted.
    """

    def __init__(self, stamp: Stamp, axis: Axis, volume: slicer.vtkMRMLVolumeNode, planes: Iterator[Plane]) -> None:
        """Read nothing yet."""
        self.stamp, self._axis = stamp, axis
        self._volume: slicer.vtkMRMLVolumeNode | None = volume
        self._planes: Iterator[Plane] | None = planes
        self._count = 0
        self._pixels: dict[int, int] = {}
        self._words: dict[int, str] = {}
        self._voxel_mm3: float | None = None  # None: on another grid
        self._state: tuple[dict[int, str] | None, SegmentState] | None = None  # the last one, and its prints

    def take(self, count: int, prints: Mapping[int, str], pixels: Mapping[int, int]) -> None:
        """Take what was read elsewhere."""
        self._count, self._words, self._pixels = count, dict(prints), dict(pixels)

    def go_on(self, until: float = math.inf) -> bool:
        """Read until a time; return whether everything is read."""
        if self._planes is None:
            return True
        try:
            for plane in self._planes:  # one at a time in memory
                count = int(np.count_nonzero(plane))
                if count:
                    self._pixels[self._count], self._words[self._count] = count, print_of(plane)
                self._count += 1
                if time.perf_counter() > until:
                    return False
            self._voxel_mm3 = float(np.prod(geometry_of(self._volume).spacing_mm)) if self._volume is not None else None
        except ProxyPromptError:
            self._voxel_mm3 = None
        self._planes = self._volume = None
        return True

    def state(self, prints: SlicePrints | None) -> SegmentState | None:
        """Return what was read, beside what runs wrote there; None if the segment lies on another grid."""
        if self._voxel_mm3 is None:
            return None
        written = None if prints is None else prints.prints
        if self._state is None or self._state[0] != written:
            self._state = (None if written is None else dict(written), self._compared(written, self._voxel_mm3))
        return self._state[1]

    def _compared(self, written: dict[int, str] | None, voxel_mm3: float) -> SegmentState:
        changed: tuple[int, ...] = ()
        if written is not None:
            pairs = ((n, self._words.get(n, EMPTY), written.get(n, EMPTY)) for n in range(self._count))
            changed = tuple(index for index, word, of_run in pairs if word != of_run)
        return SegmentState(
            axis=self._axis,
            pixels=dict(self._pixels),
            changed=changed,
            voxel_mm3=voxel_mm3,
            content=content_of(self._words),
        )


def content_of(prints: Mapping[int, str]) -> str:
    """Return the print of a segment from those of its slices that show something, in their order."""
    content = hashlib.blake2b(digest_size=8)
    for index, word in prints.items():
        content.update(f"{index} {word} ".encode())
    return content.hexdigest()


def state_of(
    segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, volume: slicer.vtkMRMLVolumeNode, axis: Axis
) -> SegmentState | None:
    """Return what a segment holds now, in slices of a volume.

    Args:
        segmentation: The segmentation.
        segment_id: The segment.
        volume: The volume whose slices are counted.
        axis: The axis across the slices, unless runs wrote the segment along another one.

    Returns:
        None if there is no such segment, or it lies on another grid.
    """
    return SegmentStates().of(segmentation, segment_id, volume, axis)


def changed_slices(
    segmentation: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    volume: slicer.vtkMRMLVolumeNode,
    states: SegmentStates | None = None,
) -> tuple[int, ...]:
    """Return the slices of a segment that were changed by hand, along the axis of the runs that wrote it.

    Raises:
        GeometryError: If the segment lies on another grid.
    """
    prints = SlicePrints.read(segmentation.GetSegmentation().GetSegment(segment_id))
    if prints is None:
        return ()
    found = (states or SegmentStates()).of(segmentation, segment_id, volume, prints.axis)
    if found is None:
        raise GeometryError(
            f"the segment '{segment_id}' of {name_of(segmentation)} lies on another grid than {name_of(volume)}; "
            "segment into a new segmentation."
        )
    return found.changed


def accept_slice(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, axis: Axis, index: int) -> None:
    """Mark a slice as the user's, though it is as a run wrote it: no run writes it again."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    prints = SlicePrints.read(segment) if segment is not None else None
    if prints is not None and prints.axis == axis:
        prints.prints[index] = OWN
        prints.save(segment)


def _planes(
    segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, volume: slicer.vtkMRMLVolumeNode, axis: Axis
) -> Iterator[Plane]:
    """Iterate over the slices of a segment, bool, with the volume's axes.

    Raises:
        ProxyPromptError: If the segment lies on another grid, or the volume has none.
    """
    check_volume(volume)
    matrix = lattices.ijk_to_segmentation(volume, segmentation)
    if matrix is None:
        return
    shape, number = lattices.size_kji(volume), axis_number(axis)
    layers = Layers(segmentation.GetSegmentation(), matrix, shape, number, matrix)
    empty = layers.is_empty(segment_id)  # a change makes another reading
    for index in range(shape[number]):
        yield _NOTHING if empty else layers.read(segment_id, index)
