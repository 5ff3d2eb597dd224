"""The list of cases: every image that can be a target, with its state, to step through a study list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import qt
import slicer

from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.icons import swatch
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import CasesWidgets, TargetWidgets
from ProxyPromptSegmentModule.scene.case_states import states_in, update_states
from ProxyPromptSegmentModule.states import CaseState
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow

_COLORS = {
    CaseState.NEW: (0.75, 0.75, 0.75),
    CaseState.SEGMENTED: (0.95, 0.75, 0.2),
    CaseState.CORRECTED: (0.3, 0.55, 0.9),
    CaseState.ACCEPTED: (0.3, 0.7, 0.35),
}


@dataclass(frozen=True)
class _Line:
    """A case of the list."""

    identifier: str
    name: str
    state: CaseState


class CasesSection(Section):
    """The cases of the scene; a click, or one of the two buttons beside the target, makes a case the target."""

    def __init__(self, widgets: CasesWidgets, beside: TargetWidgets, state: PanelState, target: ChosenTarget) -> None:
        """Connect the widgets.

        Args:
            widgets: The list.
            beside: The target's widgets: the selector, and the buttons beside it.
            state: The shared state.
            target: The chosen target.
        """
        self._ui, self._beside, self._state, self._target = widgets, beside, state, target
        self._lines: list[_Line] = []
        widgets.casesList.connect("itemClicked(QListWidgetItem*)", self.on_case)
        ui = beside
        ui.previousCaseButton.connect("clicked()", self.on_previous)
        ui.nextCaseButton.connect("clicked()", self.on_next)

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the cases."""
        if slicer.mrmlScene.IsBatchProcessing():
            return
        node = self._state.segmentation
        if node is not None and not self._state.running:
            update_states(node, self._state.states)
        lines = self._cases()
        if lines != self._lines:
            self._lines = lines
            self._show(lines)
        place = self._place()
        self._ui.casesList.currentRow = -1 if place is None else place
        for button, step, tip in (
            (self._beside.previousCaseButton, -1, _("Previous case: {name} ({state}).")),
            (self._beside.nextCaseButton, 1, _("Next case: {name} ({state}).")),
        ):
            found = self._beside_target(step)
            words = tip.format(name=found.name, state=_word(found.state)) if found is not None else ""
            allow(button, "" if found is not None else _("There is no other case."), words)

    def _cases(self) -> list[_Line]:
        """Return the cases in the order of the scene: images beside supports, and those that have results."""
        known = states_in(slicer.mrmlScene)
        volumes: dict[str, slicer.vtkMRMLVolumeNode] = {
            node.GetID(): node for node in self._target.volumes_beside_supports()
        }
        for identifier in known:
            node: slicer.vtkMRMLVolumeNode | None = slicer.mrmlScene.GetNodeByID(identifier)
            if node is not None:
                volumes.setdefault(identifier, node)
        target = self._state.parameters.targetVolume
        if target is not None and target.GetID() not in volumes and target.GetImageData() is not None:
            volumes[target.GetID()] = target
        return [_Line(one, node.GetName(), known.get(one, CaseState.NEW)) for one, node in volumes.items()]

    def _show(self, lines: Sequence[_Line]) -> None:
        counts = {state: sum(line.state == state for line in lines) for state in CaseState}
        part = _("{count} {state}")
        parts = [part.format(count=count, state=_word(state)) for state, count in counts.items() if count]
        self._ui.casesButton.text = _("Cases: {counts}").format(counts=", ".join(parts)) if parts else _("Cases")
        listed = self._ui.casesList
        while listed.count > len(lines):
            listed.takeItem(listed.count - 1)
        while listed.count < len(lines):
            listed.addItem("")
        for number, line in enumerate(lines):
            item = listed.item(number)
            item.setText(_("{name}: {state}").format(name=line.name, state=_word(line.state)))
            item.setIcon(swatch(_COLORS[line.state]))

    # --- stepping ---------------------------------------------------------------------------------------------

    def _place(self) -> int | None:
        """Return the line of the target."""
        target = self._state.parameters.targetVolume
        places = [n for n, line in enumerate(self._lines) if target is not None and line.identifier == target.GetID()]
        return next(iter(places), None)

    def _beside_target(self, step: int) -> _Line | None:
        """Return the case so many lines after the target, from the other end of the list if it is there; or None."""
        place = self._place()
        if not self._lines or (place is not None and len(self._lines) == 1):
            return None
        if place is None:
            place = -1 if step > 0 else 0
        return self._lines[(place + step) % len(self._lines)]

    def on_case(self, item: qt.QListWidgetItem) -> None:
        """Make the case of a line the target."""
        number = self._ui.casesList.row(item)
        if 0 <= number < len(self._lines):
            self._choose(self._lines[number])

    def on_previous(self) -> None:
        """Make the case before the target."""
        self._choose(self._beside_target(-1))

    def on_next(self) -> None:
        """Make the next case the target."""
        self._choose(self._beside_target(1))

    def _choose(self, line: _Line | None) -> None:
        node = slicer.mrmlScene.GetNodeByID(line.identifier) if line is not None else None
        if node is not None:
            self._beside.targetSelector.setCurrentNode(node)


def _word(state: CaseState) -> str:
    """Return a state in words."""
    return {
        CaseState.NEW: _("new"),
        CaseState.SEGMENTED: _("segmented"),
        CaseState.CORRECTED: _("corrected"),
        CaseState.ACCEPTED: _("accepted"),
    }[state]
