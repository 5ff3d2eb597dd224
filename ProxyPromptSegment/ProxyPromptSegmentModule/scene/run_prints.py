"""What a run may overwrite in a segment, kept apart from what the segment's tag says about its slices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import numpy.typing as npt
import slicer

from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentModule.scene.segment_state import changed_slices
from ProxyPromptSegmentModule.scene.slice_prints import OWN, WRITTEN_TAG, SlicePrints, print_of
from ProxyPromptSegmentModule.scene.terminology import tag_of

Plane = npt.NDArray[np.bool_]


class RunPrints:
    """The prints of one segment during a run.

    The tag names only what runs wrote and what the user accepted. What this run may replace besides, because the user
    was asked or chose the segment, is never stored, so that it is the user's again for the next run.
    """

    def __init__(
        self,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segment_id: str,
        volume: slicer.vtkMRMLVolumeNode,
        axis: Axis,
        read: Callable[[], Mapping[int, Plane]],
        replace_changed: bool,
    ) -> None:
        """Read the segment's tag.

        Args:
            segmentation: The segmentation.
            segment_id: The segment.
            volume: The volume that is segmented.
            axis: The axis across the slices of the run.
            read: Returns the slices of the segment that have voxels; called only where the tag is not enough.
            replace_changed: Whether slices that were changed by hand before the run may be replaced as well.
        """
        self._inside, self._id, self.axis = segmentation.GetSegmentation(), segment_id, axis
        segment = self._inside.GetSegment(segment_id)
        self._text = tag_of(segment, WRITTEN_TAG)
        found = SlicePrints.read(segment)
        if found is not None and found.axis == axis:
            self._before = dict(found.prints)
            free = replace_changed
        else:
            self._before, free = {}, True
        expected = self._before
        if free:
            expected = {index: print_of(plane) for index, plane in read().items()}
        if found is not None and found.axis != axis and not changed_slices(segmentation, segment_id, volume):
            self._before = dict(expected)  # everything there was written by a run, along another axis
        self._expected = SlicePrints(axis, expected)
        self._accepted = {index for index, word in self._before.items() if word == OWN} if free else set()
        self._replaceable = set(self._accepted)
        self._mine: dict[int, str] = {}
        self._read: tuple[str, Mapping[int, str]] | None = None

    def is_users(self, index: int, now: Plane, written: Plane | None) -> bool:
        """Return whether a slice was accepted, or changed by anything but runs.

        Args:
            index: The slice.
            now: What is there.
            written: The slice as this run wrote it; None before.
        """
        if self.is_accepted(index):
            return True
        return self._expected.is_users(index, now) if written is None else not np.array_equal(now, written)

    def is_accepted(self, index: int) -> bool:
        """Return whether the user has accepted a slice, and the run may therefore not change it."""
        return index not in self._replaceable and self._stored().get(index) == OWN

    def wrote(self, planes: Mapping[int, Plane]) -> None:
        """Store the prints of slices that were just written."""
        if not planes:
            return
        self._replaceable -= set(planes)
        words = {index: print_of(plane) for index, plane in planes.items()}
        self._mine.update(words)
        self._save({**self._stored(), **words})

    def sign(self) -> None:
        """Store the prints of all slices that the run wrote, except where the user has accepted a slice since."""
        stored = self._stored()
        words = {index: word for index, word in self._mine.items() if stored.get(index) != OWN}
        if words:
            self._replaceable -= set(words)
            self._save({**stored, **words})

    def undone(self, indices: Collection[int]) -> None:
        """Store what the tag said before the run about slices whose voxels were restored."""
        stored = self._stored()
        for index in indices:
            self._mine.pop(index, None)
            stored.pop(index, None)
            if index in self._before:
                stored[index] = self._before[index]
        self._replaceable |= self._accepted & set(indices)
        segment = self._inside.GetSegment(self._id)
        if segment is None or stored != self._before:
            self._save(stored)
        elif self._text:
            if tag_of(segment, WRITTEN_TAG) != self._text:
                segment.SetTag(WRITTEN_TAG, self._text)
        else:
            segment.RemoveTag(WRITTEN_TAG)

    def _stored(self) -> dict[int, str]:
        """Return the prints in the segment's tag now; those of another axis are not known along this one."""
        segment = self._inside.GetSegment(self._id)
        text = tag_of(segment, WRITTEN_TAG) if segment is not None else ""
        if segment is None or self._read is None or self._read[0] != text:  # asked for every slice that is written
            found = SlicePrints.read(segment) if segment is not None else None
            self._read = (text, self._before if found is None or found.axis != self.axis else found.prints)
        return dict(self._read[1])

    def _save(self, prints: dict[int, str]) -> None:
        segment = self._inside.GetSegment(self._id)
        if segment is not None:
            SlicePrints(self.axis, prints).save(segment)
