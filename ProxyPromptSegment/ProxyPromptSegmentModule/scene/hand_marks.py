"""Points and boxes by hand as Markups nodes, each of one target and one object, and what they say in voxels.

A mark refers to its target by a node reference, so that it is saved with the scene, follows an import, and is never
read for another image. Marks of a result go with it: if the segmentation is removed, so are they.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import slicer

from ProxyPromptSegmentLib.imaging.geometry import Axis, axis_number
from ProxyPromptSegmentLib.inference.by_hand.prompts import DEFAULT_OBJECT, ByHand, VoxelBox, VoxelMask, VoxelPoint
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.masks import segmentation_of
from ProxyPromptSegmentModule.scene.nodes import add_node, check_volume, geometry_of, in_scene, nodes_of
from ProxyPromptSegmentModule.scene.owners import is_result, is_whole
from ProxyPromptSegmentModule.scene.terminology import tag_of
from ProxyPromptSegmentModule.states import Mark
from ProxyPromptSegmentModule.translation import _

KIND = "ProxyPrompt.mark"
"""Attribute of a mark: a `Mark`."""
OBJECT = "ProxyPrompt.markedObject"
"""Attribute of a mark: name of the object that is pointed at."""
TARGET = "ProxyPrompt.markedTarget"
"""Reference role of a mark, to its volume."""
RESULT = "ProxyPrompt.markedResult"
"""Reference role of a mark, to the segmentation that answers it; also an attribute, which outlives the segmentation."""
_HIDDEN = "ProxyPrompt.hidden"
"""Attribute of a mark that was hidden because another image is shown."""

_COLORS = {Mark.INSIDE: (0.2, 0.85, 0.2), Mark.OUTSIDE: (0.95, 0.25, 0.2), Mark.BOX: (0.2, 0.85, 0.2)}


# --- nodes ------------------------------------------------------------------------------------------------------


def marks_of(scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode | None) -> list[slicer.vtkMRMLMarkupsNode]:
    """Return the marks on a target."""
    return [node for node in all_marks(scene) if target is not None and node.GetNodeReference(TARGET) is target]


def all_marks(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLMarkupsNode]:
    """Return the marks on all targets."""
    return [node for node in nodes_of(scene, slicer.vtkMRMLMarkupsNode) if node.GetAttribute(KIND)]


def kind_of(node: slicer.vtkMRMLMarkupsNode) -> Mark:
    """Return what a mark is."""
    said = node.GetAttribute(KIND)
    return Mark(said) if said in tuple(Mark) else Mark.INSIDE


def object_of(node: slicer.vtkMRMLMarkupsNode) -> str:
    """Return the name of the object that a mark points at."""
    return node.GetAttribute(OBJECT) or DEFAULT_OBJECT


def marked_objects(scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode | None) -> list[str]:
    """Return the names of the objects that are pointed at on a target."""
    return list(dict.fromkeys(object_of(node) for node in marks_of(scene, target) if count_of(node)))


def count_of(node: slicer.vtkMRMLMarkupsNode) -> int:
    """Return the number of clicks of a mark, or 1 for a box that is drawn."""
    if kind_of(node) != Mark.BOX:
        return node.GetNumberOfDefinedControlPoints()
    return int(_corners_of_box(node) is not None)


def new_mark(target: slicer.vtkMRMLVolumeNode, kind: Mark, name: str) -> slicer.vtkMRMLMarkupsNode:
    """Return the node for further clicks on an object of a target, or a new one for a box."""
    scene = target.GetScene()
    assert scene is not None  # somebody is looking at it
    if kind != Mark.BOX:
        for node in marks_of(scene, target):
            if kind_of(node) == kind and object_of(node).casefold() == name.casefold():
                return node
    words = {Mark.INSIDE: _("inside"), Mark.OUTSIDE: _("outside"), Mark.BOX: _("box")}
    title = f"{name} {words[kind]}"
    made: slicer.vtkMRMLMarkupsNode
    if kind == Mark.BOX:
        made = add_node(scene, slicer.vtkMRMLMarkupsROINode, scene.GetUniqueNameByString(title))
    else:
        made = add_node(scene, slicer.vtkMRMLMarkupsFiducialNode, scene.GetUniqueNameByString(title))
    made.SetAttribute(KIND, kind.value)
    made.SetAttribute(OBJECT, name)
    made.SetNodeReferenceID(TARGET, target.GetID())
    made.CreateDefaultDisplayNodes()
    display: slicer.vtkMRMLMarkupsDisplayNode | None = made.GetDisplayNode()
    if display is not None:
        display.SetSelectedColor(*_COLORS[kind])
        display.SetColor(*_COLORS[kind])
        if kind == Mark.BOX:
            display.SetFillVisibility(False)
        else:
            display.SetPointLabelsVisibility(False)
    return made


def answered_by(nodes: Sequence[slicer.vtkMRMLMarkupsNode], segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    """Store which segmentation answers marks, so that they go with it."""
    for node in nodes:
        if node.GetNodeReferenceID(RESULT) != segmentation.GetID():
            node.SetNodeReferenceID(RESULT, segmentation.GetID())
            node.SetAttribute(RESULT, "1")


def remove_marks(scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode) -> None:
    """Remove all marks on a target."""
    for node in marks_of(scene, target):
        scene.RemoveNode(node)


def remove_last(scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode) -> bool:
    """Remove the mark on a target that was made last; return whether there was one."""
    latest: tuple[int, slicer.vtkMRMLMarkupsNode, int] | None = None
    for node in marks_of(scene, target):
        if kind_of(node) == Mark.BOX:
            found = [(_number(node.GetAttribute(_ORDER)), -1)] if count_of(node) else []
        else:
            found = [(_order_of(node, place), place) for place in _defined(node)]
        for order, place in found:
            if latest is None or order > latest[0]:
                latest = (order, node, place)
    if latest is None:
        return False
    _number_of_it, node, place = latest
    if place < 0:
        scene.RemoveNode(node)
    else:
        node.RemoveNthControlPoint(place)
    return True


def forget_lost(scene: slicer.vtkMRMLScene) -> None:
    """Remove marks whose target, or whose result, was removed."""
    for node in all_marks(scene):
        lost = node.GetAttribute(RESULT) and not in_scene(node.GetNodeReference(RESULT))
        if lost or not in_scene(node.GetNodeReference(TARGET)):
            scene.RemoveNode(node)


def show_marks(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode) -> None:
    """Hide marks on other images; show those of a volume that were hidden for that reason."""
    for node in all_marks(scene):
        display = node.GetDisplayNode()
        if display is None:
            continue
        own, hidden = node.GetNodeReference(TARGET) is volume, bool(node.GetAttribute(_HIDDEN))
        if own and hidden:
            node.RemoveAttribute(_HIDDEN)
            display.SetVisibility(True)
        elif not own and display.GetVisibility():
            node.SetAttribute(_HIDDEN, "1")
            display.SetVisibility(False)


# --- painted masks ------------------------------------------------------------------------------------------------

PAINTED = "ProxyPromptSegment.Mask"
"""Tag of a segment that was chosen as a prompt: the name of the object."""


def paintings(
    scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode | None
) -> list[tuple[slicer.vtkMRMLSegmentationNode, str]]:
    """Return the segments that the user has drawn on a target; results are not among them."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    found = []
    for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode):
        if target is not None and node.GetNodeReference(role) is target and not is_whole(node):
            ids = node.GetSegmentation().GetSegmentIDs()
            found += [(node, one) for one in ids if not is_result(node, one)]
    return found


