"""The mark of the point that "why" explains, in all views; it is not saved with the scene."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from ProxyPromptSegmentModule.scene.nodes import add_node, nodes_of
from ProxyPromptSegmentModule.translation import _

ATTRIBUTE = "ProxyPrompt.point"
"""Attribute that tells the mark from the user's own points."""


def mark_point(scene: slicer.vtkMRMLScene, ras: Sequence[float], label: str) -> slicer.vtkMRMLMarkupsFiducialNode:
    """Mark a world position; an earlier mark moves there.

    Args:
        scene: The scene.
        ras: The position in RAS mm.
        label: What is written beside it.
    """
    node = _mark_in(scene)
    if node is None:
        node = add_node(scene, slicer.vtkMRMLMarkupsFiducialNode, _("Explained point"))
        node.SetAttribute(ATTRIBUTE, "1")
        node.SetSaveWithScene(0)
        node.SetLocked(True)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        if display is not None:
            display.SetSaveWithScene(0)
    node.RemoveAllControlPoints()
    node.AddControlPoint(ras[0], ras[1], ras[2], label)
    return node


def unmark_point(scene: slicer.vtkMRMLScene) -> None:
    """Remove the mark."""
    node = _mark_in(scene)
    if node is not None:
        scene.RemoveNode(node)


def _mark_in(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLMarkupsFiducialNode | None:
    found = (node for node in nodes_of(scene, slicer.vtkMRMLMarkupsFiducialNode) if node.GetAttribute(ATTRIBUTE))
    return next(found, None)
