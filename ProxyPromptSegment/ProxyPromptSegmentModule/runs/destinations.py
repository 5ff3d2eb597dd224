"""Destinations of a run's slices: segments of a volume, or a sequence of segmentations."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from ProxyPromptSegmentModule.runs.request import Output
from ProxyPromptSegmentModule.scene import result_nodes, segment_writer, sequence_writer
from ProxyPromptSegmentModule.scene.nodes import MADE_FOR, in_scene, remove_node
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import ranges

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import slicer

    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.support.asked import Asked
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

    def withdraw(self) -> None:
        """Remove what was made for a run that has ended before it wrote anything."""

    def restore_surfaces(self) -> None:
        """Create the surfaces again that every write removes, if there were some."""

    def sign(self) -> None:
        """Store what was written so far, so that later changes by hand are noticed; also before a save."""

    def kept(self) -> list[str]:
        """Return sentences about slices that the run or its undo left because the user had changed them."""

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
        only: By slice, the objects that are written; the others stay there. Other slices are written as a whole.
    """

    def __init__(self, target: slicer.vtkMRMLVolumeNode, output: Output) -> None:
        """Store the arguments; nodes are created by `open`."""
        self.segmentation: slicer.vtkMRMLSegmentationNode | None = output.segmentation
        self.segment_ids: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self.only: dict[int, tuple[str, ...]] = {}
        self._target, self._output = target, output
        self._writer: segment_writer.SegmentWriter | None = None
        self._made: set[str] = set()

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
        wanted, there = self._output.segment_ids or {}, self.segmentation.GetSegmentation()
        before = set(there.GetSegmentIDs())
        self._writer = segment_writer.SegmentWriter(
            self.segmentation,
            self._target,
            job.view,
            job.support,
            editor_node=self._output.editor,
            segment_ids={  # a segment may have been deleted since Apply was pressed
                name: found for name, found in wanted.items() if name in job.support.objects and there.GetSegment(found)
            },
            reuse=self._output.reuse,
            editor_logic=self._output.history,
            replace_changed=self._output.replace_changed,
        )
        self.segment_ids, self.notes = dict(self._writer.segment_ids), tuple(self._writer.notes)
        self._made = set(self.segment_ids.values()) - before

    def write(self, slices: Slices) -> None:
        """Replace slices, with one event for all."""
        if self._writer is not None:
            self._writer.write_many(slices, self.only)

    def finish(self) -> None:
        """Store what was written, to detect later corrections."""
        if self.valid and self._writer is not None:
            self._writer.sign()
            self._writer.restore_surfaces()  # only if there were some

    def withdraw(self) -> None:
        """Remove the segments that `open` has made, and the node with the last one; an empty one says “nothing here”.

        What the user has drawn into them meanwhile stays.
        """
        writer, node = self._writer, self.segmentation
        if writer is None or node is None or not self.valid or not self._made:
            return
        writer.undo()
        writer.close()
        self._writer, self.segment_ids = None, {}
        if self._output.segmentation is None and node.GetSegmentation().GetNumberOfSegments() == 0:
            result_nodes.remove(node)
            remove_node(node)
            self.segmentation = None

    def restore_surfaces(self) -> None:
        """Create the surfaces again that every write removes, if there were some."""
        if self._writer is not None:
            self._writer.restore_surfaces()

    def sign(self) -> None:
        """Store what was written so far, so that later changes by hand are noticed; also before a save."""
        if self._writer is not None:
            self._writer.sign()

    def kept(self) -> list[str]:
        """Return sentences about slices that the run or its undo left because the user had changed them."""
        if self._writer is None:
            return []
        said = _("Changed by hand and left as they are, slices of {name}: {slices}.")
        taken = self._writer.left if self._writer.can_redo else self._writer.kept
        return [said.format(name=name, slices=ranges(sorted(slices))) for name, slices in taken.items()]

    def has_kept(self, index: int) -> bool:
        """Return whether a slice was not written in some object, because the user had changed it."""
        return self._writer is not None and any(index in slices for slices in self._writer.kept.values())

    def restore(self, indices: Collection[int], names: Collection[str] | None = None) -> None:
        """Put slices back as they were before the run, of some objects or all."""
        if self._writer is not None:
            self._writer.restore(indices, names)

    def undo(self) -> bool:
        """Undo what was written; return whether it was possible."""
        return self._writer is not None and self._writer.undo()

    def redo(self) -> bool:
        """Redo what was undone; return whether it was possible."""
        return self._writer is not None and self._writer.redo()

    def close(self) -> None:
        """Release the undo memory."""
        if self._writer is not None:
            self._writer.close()


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

    def open(self, frames: Frames, support: Asked) -> None:
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

    def withdraw(self) -> None:
        """Remove the sequence and its proxy."""
        self.undo()
        self.segmentation, self.segment_ids = None, {}
        self.close()

    def restore_surfaces(self) -> None:
        """Do nothing: frames have no surfaces."""

    def sign(self) -> None:
        """Do nothing: later corrections are stored in the sequence."""

    def kept(self) -> list[str]:
        """Return nothing: each run writes a new sequence."""
        return []

    def undo(self) -> bool:
        """Remove the sequence and its proxy."""
        return self._writer is not None and self._writer.undo()

    def redo(self) -> bool:
        """Return False: a removed sequence cannot be restored."""
        return False

    def close(self) -> None:
        """Release the nodes."""
        self._writer = None
