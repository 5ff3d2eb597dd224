"""The target section: volume, scope and output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import qt
import slicer
import slicer.util
import vtk

from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.selectors import select_nothing_once_removed
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import TargetWidgets
from ProxyPromptSegmentModule.parameters import LAST
from ProxyPromptSegmentModule.scene.slice_views import fit_box, show_case, show_slice
from ProxyPromptSegmentModule.states import PromptBy, Scope
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import say

_AFTER_MOVING_MS = 100


class Observers(Protocol):
    """The observer functions of the host widget, which removes all observers when the module is closed."""

    def addObserver(  # noqa: D102
        self, obj: vtk.vtkObject, event: int, method: Callable[[vtk.vtkObject, str], None]
    ) -> None: ...

    def removeObserver(  # noqa: D102
        self, obj: vtk.vtkObject, event: int, method: Callable[[vtk.vtkObject, str], None]
    ) -> None: ...


class TargetSection(Section):
    """The selectors of volume, scope and output."""

    def __init__(self, widgets: TargetWidgets, state: PanelState, target: ChosenTarget, observers: Observers) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._target, self._observers = widgets, state, target, observers
        self._scopes: list[Scope] = []
        self._box: slicer.vtkMRMLMarkupsROINode | None = None
        self._moving = False
        ui = widgets
        ui.targetSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_target)
        ui.scopeCombo.connect("currentIndexChanged(int)", self.on_scope)
        ui.sliceRange.connect("valuesChanged(double,double)", self.on_range)
        ui.roiSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_box)
        ui.outputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_output)
        ui.honourEditorBox.connect("toggled(bool)", self.on_honour)
        select_nothing_once_removed(ui.targetSelector, ui.roiSelector, ui.outputSelector)

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the choices."""
        parameters, ui = self._state.parameters, self._ui
        ui.targetSelector.setCurrentNode(parameters.targetVolume)
        ui.outputSelector.setCurrentNode(parameters.outputSegmentation)
        ui.roiSelector.setCurrentNode(parameters.box)
        ui.honourEditorBox.checked = parameters.honourEditor
        self._show_scopes()
        scope, count = self._target.scope(), self._target.count()
        self._watch_box(parameters.box if scope == Scope.BOX else None)
        for widget, wanted in (
            (ui.sliceRange, Scope.SLICES),
            (ui.rangeCaption, Scope.SLICES),
            (ui.roiSelector, Scope.BOX),
            (ui.roiCaption, Scope.BOX),
        ):
            widget.setVisible(scope == wanted)
        for part in (ui.scopeCombo, ui.scopeCaption):
            part.setVisible(self._state.prompt_by != PromptBy.HAND)
        ui.sliceRange.setRange(0, max(0, count - 1))
        if scope == Scope.SLICES and count:
            chosen = self._target.slices() or (0,)
            ui.sliceRange.setValues(chosen[0], chosen[-1])
        others = self._target.others_in_output() if scope != Scope.SEQUENCE else []
        shared = _("The chosen segmentation belongs to {images}; its segments are kept and new ones are added.")
        shared = shared.format(images=", ".join(others)) if others else ""
        say(ui.scopeLabel, "\n".join([self._scope_words(scope, count), shared]))
        sequence = scope == Scope.SEQUENCE
        ui.outputSelector.setVisible(not sequence)
        ui.outputCaption.setVisible(not sequence)

    def _show_scopes(self) -> None:
        scopes, combo = self._target.possible_scopes(), self._ui.scopeCombo
        if scopes != self._scopes:
            self._scopes = scopes
            names = {
                Scope.WHOLE: _("Whole volume"),
                Scope.SLICES: _("Some slices"),
                Scope.BOX: _("Slices in a box"),
                Scope.LIVE: _("Slice on screen, live"),
                Scope.SEQUENCE: _("Whole sequence"),
            }
            combo.clear()
            for scope in scopes:
                combo.addItem(names[scope])
        combo.currentIndex = scopes.index(self._target.scope())

    def _scope_words(self, scope: Scope, count: int) -> str:
        if self._state.parameters.targetVolume is None or not count:
            return ""
        if scope == Scope.LIVE:
            return _("Press Apply, then scroll: each slice that comes on screen is segmented.")
        if scope == Scope.SEQUENCE:
            return _("Every item of the sequence; the result is a sequence of segmentations.")
        if self._state.prompt_by == PromptBy.HAND:
            return _("The slices that are marked.")
        slices = self._target.slices()
        if slices is not None:
            return _("{some} of {count} slices.").format(some=len(slices), count=count)
        if Scope.SEQUENCE in self._scopes:
            return _("The item of the sequence that is on screen: {count} slices.").format(count=count)
        return _("{count} slices.").format(count=count)

    # --- the box ----------------------------------------------------------------------------------------------

    def _watch_box(self, box: slicer.vtkMRMLMarkupsROINode | None) -> None:
        """Observe the box of `Scope.BOX`, which the user can move in the views."""
        if box is self._box:
            return
        event = slicer.vtkMRMLMarkupsNode.PointModifiedEvent
        if self._box is not None:
            self._observers.removeObserver(self._box, event, self.on_box_moved)
        self._box = box
        if box is not None:
            self._observers.addObserver(box, event, self.on_box_moved)

    def on_box_moved(self, caller: vtk.vtkObject, event: str) -> None:
        """Show how many slices the box intersects; delayed, because dragging sends an event for every pixel."""
        if not self._moving:
            self._moving = True
            qt.QTimer.singleShot(_AFTER_MOVING_MS, self._box_rests)

    def _box_rests(self) -> None:
        self._moving = False
        self._state.changed.emit()

    def close(self) -> None:
        """Stop observing the box."""
        self._watch_box(None)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_target(self, node: slicer.vtkMRMLVolumeNode | None) -> None:
        """Choose another target and show it; the former target's result is not written into any more."""
        if self._state.listening and node is not self._state.parameters.targetVolume:
            self._target.choose(node)
            if node is not None:
                show_case(slicer.mrmlScene, node, self._state.support_rows())

    def on_scope(self, index: int) -> None:
        """Store the scope."""
        if self._state.listening and 0 <= index < len(self._scopes):
            self._state.scope_leaving.emit()
            self._state.parameters.scope = self._scopes[index].value

    def on_range(self, first: float, last: float) -> None:
        """Store the range of slices; the views jump to the end that was moved."""
        if not self._state.listening:
            return
        parameters, count = self._state.parameters, self._target.count()
        low, high = round(first), round(last)
        moved = low if low != parameters.firstSlice else high
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.firstSlice = low
            parameters.lastSlice = LAST if high >= count - 1 else high
        if parameters.targetVolume is not None and 0 <= moved < count:
            show_slice(slicer.mrmlScene, parameters.targetVolume, self._target.axis(), moved)

    def on_box(self, node: slicer.vtkMRMLMarkupsROINode | None) -> None:
        """Store the box."""
        if self._state.listening:
            parameters = self._state.parameters
            if node is not None and parameters.targetVolume is not None:
                fit_box(parameters.targetVolume, node)
            parameters.box = node

    def on_output(self, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Store the output segmentation."""
        if self._state.listening:
            self._state.parameters.outputSegmentation = node

    def on_honour(self, checked: bool) -> None:
        """Store whether the Segment Editor's masking is respected."""
        if self._state.listening:
            self._state.parameters.honourEditor = checked
