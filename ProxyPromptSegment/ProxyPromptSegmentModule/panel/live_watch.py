"""Observer of the slice of a volume that is on screen, for the live preview."""

from __future__ import annotations

from collections.abc import Callable

import slicer
import vtk

from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentModule.scene.slice_views import slice_nodes, slice_on_screen


class LiveWatch:
    """An observer that reports each new slice on screen, until `stop`.

    Attributes:
        seen: The slice that was reported last; None before the first.
    """

    def __init__(
        self, scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode, axis: Axis, told: Callable[[int], None]
    ) -> None:
        """Observe the slice views."""
        self._scene, self._volume, self._axis, self._told = scene, volume, axis, told
        self.seen: int | None = None
        self._tags = [(node, node.AddObserver("ModifiedEvent", self._changed)) for node in slice_nodes(scene)]

    def look(self) -> None:
        """Report the slice on screen if it has changed."""
        if not self._tags or self._scene.IsNodePresent(self._volume) == 0:
            return
        index = slice_on_screen(self._scene, self._volume, self._axis)
        if index is not None and index != self.seen:
            self.seen = index
            self._told(index)

    def _changed(self, caller: vtk.vtkObject, event: str) -> None:
        self.look()

    def stop(self) -> None:
        """Stop observing."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
