"""The teach section: what is to be learned, from which cases, and the button that begins."""

from __future__ import annotations

from ProxyPromptSegmentModule.panel.chosen_lesson import CaseRow, ChosenLesson, Teaches
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.tick_list import Line, TickList
from ProxyPromptSegmentModule.panel.widgets import TeachWidgets
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, duration, said_in, say

_LINE_HEIGHT, _MOST_HEIGHT = 22, 160
"""In pixels."""


class TeachSection(Section):
    """Structure, cases, starting model, name and time; the button Teach, which becomes Cancel."""

    def __init__(self, widgets: TeachWidgets, state: PanelState, chosen: ChosenLesson, logic: Teaches) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._chosen, self._logic = widgets, state, chosen, logic
        self._list = TickList(widgets.teachCasesList, self.on_cases)
        self._structures: list[tuple[str, int]] = []
        self._models: list[str] = []
        self._cancelling = False
        ui = widgets
        ui.teachButton.connect("contentsCollapsed(bool)", self.on_collapsed)
        ui.teachStructureCombo.connect("currentIndexChanged(int)", self.on_structure)
        ui.teachModelCombo.connect("currentIndexChanged(int)", self.on_model)
        ui.teachNameEdit.connect("editingFinished()", self.on_name)
        ui.teachMinutesSlider.connect("valueChanged(double)", self.on_minutes)
        ui.teachCheckButton.connect("clicked()", self.on_check)
        ui.teachStartButton.connect("clicked()", self.on_start)
        say(ui.teachMessageLabel, "")

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the choices, and whether Teach can be pressed."""
        ui = self._ui
        if ui.teachButton.collapsed and not self._state.teaching:
            return
        self._chosen.look_again()
        self._show_structures()
        self._show_cases()
        self._show_models()
        parameters = self._state.parameters
        if ui.teachNameEdit.text != parameters.teachName:
            ui.teachNameEdit.text = parameters.teachName
        ui.teachNameEdit.placeholderText = self._chosen.usual_name()
        ui.teachMinutesSlider.value = parameters.teachMinutes
        self._show_buttons()

    def _show_structures(self) -> None:
        found, combo = self._chosen.structures(), self._ui.teachStructureCombo
        if found != self._structures:
            self._structures = found
            combo.clear()
            for name, count in found:
                combo.addItem(_("{name} (in {count} cases)").format(name=name, count=count))
        names, wanted = [name for name, _count in found], self._chosen.structure()
        combo.currentIndex = names.index(wanted) if wanted in names else -1

    def _show_cases(self) -> None:
        rows, listed = self._chosen.rows(), self._ui.teachCasesList
        self._list.show([_line(row) for row in rows])
        listed.maximumHeight = min(_MOST_HEIGHT, _LINE_HEIGHT * max(2, len(rows)) + 10)

    def _show_models(self) -> None:
        names, combo = [row.name for row in self._chosen.starts()], self._ui.teachModelCombo
        if names != self._models:
            self._models = names
            combo.clear()
            for name in names:
                combo.addItem(name)
        wanted = self._chosen.start()
        combo.currentIndex = names.index(wanted) if wanted in names else -1

    def _show_buttons(self) -> None:
        ui, lesson = self._ui, self._state.lesson
        going = bool(self._state.teaching)
        self._cancelling = self._cancelling and going
        reason = "" if going else self._chosen.reason()
        say(ui.teachReasonLabel, reason)
        say(ui.teachEstimateLabel, "" if reason or going else self._estimate())
        resumable = not reason and not going and self._chosen.can_resume()
        ui.teachRestartBox.setVisible(resumable)
        if not resumable:
            ui.teachRestartBox.checked = False
        for widget in (ui.teachStructureCombo, ui.teachCasesList, ui.teachModelCombo, ui.teachNameEdit):
            widget.enabled = not going
        ui.teachMinutesSlider.enabled = not going
        busy = self._state.teaching
        allow(ui.teachCheckButton, reason or busy, _("Reads the ticked cases and names those that cannot be used."))
        button = ui.teachStartButton
        if going:
            button.text = _("Cancel")
            button.enabled = not self._cancelling
            button.toolTip = _("Stops after the current step; what was learned so far is kept and can be continued.")
            return
        asks = lesson is not None and lesson.asks and self._chosen.agreed == frozenset(lesson.said)
        tested = lesson is not None and lesson.result is not None and not lesson.result.cancelled
        button.text = _("Continue") if resumable and not tested else _("Teach")
        if asks:
            button.text = _("Teach anyway")
        allow(button, reason, _("Trains the model on this computer; no image leaves it."))

    def _estimate(self) -> str:
        cases = self._chosen.cases()
        patients = len({case.patient or case.title for case in cases})
        folds, time = min(self._chosen.settings().folds, patients), duration(60 * self._chosen.settings().minutes)
        told = _(
            "{cases} cases of {patients} patients, about {time} in all: {folds} trainings that leave cases out, to "
            "test them, and one with all."
        )
        if folds < 2:
            told = _(
                "All ticked cases are of one patient, about {time}: nothing can be tested with a model that has not "
                "seen it. Tick a case of another patient, or press Teach and agree."
            )
        text = told.format(cases=len(cases), patients=patients, folds=folds, time=time)
        if words := self._chosen.revealing():
            told = _(
                "“{word}” is also in the name of a case. The model's file and card would contain it: choose other "
                "names if it is a patient's."
            )
            text += "\n" + told.format(word=", ".join(words))
        return text

    # --- what the user does -----------------------------------------------------------------------------------

    def on_collapsed(self, collapsed: bool) -> None:
        """Show the cases when the section is opened."""
        if not collapsed:
            self._state.changed.emit()

    def on_structure(self, index: int) -> None:
        """Store the structure."""
        if self._state.listening and 0 <= index < len(self._structures):
            self._state.parameters.teachStructure = self._structures[index][0]

    def on_cases(self) -> None:
        """Store which cases are ticked."""
        if self._state.listening:
            self._chosen.look_again()
            self._chosen.tick(self._list.ticked())
            self._state.changed.emit()

    def on_model(self, index: int) -> None:
        """Store the model to start from."""
        if self._state.listening and 0 <= index < len(self._models):
            self._state.parameters.teachModel = self._models[index]

    def on_name(self) -> None:
        """Store the name."""
        if self._state.listening:
            self._state.parameters.teachName = self._ui.teachNameEdit.text.strip()

    def on_minutes(self, value: float) -> None:
        """Store the time."""
        if self._state.listening:
            self._state.parameters.teachMinutes = value

    def on_check(self) -> None:
        """Read and check the cases, and train nothing."""
        self._begin(only_check=True)

    def on_start(self) -> None:
        """Begin a lesson, or cancel the one in progress."""
        if self._state.teaching and self._state.lesson is not None:
            self._cancelling = True
            self._state.lesson.cancel()
            self._logic.pump.start()
            say(self._ui.teachMessageLabel, _("Stopping after this step…"))
            self._state.changed.emit()
        else:
            self._begin()

    def _begin(self, only_check: bool = False) -> None:
        ui = self._ui
        with said_in(ui.teachMessageLabel):
            self._chosen.look_again()
            if self._chosen.reason():
                return
            request = self._chosen.request(only_check, restart=ui.teachRestartBox.checked and not only_check)
            self._chosen.follow(self._logic.teach(request))
        self._state.changed.emit()


def _line(row: CaseRow) -> Line:
    text = _("{title}: {remark}").format(title=row.title, remark=row.remark) if row.remark else row.title
    return Line(key=row.key, text=text, color_rgb=row.color_rgb, ticked=row.ticked, tip=row.remark)
