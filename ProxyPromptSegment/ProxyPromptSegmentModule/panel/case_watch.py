"""Follows the case in the slice views, so that no other case's results or supports lie on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.scene.nodes import nodes_of
from ProxyPromptSegmentModule.scene.owners import results_of
from ProxyPromptSegmentModule.scene.slice_views import show_only_own, volume_on_screen

if TYPE_CHECKING:
    import vtk


class CaseWatch:
    """An observer of the image in the slice views, until `stop`.

    Only targets, supports and images with results count as cases: another image of the patient in the views, such as a
    second contrast, changes nothing.
    """

    def __init__(self, state: PanelState) -> None:
        """Derive the cases from the panel's state; nothing is observed yet."""
        self._state = state
        self._tags: list[tuple[vtk.vtkObject, int]] = []
        self._seen: set[str] = set()
        self._last: tuple[object, ...] = ()

    def look_again(self) -> None:
        """Observe views that were added, and follow cases that became supports or results."""
        for node in nodes_of(slicer.mrmlScene, slicer.vtkMRMLSliceCompositeNode):
            if node.GetID() not in self._seen:
                self._seen.add(node.GetID())
                self._tags.append((node, node.AddObserver("ModifiedEvent", self._on_view)))
        self.follow()

    def follow(self) -> None:
        """Hide what belongs to other cases than the one on screen, if that has changed."""
        if not self._state.has_scene:
            return
        shown, rows = volume_on_screen(slicer.mrmlScene), self._state.support_rows()
        if shown is None:
            return
        pairs = tuple((row.volume_id, row.segmentation_id) for row in rows)
        is_case = (
            shown is self._state.parameters.targetVolume
            or any(shown.GetID() == one for one, _annotation in pairs)
            or bool(results_of(slicer.mrmlScene, shown))
        )
        now = (shown, pairs, tuple(results_of(slicer.mrmlScene, shown)))
        if is_case and now != self._last:
            show_only_own(slicer.mrmlScene, shown, rows)
        self._last = now

    def _on_view(self, caller: vtk.vtkObject, event: str) -> None:
        if self._last and self._last[0] is not volume_on_screen(slicer.mrmlScene):
            self.follow()

    def stop(self) -> None:
        """Stop observing."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags, self._seen, self._last = [], set(), ()
