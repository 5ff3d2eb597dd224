"""Follows the names of the images of the scene, which the list of cases shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.scene.nodes import nodes_of

if TYPE_CHECKING:
    import vtk


class NameWatch:
    """An observer of the volumes of the scene that shows the panel again after one was renamed, until `stop`."""

    def __init__(self, state: PanelState) -> None:
        """Observe nothing yet."""
        self._state = state
        self._names: dict[str, str] = {}
        self._watched: dict[str, tuple[slicer.vtkMRMLScalarVolumeNode, int]] = {}

    def look_again(self) -> None:
        """Observe volumes that were added, and let go of removed ones, whose voxels would stay in memory otherwise."""
        there = {node.GetID(): node for node in nodes_of(slicer.mrmlScene, slicer.vtkMRMLScalarVolumeNode)}
        for identifier, (node, _tag) in list(self._watched.items()):
            if there.get(identifier) is not node:
                self._let_go(identifier)
        for identifier, node in there.items():
            if identifier not in self._watched:
                self._watched[identifier] = (node, node.AddObserver("ModifiedEvent", self._on_volume))
            self._names[identifier] = node.GetName()

    def _let_go(self, identifier: str) -> None:
        node, tag = self._watched.pop(identifier)
        node.RemoveObserver(tag)
        self._names.pop(identifier, None)

    def _on_volume(self, caller: vtk.vtkObject, event: str) -> None:
        """Act only on another name: volumes change in other ways all the time."""
        renamed = isinstance(caller, slicer.vtkMRMLScalarVolumeNode) and (
            self._names.get(caller.GetID()) != caller.GetName()
        )
        if renamed and self._state.listening and not slicer.mrmlScene.IsBatchProcessing():
            self._state.changed.emit()

    def stop(self) -> None:
        """Stop observing."""
        for identifier in list(self._watched):
            self._let_go(identifier)
