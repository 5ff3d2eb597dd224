"""The list of cases: every image that can be a target, with what is known of it, to step through a study list."""

from __future__ import annotations

from collections.abc import Sequence

import qt
import slicer

from ProxyPromptSegmentModule.panel.case_words import word_of, word_of_study, words_of_found
from ProxyPromptSegmentModule.panel.chosen_cases import Case, ChosenCases
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.tick_list import Line, TickList
from ProxyPromptSegmentModule.panel.widgets import CasesWidgets, TargetWidgets
from ProxyPromptSegmentModule.scene.case_states import update_states
from ProxyPromptSegmentModule.states import CaseState, StudyState
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow

_COLORS = {
    CaseState.NEW: (0.75, 0.75, 0.75),
    CaseState.SEGMENTED: (0.95, 0.75, 0.2),
    CaseState.CORRECTED: (0.3, 0.55, 0.9),
    CaseState.ACCEPTED: (0.3, 0.7, 0.35),
}
_COLORS_OF_STUDIES = {
    StudyState.FAILED: (0.8, 0.15, 0.15),
    StudyState.EMPTY: (0.9, 0.45, 0.1),
    StudyState.INCOMPLETE: (0.9, 0.45, 0.1),
}

_TITLE_ORDER = (
    StudyState.FAILED,
    StudyState.EMPTY,
    StudyState.INCOMPLETE,
    StudyState.RUNNING,
    StudyState.WAITING,
    StudyState.LEFT_OUT,
)
_LONGEST_TITLE, _LETTERS_OF_A_LINE = 36, 46
"""What fits into the panel at the width that Slicer opens with: a longer title would widen it."""
_LEAST_HEIGHT, _MOST_HEIGHT = 60, 260
"""Of the list, in pixels."""


class CasesSection(Section):
    """The cases of the scene; a click, or one of the two buttons beside the target, makes a case the target."""

    def __init__(self, widgets: CasesWidgets, beside: TargetWidgets, state: PanelState, chosen: ChosenCases) -> None:
        """Connect the widgets.

        Args:
            widgets: The list.
            beside: The target's widgets: the selector, and the buttons beside it.
            state: The shared state.
            chosen: The cases.
        """
        self._ui, self._beside, self._state, self._chosen = widgets, beside, state, chosen
        self._cases: list[Case] = []
        self._list = TickList(widgets.casesList, self.on_ticks)
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
        if node is not None and not self._state.running and not self._state.segmenting:
            update_states(node, self._state.states)
        self._cases = self._chosen.cases()
        lines = [_line(case) for case in self._cases]
        self._list.show(lines)
        self._ui.casesList.minimumHeight = _height(lines)
        self._ui.casesButton.text = _title(self._cases)
        place = self._place()
        self._ui.casesList.currentRow = -1 if place is None else place
        for button, step, tip in (
            (self._beside.previousCaseButton, -1, _("Previous case: {name} ({state}).")),
            (self._beside.nextCaseButton, 1, _("Next case: {name} ({state}).")),
        ):
            found = self._beside_target(step)
            words = tip.format(name=found.name, state=_word(found)) if found is not None else ""
            allow(button, "" if found is not None else _("There is no other case."), words)

    # --- stepping ---------------------------------------------------------------------------------------------

    def _place(self) -> int | None:
        """Return the line of the target."""
        target = self._state.parameters.targetVolume
        places = [n for n, case in enumerate(self._cases) if target is not None and case.node_id == target.GetID()]
        return next(iter(places), None)

    def _beside_target(self, step: int) -> Case | None:
        """Return the case so many lines after the target, from the other end of the list if it is there; or None."""
        place = self._place()
        if not self._cases or (place is not None and len(self._cases) == 1):
            return None
        if place is None:
            place = -1 if step > 0 else 0
        return self._cases[(place + step) % len(self._cases)]

    def on_ticks(self) -> None:
        """Store which cases are ticked."""
        if self._state.listening:
            self._chosen.tick([case.key for case in self._cases], self._list.ticked())
            self._state.changed.emit()

    def on_case(self, item: qt.QListWidgetItem) -> None:
        """Make the case of a line the target."""
        number = self._ui.casesList.row(item)
        if 0 <= number < len(self._cases):
            self._choose(self._cases[number])

    def on_previous(self) -> None:
        """Make the case before the target."""
        self._choose(self._beside_target(-1))

    def on_next(self) -> None:
        """Make the next case the target."""
        self._choose(self._beside_target(1))

    def _choose(self, case: Case | None) -> None:
        node = slicer.mrmlScene.GetNodeByID(case.node_id) if case is not None and case.node_id else None
        if case is not None and self._state.folder is not None:
            self._chosen.want(case)
        elif node is not None:
            self._beside.targetSelector.setCurrentNode(node)


def _word(case: Case) -> str:
    """Return the state of a case in words."""
    return (word_of_study(case.study) if case.study is not None else "") or word_of(case.state)


def _line(case: Case) -> Line:
    """Return the line of a case: name and state; below, its patient and what was found, or why it failed."""
    words = _("{name}: {state}, not saved") if case.unsaved else _("{name}: {state}")
    first = words.format(name=case.name, state=_word(case))
    found = words_of_found(case.found)
    below = [case.patient, case.reason if case.study in (StudyState.FAILED, StudyState.LEFT_OUT) else found]
    text = "\n".join([first, *filter(None, [" · ".join(filter(None, below))])])
    color = _COLORS_OF_STUDIES.get(case.study, _COLORS[case.state]) if case.study else _COLORS[case.state]
    tip = "\n".join(filter(None, [first, case.patient, found, case.reason]))
    return Line(key=case.key, text=text, color_rgb=color, ticked=case.ticked, tip=tip)


def _title(cases: Sequence[Case]) -> str:
    """Return the title of the section: how many cases are in which state, as far as there is room."""
    words = [_word(case) for case in cases]
    part, title = _("{count} {state}"), ""
    order = [word_of_study(one) for one in _TITLE_ORDER] + [word_of(one) for one in CaseState]
    for word in order:
        if word and word in words:
            more = part.format(count=words.count(word), state=word)
            if title and len(title) + len(more) > _LONGEST_TITLE:
                title += ", …"
                break
            title = f"{title}, {more}" if title else more
    return _("Cases: {counts}").format(counts=title) if title else _("Cases")


def _height(cases: Sequence[Line]) -> int:
    """Return the height at which all lines are seen, in pixels, within limits."""
    rows = [part for case in cases for part in case.text.split("\n")]
    count = sum(1 + len(row) // _LETTERS_OF_A_LINE for row in rows)
    return max(_LEAST_HEIGHT, min(_MOST_HEIGHT, 17 * count + 4 * len(cases) + 6))