def painted_masks(
    scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode | None
) -> list[tuple[slicer.vtkMRMLSegmentationNode, str, str]]:
    """Return the drawn segments that were chosen as prompts, with the names of their objects."""
    found = []
    for node, segment_id in paintings(scene, target):
        name = tag_of(node.GetSegmentation().GetSegment(segment_id), PAINTED)
        if name:
            found.append((node, segment_id, name))
    return found


def choose_painting(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, name: str) -> None:
    """Choose a drawn segment as the prompt of an object; "" for no longer."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    if name:
        segment.SetTag(PAINTED, name)
    else:
        segment.RemoveTag(PAINTED)


# --- what they say ------------------------------------------------------------------------------------------------


def said_by(
    scene: slicer.vtkMRMLScene,
    target: slicer.vtkMRMLVolumeNode,
    axis: Axis,
    masks: Sequence[tuple[slicer.vtkMRMLSegmentationNode, str, str]] = (),
) -> ByHand:
    """Return what the marks on a target say, in voxels; what lies outside of the image is left out.

    Args:
        scene: The scene.
        target: The volume.
        axis: Axis across its slices; a box that was drawn on a slice stays on it.
        masks: Painted masks: segmentation, segment id and name of the object.

    Raises:
        ProxyPromptError: If a mask cannot be read.
    """
    points: list[tuple[int, VoxelPoint]] = []
    boxes: list[VoxelBox] = []
    for node in marks_of(scene, target):
        name, kind = object_of(node), kind_of(node)
        if kind == Mark.BOX:
            box = _voxel_box(node, target, axis)
            boxes += [box] if box is not None else []
            continue
        for place in _defined(node):
            ijk = ijk_of(target, node.GetNthControlPointPositionWorld(place))
            if _lies_inside(target, ijk):
                points.append((_order_of(node, place), VoxelPoint(ijk, kind == Mark.INSIDE, name)))
    painted: list[VoxelMask] = []
    for segmentation, segment_id, name in masks:
        read, _notes = segmentation_of(segmentation, target, [segment_id])
        if read.segments[0].mask.any():
            painted.append(VoxelMask(read.segments[0].mask, name))
    points.sort(key=lambda one: one[0])
    return ByHand(tuple(point for _order, point in points), tuple(boxes), tuple(painted))


def only_on(said: ByHand, axis: Axis, slices: Sequence[int] | None, names: Sequence[str]) -> ByHand:
    """Return what is said of some objects on some slices; of a box it needs all of its slices.

    Args:
        said: What is said.
        axis: Axis across the slices.
        slices: The slices; None means all.
        names: Names of the objects.
    """
    across, known = 2 - axis_number(axis), {name.casefold() for name in names}
    wanted = None if slices is None else set(slices)

    def is_wanted(first: float, last: float, name: str | None) -> bool:
        spanned = range(math.floor(first + 0.5), math.floor(last + 0.5) + 1)
        return (name or "").casefold() in known and (wanted is None or wanted.issuperset(spanned))

    return ByHand(
        tuple(one for one in said.points if is_wanted(one.ijk[across], one.ijk[across], one.object)),
        tuple(one for one in said.boxes if is_wanted(one.first[across], one.last[across], one.object)),
        tuple(one for one in said.masks if wanted is None and one.object.casefold() in known),
    )


def ijk_of(volume: slicer.vtkMRMLVolumeNode, ras: Sequence[float]) -> tuple[float, float, float]:
    """Return the voxel at a world position with its fractions; also outside of the volume."""
    from_world = lattices.transform_between(None, volume.GetParentTransformNode())
    local = np.append(from_world.TransformPoint([float(x) for x in ras]), 1.0)
    i, j, k = (np.linalg.inv(lattices.ijk_to_ras(volume)) @ local)[:3].tolist()
    return i, j, k


def number_marks(scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode) -> None:
    """Give the new marks on a target numbers, in the order in which they were made."""
    nodes = marks_of(scene, target)
    known = [_order_of(node, place) for node in nodes if kind_of(node) != Mark.BOX for place in _defined(node)]
    known += [_number(node.GetAttribute(_ORDER)) for node in nodes if kind_of(node) == Mark.BOX]
    following = itertools.count(max(known, default=0) + 1)
    for node in nodes:
        if kind_of(node) == Mark.BOX:
            if not node.GetAttribute(_ORDER) and count_of(node):
                node.SetAttribute(_ORDER, str(next(following)))
            continue
        for place in _defined(node):
            if not _order_of(node, place):
                node.SetNthControlPointDescription(place, str(next(following)))


_ORDER = "ProxyPrompt.order"


def _order_of(node: slicer.vtkMRMLMarkupsNode, place: int) -> int:
    """Return the number of a click among all marks on its target; 0 if it has none yet."""
    return _number(node.GetNthControlPointDescription(place))


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _defined(node: slicer.vtkMRMLMarkupsNode) -> list[int]:
    """Return the places of clicks that were made, without the one that follows the mouse."""
    places = range(node.GetNumberOfControlPoints())
    return [place for place in places if node.GetNthControlPointPositionStatus(place) == node.PositionDefined]


def _lies_inside(volume: slicer.vtkMRMLVolumeNode, ijk: Sequence[float]) -> bool:
    sizes = check_volume(volume).GetDimensions()
    return all(-0.5 <= value < size - 0.5 for value, size in zip(ijk, sizes, strict=True))


def _corners_of_box(node: slicer.vtkMRMLMarkupsNode) -> list[tuple[float, float, float]] | None:
    """Return the corners of a box in the world, RAS mm; None before it is drawn."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    if bounds[0] > bounds[1] or not isinstance(node, slicer.vtkMRMLMarkupsROINode):
        return None
    to_world, half = node.GetObjectToWorldMatrix(), [size / 2 for size in node.GetSize()]
    if sum(size > 0 for size in half) < 2:  # a corner only
        return None
    corners = [
        to_world.MultiplyPoint([x * half[0], y * half[1], z * half[2], 1.0])[:3]
        for x, y, z in itertools.product((-1, 1), repeat=3)
    ]
    return [(r, a, s) for r, a, s in corners]


