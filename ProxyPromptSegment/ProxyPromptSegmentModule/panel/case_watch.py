"""Follows the case in the slice views, so that no other case's results or supports lie on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.scene.nodes import in_scene, nodes_of
from ProxyPromptSegmentModule.scene.overlay import take_off_strays
from ProxyPromptSegmentModule.scene.owners import has_results, results_of
from ProxyPromptSegmentModule.scene.pairing import same_patient
from ProxyPromptSegmentModule.scene.slice_views import show_only_own, volume_on_screen

if TYPE_CHECKING:
    import vtk


class CaseWatch:
    """An observer of the image in the slice views, until `stop`.

    Targets, supports and images with results are cases. Another image of the patient in the views, such as a second
    contrast of the same study or grid, changes nothing; any other image is a case as well.
    """

    def __init__(self, state: PanelState) -> None:
        """Derive the cases from the panel's state; nothing is observed yet."""
        self._state = state
        self._tags: list[tuple[vtk.vtkObject, int]] = []
        self._seen: set[str] = set()
        self._last: tuple[object, ...] = ()
        self._case: slicer.vtkMRMLVolumeNode | None = None

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
            self._last = ()  # whatever comes on screen next is looked at again
            return
        pairs = tuple((row.volume_id, row.segmentation_id) for row in rows)
        is_case = (
            shown is self._state.parameters.targetVolume
            or any(shown.GetID() == one for one, _annotation in pairs)
            or has_results(slicer.mrmlScene, shown)
            or not self._is_of_case(shown)
        )
        # an image on screen can become a case, such as the target, when its supports were looked at already
        now = (shown, is_case, pairs, tuple(results_of(slicer.mrmlScene, shown)))
        if is_case:
            self._case = shown
            if now != self._last:
                show_only_own(slicer.mrmlScene, shown, rows)
        self._last = now

    def _is_of_case(self, shown: slicer.vtkMRMLVolumeNode) -> bool:
        """Return whether an image belongs to the case on screen: the last in the views, or the target."""
        case = self._case if in_scene(self._case) else self._state.parameters.targetVolume
        return case is None or same_patient(shown, case)

    def _on_view(self, caller: vtk.vtkObject, event: str) -> None:
        take_off_strays(slicer.mrmlScene)  # any view, not only the first
        before = self._last[0] if self._last else None  # None: the views were empty so far
        if before is not volume_on_screen(slicer.mrmlScene):
            self.follow()

    def stop(self) -> None:
        """Stop observing."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags, self._seen, self._last, self._case = [], set(), (), None
