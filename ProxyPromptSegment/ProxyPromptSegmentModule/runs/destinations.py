"""Destinations of a run's slices: segments of a volume, or a sequence of segmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ProxyPromptSegmentModule.runs.request import Output
from ProxyPromptSegmentModule.scene import segment_writer, sequence_writer
from ProxyPromptSegmentModule.scene.nodes import MADE_FOR, in_scene
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import slicer

    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.support.pairs import SupportSet
    from ProxyPromptSegmentModule.scene.sequence_reader import Frames

    Slices = list[tuple[int, npt.NDArray[np.uint8]]]


class Destination(Protocol):
    """The interface between a run and the nodes that its slices are written into."""

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The segmentation node; None before `open`."""

    @property
    def segment_ids(self) -> dict[str, str]:
        """Segment id of each object."""

    @property
    def valid(self) -> bool:
        """Whether the nodes are still in the scene."""

    def write(self, slices: Slices) -> None:
        """Replace slices or items, given by their numbers."""

    def finish(self) -> None:
        """End the run."""

    def untouched(self) -> dict[str, str]:
        """Return the segments that were not changed since the end of the run, by object name."""

    def undo(self) -> bool:
        """Undo what was written; return whether it was possible."""

    def redo(self) -> bool:
        """Redo what was undone; return whether it was possible."""

    def close(self) -> None:
        """Release nodes and undo memory."""


class SegmentDestination:
    """The destination for segments of one volume.

    Attributes:
        segmentation: The segmentation node; None before `open` unless an existing one is used.
        segment_ids: Segment id of each object.
        notes: Notes of the writer for the user.
    """

    def __init__(self, target: slicer.vtkMRMLVolumeNode, output: Output) -> None:
        """Store the arguments; nodes are created by `open`."""
        self.segmentation: slicer.vtkMRMLSegmentationNode | None = output.segmentation
        self.segment_ids: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self._target, self._output = target, output
        self._writer: segment_writer.SegmentWriter | None = None
        self._made = False
        self._marks: dict[str, tuple[int, int]] = {}

    @property
    def valid(self) -> bool:
        """Whether the nodes are still in the scene."""
        return in_scene(self._target) and (self._writer is None or self._writer.valid)

    def open(self, job: Job) -> None:
        """Create the node, if needed, and a segment for each object.

        Raises:
            GeometryError, InputError: If the segmentation cannot hold the result; nothing is changed then.
        """
        if self.segmentation is None:
            name = self._output.name or _("{volume} segmentation").format(volume=self._target.GetName())
            self.segmentation = segment_writer.create_segmentation(self._target, name)
            self.segmentation.SetAttribute(MADE_FOR, self._target.GetID())
            self._made = True
        wanted = self._output.segment_ids or {}
        self._writer = segment_writer.SegmentWriter(
            self.segmentation,
            self._target,
            job.view,
            job.support,
            editor_node=self._output.editor,
            segment_ids={name: found for name, found in wanted.items() if name in job.support.objects},
        )
        self.segment_ids, self.notes = dict(self._writer.segment_ids), tuple(self._writer.notes)

    def write(self, slices: Slices) -> None:
        """Replace slices, with one event for all."""
        if self._writer is not None:
            self._writer.write_many(slices)

    def finish(self) -> None:
        """Record the state of the segments, to detect later corrections."""
        if self.valid and self._writer is not None:
            self._writer.restore_surfaces()  # only if there were some; before the marks, because it modifies segments
            self._marks = {name: self._mark(found) for name, found in self.segment_ids.items()}

    def untouched(self) -> dict[str, str]:
        """Return the segments that were not changed since the end of the run, by object name."""
        if not self.valid or not self._marks:
            return {}
        return {name: found for name, found in self.segment_ids.items() if self._mark(found) == self._marks.get(name)}

    def undo(self) -> bool:
        """Undo what was written; return whether it was possible."""
        done = self._writer is not None and self._writer.undo()
        self._marks = {}
        return done

    def redo(self) -> bool:
        """Redo what was undone; return whether it was possible."""
        done = self._writer is not None and self._writer.redo()
        if done:
            self.finish()
        return done

    def close(self) -> None:
        """Release the undo memory."""
        if self._writer is not None:
            self._writer.close()

    def _mark(self, segment_id: str) -> tuple[int, int]:
        """Return a value that changes with every edit of the segment."""
        assert self.segmentation is not None  # marks exist only after `open`
        segment = self.segmentation.GetSegmentation().GetSegment(segment_id)
        found = segment.GetRepresentation("Binary labelmap") if segment is not None else None
        return (-1, -1) if found is None else (found.GetMTime(), segment.GetLabelValue())


class SequenceDestination:
    """The destination for a sequence of segmentations in the image sequence's browser.

    Attributes:
        segmentation: The proxy node, which shows the selected item.
        segment_ids: Segment id of each object.
    """

    def __init__(self, browser: slicer.vtkMRMLSequenceBrowserNode, output: Output) -> None:
        """Store the arguments; nodes are created by `open`."""
        self.segmentation: slicer.vtkMRMLSegmentationNode | None = None
        self.segment_ids: dict[str, str] = {}
        self._browser, self._output = browser, output
        self._writer: sequence_writer.SegmentationSequenceWriter | None = None
        self._items: tuple[int, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the nodes are still in the scene."""
        return in_scene(self._browser) and (self._writer is None or self._writer.usable)

    def open(self, frames: Frames, support: SupportSet) -> None:
        """Create the sequence and its proxy node."""
        self._writer = sequence_writer.SegmentationSequenceWriter(
            self._browser, frames, support.objects, support.colors, support.terminologies, self._output.name
        )
        self._items = frames.items
        self.segmentation, self.segment_ids = self._writer.proxy, dict(self._writer.segment_ids)

    def write(self, slices: Slices) -> None:
        """Write frames, given by their position among the frames that were read."""
        assert self._writer is not None
        for place, masks in slices:
            self._writer.write(self._items[place], masks)

    def finish(self) -> None:
        """End the run; later corrections are stored in the sequence."""
        if self._writer is not None:
            self._writer.finish()

    def untouched(self) -> dict[str, str]:
        """Return nothing: each run writes a new sequence."""
        return {}

    def undo(self) -> bool:
        """Remove the sequence and its proxy."""
        return self._writer is not None and self._writer.undo()

    def redo(self) -> bool:
        """Return False: a removed sequence cannot be restored."""
        return False

    def close(self) -> None:
        """Release the nodes."""
        self._writer = None
