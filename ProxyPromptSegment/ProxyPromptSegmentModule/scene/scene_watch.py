"""Hears when the scene is closed or saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer

if TYPE_CHECKING:
    import vtk


class SceneWatch:
    """Observes a scene until `close`."""

    def __init__(
        self, scene: slicer.vtkMRMLScene, when_closed: Callable[[], None], when_saved: Callable[[], None]
    ) -> None:
        """Observe a scene.

        Args:
            scene: The scene.
            when_closed: Called before its nodes are removed.
            when_saved: Called before its nodes are written, into files or into a bundle.
        """
        self._scene, self._when_closed, self._when_saved = scene, when_closed, when_saved
        self._folder = scene.GetRootDirectory() or ""
        self._tags = [
            scene.AddObserver(event, called)
            for event, called in (
                (slicer.vtkMRMLScene.StartCloseEvent, self._on_closing),
                (slicer.vtkMRMLScene.StartSaveEvent, self._on_saving),
                ("ModifiedEvent", self._on_changes),
            )
        ]

    def close(self) -> None:
        """Stop observing."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags.clear()

    def _on_closing(self, caller: vtk.vtkObject, event: str) -> None:
        self._when_closed()

    def _on_saving(self, caller: vtk.vtkObject, event: str) -> None:
        if not self._scene.IsClosing():
            self._when_saved()

    def _on_changes(self, caller: vtk.vtkObject, event: str) -> None:
        """Act only if the root folder is another, which a bundle sets before it writes the nodes; not for each node."""
        folder = self._scene.GetRootDirectory() or ""
        if folder != self._folder:
            self._folder = folder
            self._on_saving(caller, event)
