"""The writer of masks into segments, the only one in the module.

Main thread only. Only the given slices are replaced, only in the segments of the run. Everything else stays: other
slices, other segments, voxels that the Segment Editor's masking protects, and every slice that was changed by anything
but a run, before this run or during it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import SliceView, axis_number
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.edit_rules import IntensityMask, rules_of
from ProxyPromptSegmentModule.scene.editor_history import EditorHistory
from ProxyPromptSegmentModule.scene.new_segments import (
    SegmentNames,
    adopt_reference,
    check_target,
    create_segmentation,
    known_segments,
    make_segment,
    note_on_name,
    reusable_segments,
)
from ProxyPromptSegmentModule.scene.nodes import check_volume, in_scene, name_of
from ProxyPromptSegmentModule.scene.owners import claim
from ProxyPromptSegmentModule.scene.run_prints import RunPrints
from ProxyPromptSegmentModule.scene.segment_layers import Layers
from ProxyPromptSegmentModule.scene.slice_form import SliceForm
from ProxyPromptSegmentModule.scene.slice_prints import SlicePrints
from ProxyPromptSegmentModule.scene.undo_step import Place, Removed, Step

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.support.asked import Asked

__all__ = ["SegmentNames", "SegmentWriter", "create_segmentation"]

CLOSED_SURFACE = "Closed surface"


Slices = Sequence[tuple[int, npt.NDArray[np.uint8]]]


class SegmentWriter:
    """A writer of the slices of one run into segments; the run is one undo step.

    Nodes may be deleted and segments edited, cropped or removed at any time: the writer checks before each write, skips
    what no longer exists, and never loses changes that were made elsewhere.

    Attributes:
        segment_ids: Object name -> segment id, in the order of the masks.
        notes: Notes for the user.
        kept: Slices that were not written because the user had changed them, by object name.
        left: Slices that the last `undo` has left because they were changed by hand after the run, by object name.
    """

    def __init__(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        volume_node: slicer.vtkMRMLVolumeNode,
        view: SliceView,
        support: Asked | SegmentNames,
        editor_node: slicer.vtkMRMLSegmentEditorNode | None = None,
        segment_ids: dict[str, str] | None = None,
        reuse: bool = False,
        editor_logic: EditorHistory | None = None,
        replace_changed: bool = False,
    ) -> None:
        """Check everything, then create the missing segments.

        Args:
            segmentation_node: The segmentation to write into.
            volume_node: The volume that was segmented.
            view: Orientation of the masks in the volume: the job's view.
            support: A `SupportSet` or `SegmentNames`: names, colours and terminologies in the order of the masks.
            editor_node: A vtkMRMLSegmentEditorNode whose masking and overwrite settings apply; read only once. Without
                one, all voxels may change and other segments keep theirs. The segments of a run never restrict or
                overwrite each other: objects may overlap.
            segment_ids: Object name -> id of an existing segment to write into. Other objects get new segments, even
                if there is one of the same name.
            reuse: Whether an object without an id uses the segment that an earlier run made for it in this volume, if
                there is one; see `reusable_segments`.
            editor_logic: A vtkSlicerSegmentEditorLogic on the same segmentation, such as that of an open Segment
                Editor: the state before the run is saved in it, so that its undo also reverts the run. This copies
                every segment.
            replace_changed: Whether slices that were changed by hand before the run are replaced as well, because the
                user was asked. Changes during the run are always kept.

        Raises:
            InputError: If a node is missing, or an object or id does not exist; nothing is changed then.
            GeometryError: If the segmentation has another lattice; nothing is changed then.
        """
        check_volume(volume_node)
        matrix, home = check_target(segmentation_node, volume_node)
        self._node, self._volume = segmentation_node, volume_node
        segmentation = segmentation_node.GetSegmentation()
        self.notes: tuple[str, ...] = ()
        objects = tuple(support.objects)
        earlier = reusable_segments(segmentation_node, volume_node, objects, view.axis) if reuse else {}
        known = known_segments(segmentation_node, objects, segment_ids or {}, earlier)
        self._rules = rules_of(editor_node, segmentation_node, volume_node, known.values())
        self._intensities = IntensityMask(self._rules, volume_node, segmentation_node)

        if editor_logic is not None and editor_logic.GetSegmentationNode() is segmentation_node:
            editor_logic.SaveStateForUndo()
        self._had_surface = segmentation.ContainsRepresentation(CLOSED_SURFACE)
        adopt_reference(segmentation_node, volume_node)
        self._axis = axis_number(view.axis)
        shape = lattices.size_kji(volume_node)
        self._layers: Layers | None = Layers(segmentation, matrix, shape, self._axis, home)
        self.segment_ids: dict[str, str] = {}
        created = []
        for number, name in enumerate(objects):
            found = known.get(name)
            if found is None:
                found = make_segment(segmentation, name, number, support)
                created.append(found)
                SlicePrints(view.axis).save(segmentation.GetSegment(found))
                claim(segmentation_node, found, volume_node)
                self.notes += note_on_name(segmentation, name, found)
            self.segment_ids[name] = found
        self._layers.prepare(known.values())
        self._depth = shape[self._axis]
        rows, columns = (n for m, n in enumerate(shape) if m != self._axis)
        self._plane_shape = (rows, columns)
        self._form = SliceForm(view, self._plane_shape, self._depth, tuple(self.segment_ids), name_of(volume_node))
        self._step = Step(self._plane_shape, tuple(created))
        self.kept: dict[str, set[int]] = {}
        self.left: dict[str, set[int]] = {}
        self._prints = {
            one: RunPrints(segmentation_node, one, volume_node, view.axis, partial(self._shown, one), replace_changed)
            for one in self.segment_ids.values()
        }

    def _shown(self, segment_id: str) -> dict[int, npt.NDArray[np.bool_]]:
        """Return the slices of a segment that have voxels."""
        assert self._layers is not None
        planes = ((index, self._layers.read(segment_id, index)) for index in range(self._depth))
        return {index: plane for index, plane in planes if plane.any()}

    # --- writing ----------------------------------------------------------------------------------------------

    @property
    def valid(self) -> bool:
        """Whether both nodes are still in the scene and the writer is not closed."""
        return self._layers is not None and all(in_scene(node) for node in (self._node, self._volume))

    def write(self, index: int, masks: npt.NDArray[np.uint8]) -> None:
        """Replace one slice in each segment of the run.

        Does nothing if nodes no longer exist, and while the run is undone.

        Args:
            index: Number of the slice along the view's axis.
            masks: 1 inside, 0 outside; uint8 or bool, ``(N, H, W)`` as the view turns slices.

        Raises:
            InputError: If the slice does not exist, or the masks have another shape or other values.
            GeometryError: If a segment was moved to another lattice meanwhile.
        """
        self.write_many([(index, masks)])

    def write_many(self, slices: Slices, only: Mapping[int, Collection[str]] | None = None) -> None:
        """Replace several slices, with one event for all; see `write`.

        Args:
            slices: Numbers of slices, and their masks.
            only: By slice, the objects that are written; the others stay there. Other slices are written as a whole.

        Raises:
            InputError: As `write`; nothing is written then.
            GeometryError: As `write`.
        """
        checked = [(int(index), self._form.stored(int(index), masks)) for index, masks in slices]
        if not self.valid or self._step.removed is not None:
            return
        assert self._layers is not None
        fresh: set[Place] = set()
        try:
            for index, planes in checked:
                self._replace(index, planes, fresh, (only or {}).get(index))
        finally:
            self._store(fresh)
            self._layers.announce()

    def _replace(
        self, index: int, planes: npt.NDArray[np.bool_], fresh: set[Place], only: Collection[str] | None = None
    ) -> None:
        """Replace a slice and remember its previous content; what was written is added to ``fresh``."""
        layers, step = self._layers, self._step
        assert layers is not None
        mine = []
        for (name, segment_id), plane in zip(self.segment_ids.items(), planes, strict=True):
            if not layers.has(segment_id) or (only is not None and name not in only):
                continue
            now = layers.read(segment_id, index)
            if self._is_users(segment_id, index, now):
                self.kept.setdefault(name, set()).add(index)
                continue
            step.remember((segment_id, index), now)
            mine.append((segment_id, plane))
        editable = self._editable(index)
        claimed = np.zeros(self._plane_shape, dtype=bool)
        for segment_id, plane in mine:
            if editable is not None:
                claimed |= plane & editable
                plane = np.where(editable, plane, layers.read(segment_id, index))
            else:
                claimed |= plane
            layers.write(segment_id, index, plane)
            step.written.put((segment_id, index), plane)
            fresh.add((segment_id, index))
        for segment_id in self._rules.overwrite:
            if layers.has(segment_id):
                self._take(segment_id, index, claimed)

    def _is_users(self, segment_id: str, index: int, now: npt.NDArray[np.bool_]) -> bool:
        """Return whether a slice was changed by anything but runs."""
        place, written = (segment_id, index), self._step.written
        return self._prints[segment_id].is_users(index, now, written.get(place) if place in written.bits else None)

    def _store(self, places: Collection[Place]) -> None:
        """Store the prints of slices that were just written, so that changes by hand are noticed at any time."""
        for segment_id, prints in self._prints.items():
            prints.wrote(self._written_in(segment_id, places))

    def _written_in(self, segment_id: str, places: Collection[Place]) -> dict[int, npt.NDArray[np.bool_]]:
        """Return those slices that are of a segment, as the run wrote them."""
        return {index: self._step.written.get((one, index)) for one, index in places if one == segment_id}

    def sign(self) -> None:
        """Store in the segments what the run wrote, and of which volume they are the result."""
        if not self.valid or self._step.removed is not None:
            return
        segmentation = self._node.GetSegmentation()
        for segment_id, prints in self._prints.items():
            if segmentation.GetSegment(segment_id) is not None:
                prints.sign()
                claim(self._node, segment_id, self._volume)

    def _editable(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Return where a slice may change; None for everywhere."""
        layers, step = self._layers, self._step
        assert layers is not None
        run = tuple(self.segment_ids.values())

        def without_run(segment_id: str) -> npt.NDArray[np.bool_]:
            place = (segment_id, index)
            if segment_id in run and place in step.before.bits:
                return step.before.get(place)
            return layers.read(segment_id, index) | step.taken.get(place)

        allowed = self._rules.editable(layers.ids(), run, without_run)
        bright = self._intensities.plane(self._axis, index)
        if allowed is None or bright is None:
            return bright if allowed is None else allowed
        return allowed & bright

    def _take(self, segment_id: str, index: int, claimed: npt.NDArray[np.bool_]) -> None:
        """Remove the claimed voxels from another segment; give back those that only an earlier draft had claimed."""
        assert self._layers is not None
        place = (segment_id, index)
        held = self._step.taken.get(place)
        lost = self._layers.read(segment_id, index) & claimed
        if lost.any():
            self._layers.erase(segment_id, index, lost)
        self._layers.give(segment_id, index, held & ~claimed)
        if lost.any() or held.any():
            self._step.taken.put(place, lost | (held & claimed))

    def restore(self, indices: Collection[int], names: Collection[str] | None = None) -> None:
        """Put slices back as they were before the run, unless they were changed by hand since.

        Args:
            indices: The slices.
            names: The objects; all by default.
        """
        if not self.valid or self._step.removed is not None:
            return
        layers, step = self._layers, self._step
        assert layers is not None
        ids = {one for name, one in self.segment_ids.items() if names is None or name in names}
        for place in [one for one in step.before.bits if one[1] in indices and one[0] in ids]:
            if not layers.has(place[0]) or self._is_users(*place, layers.read(*place)):
                continue
            layers.write(*place, step.before.get(place))
            self._prints[place[0]].undone({place[1]})
            del step.before.bits[place]
            step.written.bits.pop(place, None)
        for place in [one for one in step.taken.bits if one[1] in indices and names is None]:
            if layers.has(place[0]):
                layers.give(*place, step.taken.get(place))
            del step.taken.bits[place]
        layers.announce()

    # --- undo -------------------------------------------------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        """Whether `undo` would do something."""
        return self.valid and self._step.removed is None and not self._step.is_empty

    @property
    def can_redo(self) -> bool:
        """Whether `redo` would do something."""
        return self.valid and self._step.removed is not None

    def undo(self) -> bool:
        """Undo the run: its slices, the voxels it took from other segments, and the segments it made.

        Later changes are kept: in other segments and slices, and slices of the run that were changed by hand since,
        which `left` then names. A segment that the run made stays if it has such slices. Until `redo`, nothing more is
        written.

        Returns:
            False if there is nothing to undo or a node no longer exists.
        """
        if not self.can_undo:
            return False
        layers, step = self._layers, self._step
        assert layers is not None
        order, self.left = layers.ids(), {}
        names = {one: name for name, one in self.segment_ids.items()}
        for place in list(step.before.bits):
            if not layers.has(place[0]):
                continue
            if self._is_users(*place, layers.read(*place)):
                self.left.setdefault(names[place[0]], set()).add(place[1])
                continue
            step.after.put(place, step.written.get(place))
            layers.write(*place, step.before.get(place))
        for place in step.taken.bits:
            if layers.has(place[0]):
                layers.give(*place, step.taken.get(place))
        layers.announce()
        segmentation = self._node.GetSegmentation()
        there = {one: segmentation.GetSegment(one) for one in step.created if layers.has(one)}
        there = {one: segment for one, segment in there.items() if not self._shown(one)}
        for name, segment_id in self.segment_ids.items():
            mine = {index for one, index in step.written.bits if one == segment_id}
            self._prints[segment_id].undone(mine - self.left.get(name, set()))
        for segment_id in there:
            segmentation.RemoveSegment(segment_id)
        step.removed = Removed(there, order)
        return True

    def redo(self) -> bool:
        """Redo what `undo` has reverted, except on slices that were changed since.

        Returns:
            False if there is nothing to redo or a node no longer exists.
        """
        if not self.can_redo:
            return False
        layers, step = self._layers, self._step
        assert layers is not None and step.removed is not None
        segmentation = self._node.GetSegmentation()
        for segment_id, segment in step.removed.segments.items():
            segmentation.AddSegment(segment, segment_id)
        new = [one for one in layers.ids() if one not in step.removed.order]
        segmentation.ReorderSegments([one for one in (*step.removed.order, *new) if layers.has(one)])
        step.removed, fresh = None, set()
        for place in step.after.bits:
            if not layers.has(place[0]) or self._prints[place[0]].is_accepted(place[1]):
                continue
            if np.array_equal(layers.read(*place), step.before.get(place)):
                layers.write(*place, step.after.get(place))
                fresh.add(place)
        self._store(fresh)
        for place in step.taken.bits:
            if layers.has(place[0]):
                layers.erase(*place, step.taken.get(place))
        layers.announce()
        step.after.bits.clear()
        self.sign()
        return True

    def restore_surfaces(self) -> bool:
        """Create the closed surfaces again if the segmentation had them before the run; slow, so only at its end.

        Every write removes them, because they would be outdated.
        """
        if not self.valid or not self._had_surface:
            return False
        return bool(self._node.GetSegmentation().CreateRepresentation(CLOSED_SURFACE))

    def close(self) -> None:
        """Release nodes and undo memory; the segments stay as they are. Call it when undo is no longer offered."""
        if self._layers is not None:
            self._layers.forget()
        self._layers = None
        self._step = Step((1, 1), ())
