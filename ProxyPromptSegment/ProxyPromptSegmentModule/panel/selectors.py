"""What all selectors of nodes of the panel have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import slicer


def select_nothing_once_removed(*selectors: slicer.qMRMLNodeComboBox) -> None:
    """Let selectors show that nothing is chosen once their node is removed from the scene.

    Slicer's selector then shows another node as if the user had chosen it: a result would be written into the
    annotation of a support or into another patient's result.
    """
    for selector in selectors:
        _observe(selector)


def _observe(selector: slicer.qMRMLNodeComboBox) -> None:
    def removed(node: slicer.vtkMRMLNode | None) -> None:
        if node is not None and selector.currentNode() is node:
            selector.setCurrentNode(None)

    selector.connect("nodeAboutToBeRemoved(vtkMRMLNode*)", removed)
