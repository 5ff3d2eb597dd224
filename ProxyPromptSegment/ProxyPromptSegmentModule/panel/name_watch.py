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
        self._tags: list[tuple[vtk.vtkObject, int]] = []

    def look_again(self) -> None:
        """Observe volumes that were added."""
        for node in nodes_of(slicer.mrmlScene, slicer.vtkMRMLScalarVolumeNode):
            if node.GetID() not in self._names:
                self._tags.append((node, node.AddObserver("ModifiedEvent", self._on_volume)))
            self._names[node.GetID()] = node.GetName()

    def _on_volume(self, caller: vtk.vtkObject, event: str) -> None:
        """Act only on another name: volumes change in other ways all the time."""
        renamed = isinstance(caller, slicer.vtkMRMLScalarVolumeNode) and (
            self._names.get(caller.GetID()) != caller.GetName()
        )
        if renamed and self._state.listening and not slicer.mrmlScene.IsBatchProcessing():
            self._state.changed.emit()

    def stop(self) -> None:
        """Stop observing."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags, self._names = [], {}
