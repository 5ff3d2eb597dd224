"""Where the slices of a run go: into segments of a volume, or into a sequence of segmentations."""

from __future__ import annotations

from typing import Any

from ProxyPromptSegmentModule.runs.request import Output
from ProxyPromptSegmentModule.scene import segment_writer
from ProxyPromptSegmentModule.translation import _

MADE_FOR = "ProxyPrompt.madeFor"
"""Node attribute: identifier of the volume that a segmentation of ours was made for."""


class VolumeSink:
    """Segments of one volume.

    Attributes:
        segmentation: The segmentation node, once it is open.
        segment_ids: Segment of each object.
        notes: What the writer wants the user to know.
    """

    def __init__(self, target: Any, output: Output) -> None:
        """Nothing is made before `open`."""
        self.segmentation = output.segmentation
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

    def open(self, job: Any) -> None:
        """Makes what is missing: the node, and a segment for each object.

        Raises:
            GeometryError, InputError: If the segmentation cannot take the result; nothing was changed then.
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

    def write(self, slices: list[tuple[int, Any]]) -> None:
        """Replaces slices, with one event for all."""
        if self._writer is not None:
            self._writer.write_many(slices)

    def finish(self) -> None:
        """Remembers what the segments look like, to notice later whether somebody has corrected them."""
        if self.valid and self._writer is not None:
            self._writer.restore_surfaces()  # only where there were some; before the marks, for it touches segments
            self._marks = {name: self._mark(found) for name, found in self.segment_ids.items()}

    def untouched(self) -> dict[str, str]:
        """Segments that nobody has changed since the end of the run, by object name."""
        if not self.valid or not self._marks:
            return {}
        return {name: found for name, found in self.segment_ids.items() if self._mark(found) == self._marks.get(name)}

    def undo(self) -> bool:
        """Takes back what was written."""
        done = self._writer is not None and self._writer.undo()
        self._marks = {}
        return done

    def redo(self) -> bool:
        """Writes it again."""
        done = self._writer is not None and self._writer.redo()
        if done:
            self.finish()
        return done

    def close(self) -> None:
        """Lets go of the undo memory."""
        if self._writer is not None:
            self._writer.close()

    def _mark(self, segment_id: str) -> tuple[int, int]:
        """Changes whenever somebody edits the segment."""
        segment = self.segmentation.GetSegmentation().GetSegment(segment_id)
        found = segment.GetRepresentation("Binary labelmap") if segment is not None else None
        return (-1, -1) if found is None else (found.GetMTime(), segment.GetLabelValue())


def in_scene(node: Any) -> bool:
    """Whether a node is in its scene; a deleted one has none."""
    scene = node.GetScene()
    return scene is not None and scene.IsNodePresent(node) != 0
