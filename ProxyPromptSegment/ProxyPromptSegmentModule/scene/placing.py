"""Placing marks with the mouse: Slicer's place mode, begun for one node and ended."""

from __future__ import annotations

from collections.abc import Callable

import slicer
import vtk


class Placing:
    """The place mode of the application, while it places a given node; the user may leave it at any time."""

    def __init__(self, told: Callable[[], None]) -> None:
        """Call ``told`` when the place mode begins or ends, also by the application's own button."""
        self._told = told
        self._node: slicer.vtkMRMLMarkupsNode | None = None
        self._tag: tuple[slicer.vtkMRMLInteractionNode, int] | None = None

    def start(self, node: slicer.vtkMRMLMarkupsNode, again: bool) -> None:
        """Place points of a node; with ``again`` one after another until `stop`."""
        interaction = self._interaction()
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
        selection.SetActivePlaceNodeID(node.GetID())
        self._node = node
        interaction.SetPlaceModePersistence(int(again))
        interaction.SetCurrentInteractionMode(interaction.Place)

    def stop(self) -> None:
        """End placing, if it is ours."""
        if self.node is not None:
            interaction = self._interaction()
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self._node = None

    def close(self) -> None:
        """End placing, and stop observing."""
        self.stop()
        if self._tag is not None:
            self._tag[0].RemoveObserver(self._tag[1])
            self._tag = None

    @property
    def node(self) -> slicer.vtkMRMLMarkupsNode | None:
        """The node that is being placed; None if none of ours is."""
        node = self._node
        if node is None or node.GetScene() is None:
            return None
        interaction = self._interaction()
        selection = slicer.app.applicationLogic().GetSelectionNode()
        placing = interaction.GetCurrentInteractionMode() == interaction.Place
        return node if placing and selection.GetActivePlaceNodeID() == node.GetID() else None

    def _interaction(self) -> slicer.vtkMRMLInteractionNode:
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if self._tag is None or self._tag[0] is not interaction:
            if self._tag is not None:
                self._tag[0].RemoveObserver(self._tag[1])
            tag = interaction.AddObserver(interaction.InteractionModeChangedEvent, self._changed)
            self._tag = (interaction, tag)
        return interaction

    def _changed(self, caller: vtk.vtkObject, event: str) -> None:
        self._told()