def _voxel_box(node: slicer.vtkMRMLMarkupsNode, volume: slicer.vtkMRMLVolumeNode, axis: Axis) -> VoxelBox | None:
    """Return a box in voxels, as far as it lies in the image; None if it does not, or has no area on a slice."""
    corners = _corners_of_box(node)
    if corners is None:
        return None
    places = np.array([ijk_of(volume, corner) for corner in corners])
    sizes = np.array(check_volume(volume).GetDimensions())
    low, high = places.min(axis=0), places.max(axis=0)
    if (high < -0.5).any() or (low >= sizes - 0.5).any():
        return None
    across = 2 - axis_number(axis)
    middle = (low[across] + high[across]) / 2
    # half a voxel at each end belongs to the slices beside it: a thin box stays on its slice
    low[across], high[across] = min(low[across] + 0.49, middle), max(high[across] - 0.49, middle)
    low, high = np.clip(low, 0, sizes - 1), np.clip(high, 0, sizes - 1)
    if any(low[n] >= high[n] for n in range(3) if n != across):
        return None
    (i, j, k), (to_i, to_j, to_k) = low.tolist(), high.tolist()
    return VoxelBox((i, j, k), (to_i, to_j, to_k), object_of(node))


def lay_on_slice(node: slicer.vtkMRMLMarkupsNode, volume: slicer.vtkMRMLVolumeNode, axis: Axis, index: int) -> None:
    """Make a box that was just drawn as thin as a slice, along the axes of the volume; later changes of it stay."""
    corners = _corners_of_box(node)
    if corners is None or node.GetAttribute(_LAID) or not isinstance(node, slicer.vtkMRMLMarkupsROINode):
        return
    places = np.array([ijk_of(volume, corner) for corner in corners])
    across = 2 - axis_number(axis)
    low, high = places.min(axis=0), places.max(axis=0)
    low[across], high[across] = index - _THIN / 2, index + _THIN / 2
    geometry = geometry_of(volume)
    directions = np.diag([-1.0, -1.0, 1.0]) @ np.asarray(geometry.direction)
    if np.linalg.det(directions) < 0:  # a box is rotated, never mirrored
        directions[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = directions
    middle = np.array([-1.0, -1.0, 1.0]) * np.asarray(geometry.index_to_lps((low + high) / 2))
    node.SetAttribute(_LAID, "1")
    node.SetAndObserveObjectToNodeMatrix(lattices.vtk_matrix_of(matrix))
    node.SetCenterWorld(*middle.tolist())
    node.SetSizeWorld(*((high - low) * np.asarray(geometry.spacing_mm)).tolist())


_LAID = "ProxyPrompt.laid"
"""Attribute of a box that was laid on a slice."""
_THIN = 0.9
"""Thickness of a box on a slice, in slices."""
