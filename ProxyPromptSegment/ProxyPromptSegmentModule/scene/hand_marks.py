"""Points and boxes by hand as Markups nodes, each of one target and one object, and what they say in voxels.

A mark refers to its target by a node reference, so that it is saved with the scene, follows an import, and is never
read for another image. Marks of a result go with it: if the segmentation is removed, so are they.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import slicer

from ProxyPromptSegmentLib.inference.by_hand.prompts import DEFAULT_OBJECT
from ProxyPromptSegmentModule.scene.mark_boxes import corners_of_box
from ProxyPromptSegmentModule.scene.nodes import add_node, in_scene, nodes_of
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
    return int(corners_of_box(node) is not None)


def new_mark(target: slicer.vtkMRMLVolumeNode, kind: Mark, name: str) -> slicer.vtkMRMLMarkupsNode:
    """Return the node for further clicks on an object of a target, or a new one for a box."""
    scene = target.GetScene()
    assert scene is not None  # a node that is shown has a scene
    if kind != Mark.BOX:
        for node in marks_of(scene, target):
            if kind_of(node) == kind and object_of(node).casefold() == name.casefold():
                return node
    words = {Mark.INSIDE: _("inside"), Mark.OUTSIDE: _("outside"), Mark.BOX: _("box")}
    title = f"{name} {words[kind]}"
    made: slicer.vtkMRMLMarkupsNode
    if kind == Mark.BOX:
        made = add_node(scene, slicer.vtkMRMLMarkupsROINode, title)
    else:
        made = add_node(scene, slicer.vtkMRMLMarkupsFiducialNode, title)
    made.SetAttribute(KIND, kind.value)
    made.SetAttribute(OBJECT, name)
    made.SetNodeReferenceID(TARGET, target.GetID())
    made.CreateDefaultDisplayNodes()
    display: slicer.vtkMRMLMarkupsDisplayNode | None = made.GetDisplayNode()
    if display is not None:
        display.SetSelectedColor(*_COLORS[kind])
        display.SetColor(*_COLORS[kind])
        display.SetActiveColor(*_COLORS[kind])  # under the mouse; Slicer's is green, as inside
        if kind == Mark.BOX:
            display.SetFillVisibility(False)
            display.SetPropertiesLabelVisibility(False)
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
            found = [(order_of(node, place), place) for place in defined_in(node)]
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


# --- their order --------------------------------------------------------------------------------------------------


def number_marks(scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode) -> None:
    """Give the new marks on a target numbers, in the order in which they were made."""
    nodes = marks_of(scene, target)
    known = [order_of(node, place) for node in nodes if kind_of(node) != Mark.BOX for place in defined_in(node)]
    known += [_number(node.GetAttribute(_ORDER)) for node in nodes if kind_of(node) == Mark.BOX]
    following = itertools.count(max(known, default=0) + 1)
    for node in nodes:
        if kind_of(node) == Mark.BOX:
            if not node.GetAttribute(_ORDER) and count_of(node):
                node.SetAttribute(_ORDER, str(next(following)))
            continue
        for place in defined_in(node):
            if not order_of(node, place):
                node.SetNthControlPointDescription(place, str(next(following)))


_ORDER = "ProxyPrompt.order"


def order_of(node: slicer.vtkMRMLMarkupsNode, place: int) -> int:
    """Return the number of a click among all marks on its target; 0 if it has none yet."""
    return _number(node.GetNthControlPointDescription(place))


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def defined_in(node: slicer.vtkMRMLMarkupsNode) -> list[int]:
    """Return the places of clicks that were made, without the one that follows the mouse."""
    places = range(node.GetNumberOfControlPoints())
    return [place for place in places if node.GetNthControlPointPositionStatus(place) == node.PositionDefined]
