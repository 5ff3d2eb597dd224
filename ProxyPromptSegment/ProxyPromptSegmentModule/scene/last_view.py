"""The slice view that the user scrolled or clicked last: the one that "the slice on screen" means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentModule.scene.nodes import nodes_of
from ProxyPromptSegmentModule.scene.slice_views import parallel_views, slice_in_view

if TYPE_CHECKING:
    import vtk

_CLICKS = ("LeftButtonPressEvent", "MouseWheelForwardEvent", "MouseWheelBackwardEvent")

Called = Callable[["vtk.vtkObject", str], None]
Interactors = Callable[[], Mapping[str, "vtk.vtkRenderWindowInteractor"]]


class LastView:
    """An observer that remembers the slice view that was scrolled or clicked last, until `stop`."""

    def __init__(self, scene: slicer.vtkMRMLScene, interactors: Interactors) -> None:
        """Observe the slice views of a scene.

        Args:
            scene: The scene.
            interactors: Returns the interactors of the slice views by the views' layout names.
        """
        self._scene, self._interactors = scene, interactors
        self._last = ""
        self._offsets: dict[str, float] = {}
        self._tags: list[tuple[vtk.vtkObject, int]] = []
        self._seen: set[str] = set()
        self.look_again()

    def look_again(self) -> None:
        """Observe the views that were added since, for example by another layout."""
        for node in nodes_of(self._scene, slicer.vtkMRMLSliceNode):
            name = node.GetLayoutName()
            if name not in self._seen:
                self._seen.add(name)
                self._offsets[name] = node.GetSliceOffset()
                self._tags.append((node, node.AddObserver("ModifiedEvent", self._moved(node, name))))
        for name, interactor in self._interactors().items():
            if f"click {name}" not in self._seen:
                self._seen.add(f"click {name}")
                for event in _CLICKS:
                    self._tags.append((interactor, interactor.AddObserver(event, self._clicked(name), 100.0)))

    def slice_on_screen(self, volume: slicer.vtkMRMLVolumeNode, axis: Axis) -> tuple[int | None, dict[str, int]]:
        """Return the slice of a volume that the user looks at, and the slices of all views in question.

        Returns:
            The slice, or None if no view shows one, or if several views show different ones and none of them was
            scrolled or clicked; and the slice that each view shows, by the view's name.
        """
        shown = {}
        for node in parallel_views(self._scene, volume, axis):
            index = slice_in_view(node, volume, axis)
            if index is not None:
                shown[node.GetLayoutName()] = index
        if self._last in shown:
            return shown[self._last], shown
        different = set(shown.values())
        return (different.pop() if len(different) == 1 else None), shown

    def _moved(self, node: slicer.vtkMRMLSliceNode, name: str) -> Called:
        def moved(caller: vtk.vtkObject, event: str) -> None:
            if self._offsets.get(name) != node.GetSliceOffset():
                self._offsets[name] = node.GetSliceOffset()
                self._last = name

        return moved

    def _clicked(self, name: str) -> Called:
        def clicked(caller: vtk.vtkObject, event: str) -> None:
            self._last = name

        return clicked

    def stop(self) -> None:
        """Stop observing."""
        for one, tag in self._tags:
            one.RemoveObserver(tag)
        self._tags, self._seen = [], set()
