"""What is segmented, how much of it, and where the result goes."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import slicer.util

from ProxyPromptSegmentModule.parameters import BOX, LAST, LIVE, SCOPES, SEQUENCE, SLICES, WHOLE
from ProxyPromptSegmentModule.runs.destinations import MADE_FOR
from ProxyPromptSegmentModule.scene.slice_views import (
    fit_box,
    show_case,
    show_slice,
    slice_count,
    slices_in_box,
    slicing_axis,
)
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import explained, say

_AFTER_MOVING_MS = 100


class TargetSection:
    """Selectors of volume, scope and output."""

    def __init__(self, panel: Any) -> None:
        """Connects the widgets."""
        self.panel, self.ui = panel, panel.ui
        self._scopes: list[str] = []
        self._axis: str | None = None
        self._box: Any = None
        self._moving = False
        ui = self.ui
        ui.targetSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_target)
        ui.scopeCombo.connect("currentIndexChanged(int)", self.on_scope)
        ui.sliceRange.connect("valuesChanged(double,double)", self.on_range)
        ui.roiSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_box)
        ui.outputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.on_output)
        ui.honourEditorBox.connect("toggled(bool)", self.on_honour)

    # --- what is chosen ---------------------------------------------------------------------------------------

    def choose_defaults(self) -> None:
        """The first volume that is no support; with a single one in the scene, that one."""
        parameters = self.panel.parameters
        if parameters.targetVolume is None:
            found = self._volumes_beside_supports()
            if found:
                parameters.targetVolume = found[0]
                parameters.scope = self._usual_scope(found[0])

    def leave_support_alone(self) -> None:
        """After a support was added: a target that was only a guess and is that support gives way to another volume."""
        parameters, target = self.panel.parameters, self.panel.parameters.targetVolume
        if target is not None and target is parameters.supportVolume and self.panel.run is None:
            others = self._volumes_beside_supports()
            if others:
                self._choose(others[0])

    def _volumes_beside_supports(self) -> list[Any]:
        parameters, scene = self.panel.parameters, slicer.mrmlScene
        supports = {row.volume_id for row in self.panel.table.rows()} if self.panel.table is not None else set()
        if parameters.supportVolume is not None:
            supports.add(parameters.supportVolume.GetID())
        nodes = [
            scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode")
            for n in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))
        ]
        return [
            node
            for node in nodes
            if node.GetID() not in supports
            and not node.IsA("vtkMRMLLabelMapVolumeNode")
            and not node.GetHideFromEditors()
            and node.GetImageData() is not None
        ]

    def scope(self) -> str:
        """How much is segmented."""
        scope = self.panel.parameters.scope
        return scope if scope in self._possible_scopes() else WHOLE

    def browser(self) -> Any:
        """The sequence browser that shows the target; None where it is no part of a sequence."""
        target = self.panel.parameters.targetVolume
        if target is None:
            return None
        from ProxyPromptSegmentModule.scene.sequence_reader import browsers_of

        return next(iter(browsers_of(target)), None)

    def look_again(self) -> None:
        """Forgets which axis was found: target, supports or their transforms may have changed."""
        self._axis = None

    def axis(self) -> str:
        """The axis along which the target will be cut into slices; found once, until `look_again`."""
        if self._axis is None:
            self._axis = self._find_axis()
        return self._axis

    def _find_axis(self) -> str:
        parameters = self.panel.parameters
        if parameters.targetVolume is None:
            return "k"
        geometry, own = self._support_geometry()
        try:
            return slicing_axis(parameters.targetVolume, parameters.axis, geometry, own)
        except Exception as error:  # shown when Apply is pressed
            explained(error)
            return "k"

    def slices(self) -> tuple[int, ...] | None:
        """Slices along the axis; None means all."""
        parameters, scope, count = self.panel.parameters, self.scope(), self.count()
        if scope == SLICES:
            last = count - 1 if parameters.lastSlice == LAST else min(parameters.lastSlice, count - 1)
            return tuple(range(max(0, parameters.firstSlice), last + 1))
        if scope == BOX and parameters.box is not None:
            return tuple(slices_in_box(parameters.targetVolume, self.axis(), parameters.box))
        return None

    def count(self) -> int:
        """Number of slices of the target along the axis."""
        return slice_count(self.panel.parameters.targetVolume, self.axis())

    def reason(self) -> str:
        """Why this target cannot be segmented; "" if it can."""
        parameters, scope = self.panel.parameters, self.scope()
        if parameters.targetVolume is None:
            return ""
        if parameters.targetVolume.GetImageData() is None:
            return _("The volume to segment has no voxels; choose another one.")
        if scope == BOX and parameters.box is None:
            return _("Draw or select the box whose slices are to be segmented.")
        if scope == BOX and not self.slices():
            return _("The box lies beside the volume; move it onto the part to segment.")
        if scope == SLICES and not self.slices():
            return _("Choose at least one slice.")
        return ""

    def _support_geometry(self) -> tuple[Any, str]:
        """Lattice and axis of the first support in use; from its node if it has one, as a library's case is a file."""
        from ProxyPromptSegmentModule.scene.nodes import geometry_of

        for row in self.panel.used_rows():
            node = slicer.mrmlScene.GetNodeByID(row.volume_id) if row.volume_id else None
            try:
                found = geometry_of(node) if node is not None else self.panel.table.case(row.key).volume.geometry
            except Exception as error:  # a problem of the support is told elsewhere
                explained(error)
                continue
            return found, row.axis
        return None, "k"

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Shows the choices."""
        parameters, ui = self.panel.parameters, self.ui
        ui.targetSelector.setCurrentNode(parameters.targetVolume)
        ui.outputSelector.setCurrentNode(parameters.outputSegmentation)
        ui.roiSelector.setCurrentNode(parameters.box)
        ui.honourEditorBox.checked = parameters.honourEditor
        self._show_scopes()
        scope, count = self.scope(), self.count()
        self._watch_box(parameters.box if scope == BOX else None)
        for widget, wanted in (
            (ui.sliceRange, SLICES),
            (ui.rangeCaption, SLICES),
            (ui.roiSelector, BOX),
            (ui.roiCaption, BOX),
        ):
            widget.setVisible(scope == wanted)
        ui.sliceRange.setRange(0, max(0, count - 1))
        if scope == SLICES and count:
            chosen = self.slices() or (0,)
            ui.sliceRange.setValues(chosen[0], chosen[-1])
        say(ui.scopeLabel, self._scope_words(scope, count))
        sequence = scope == SEQUENCE
        ui.outputSelector.setVisible(not sequence)
        ui.outputCaption.setVisible(not sequence)

    def _possible_scopes(self) -> list[str]:
        return [scope for scope in SCOPES if scope != SEQUENCE or self.browser() is not None]

    def _show_scopes(self) -> None:
        scopes, combo = self._possible_scopes(), self.ui.scopeCombo
        if scopes != self._scopes:
            self._scopes = scopes
            names = {
                WHOLE: _("Whole volume"),
                SLICES: _("Some slices"),
                BOX: _("Slices in a box"),
                LIVE: _("Slice on screen, live"),
                SEQUENCE: _("Whole sequence"),
            }
            combo.clear()
            for scope in scopes:
                combo.addItem(names[scope])
        combo.currentIndex = scopes.index(self.scope())

    def _scope_words(self, scope: str, count: int) -> str:
        if self.panel.parameters.targetVolume is None or not count:
            return ""
        if scope == LIVE:
            return _("Press Apply, then scroll: the slice on screen is segmented again and again.")
        if scope == SEQUENCE:
            return _("Every item of the sequence; the result is a sequence of segmentations.")
        slices = self.slices()
        if slices is not None:
            return _("{some} of {count} slices.").format(some=len(slices), count=count)
        if SEQUENCE in self._scopes:
            return _("The item of the sequence that is on screen: {count} slices.").format(count=count)
        return _("{count} slices.").format(count=count)

    # --- the box ----------------------------------------------------------------------------------------------

    def _watch_box(self, box: Any) -> None:
        """Listens to the box of the scope `BOX`, which is moved in the views."""
        if box is self._box:
            return
        event = slicer.vtkMRMLMarkupsNode.PointModifiedEvent
        if self._box is not None:
            self.panel.host.removeObserver(self._box, event, self.on_box_moved)
        self._box = box
        if box is not None:
            self.panel.host.addObserver(box, event, self.on_box_moved)

    def on_box_moved(self, caller: Any, event: str) -> None:
        """Says how many slices it meets now; a drag tells of every pixel, so once in a while."""
        if not self._moving:
            self._moving = True
            qt.QTimer.singleShot(_AFTER_MOVING_MS, self._box_rests)

    def _box_rests(self) -> None:
        self._moving = False
        self.panel.refresh()

    def close(self) -> None:
        """Listens no more."""
        self._watch_box(None)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_target(self, node: Any) -> None:
        """Another volume; it is shown, and a result for the former one is not written into any more."""
        if self.panel.listening and node is not self.panel.parameters.targetVolume:
            self._choose(node)
            if node is not None:
                show_case(slicer.mrmlScene, node, self.panel.support_rows())

    def _choose(self, node: Any) -> None:
        parameters = self.panel.parameters
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.targetVolume = node
            parameters.firstSlice, parameters.lastSlice = 0, LAST
            parameters.scope = self._usual_scope(node)
            output = parameters.outputSegmentation
            made_for = output.GetAttribute(MADE_FOR) if output is not None else None
            if made_for and (node is None or made_for != node.GetID()):
                parameters.outputSegmentation = None

    def _usual_scope(self, node: Any) -> str:
        """A film is followed; a volume, and a volume of a 4D series, is segmented whole."""
        if node is None or node.GetImageData() is None or min(node.GetImageData().GetDimensions()) > 1:
            return WHOLE
        return SEQUENCE if self.browser() is not None else WHOLE

    def on_scope(self, index: int) -> None:
        """How much."""
        if self.panel.listening and 0 <= index < len(self._scopes):
            self.panel.apply.end_live()
            self.panel.parameters.scope = self._scopes[index]

    def on_range(self, first: float, last: float) -> None:
        """Which slices; the views go to the end of the range that moves."""
        if not self.panel.listening:
            return
        parameters, count = self.panel.parameters, self.count()
        low, high = round(first), round(last)
        moved = low if low != parameters.firstSlice else high
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.firstSlice = low
            parameters.lastSlice = LAST if high >= count - 1 else high
        if parameters.targetVolume is not None and 0 <= moved < count:
            show_slice(slicer.mrmlScene, parameters.targetVolume, self.axis(), moved)

    def on_box(self, node: Any) -> None:
        """Which box."""
        parameters = self.panel.parameters
        if self.panel.listening:
            if node is not None and parameters.targetVolume is not None:
                fit_box(parameters.targetVolume, node)
            parameters.box = node

    def on_output(self, node: Any) -> None:
        """Where to."""
        if self.panel.listening:
            self.panel.parameters.outputSegmentation = node

    def on_honour(self, checked: bool) -> None:
        """Whether the Segment Editor's masking is honoured."""
        if self.panel.listening:
            self.panel.parameters.honourEditor = checked
