"""The prompt section: what tells the model what to segment, and the classes that it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.imaging.modality import KINDS
from ProxyPromptSegmentLib.imaging.segmentations import default_color
from ProxyPromptSegmentModule.panel.chosen_classes import ChosenClasses
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.tick_list import Line, TickList
from ProxyPromptSegmentModule.panel.widgets import PromptWidgets
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

_LINE_HEIGHT, _MOST_HEIGHT = 22, 150
"""In pixels; longer lists are scrolled, so that Apply stays in sight."""


class PromptSection(Section):
    """The choice “Prompt by”, and the searchable list of classes."""

    def __init__(self, widgets: PromptWidgets, state: PanelState, model: ChosenModel, classes: ChosenClasses) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._model, self._classes = widgets, state, model, classes
        self._list = TickList(widgets.classList, self.on_classes)
        self._models: list[str] = []
        names = {
            PromptBy.SUPPORT: _("Support: an annotated case"),
            PromptBy.CLASS: _("Class: a structure by its name"),
            PromptBy.STRUCTURE: _("Structure model"),
            PromptBy.HAND: _("Hand: points, boxes, masks"),
        }
        for one in PromptBy:
            widgets.promptByCombo.addItem(names[one])
        widgets.promptByCombo.connect("currentIndexChanged(int)", self.on_prompt_by)
        widgets.structureModelCombo.connect("currentIndexChanged(int)", self.on_model)
        widgets.classSearchEdit.connect("textChanged(QString)", self.on_search)

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the choice and what belongs to it."""
        ui, prompt_by = self._ui, self._state.prompt_by
        ui.promptByCombo.currentIndex = list(PromptBy).index(prompt_by)
        ui.classFrame.setVisible(prompt_by.names_classes)
        if not prompt_by.names_classes:
            return
        self._show_models()
        choices = self._classes.choices()
        ui.classSearchEdit.setVisible(len(choices) > _MOST_HEIGHT // _LINE_HEIGHT)
        lines = [self._line(number, one) for number, one in enumerate(choices)]
        shown = [line for line, one in zip(lines, choices, strict=True) if line.ticked or self._is_found(one)]
        self._list.show(shown)
        ui.classList.maximumHeight = min(_MOST_HEIGHT, _LINE_HEIGHT * max(2, len(shown)) + 10)
        ui.classList.setVisible(bool(choices))
        say(ui.classLabel, self._words(len(shown), len(choices)))

    def _show_models(self) -> None:
        """Show the models that prompt by the image alone."""
        ui, by_model = self._ui, self._state.prompt_by == PromptBy.STRUCTURE
        names = [row.name for row in self._model.fitting] if by_model else []
        ui.structureModelCombo.setVisible(bool(names))
        if names != self._models:
            self._models = names
            ui.structureModelCombo.clear()
            for name in names:
                ui.structureModelCombo.addItem(name)
        if names:
            ui.structureModelCombo.currentIndex = names.index(self._model.name) if self._model.name in names else -1

    def _line(self, number: int, one: PromptClass) -> Line:
        kinds = ", ".join(KINDS.get(kind, kind) for kind in one.modalities)
        code = _("{meaning}, {scheme} {code}.").format(
            meaning=one.meaning or one.name, scheme=_terminology(one.scheme), code=one.code
        )
        said = [code if one.code else "", _("Shown by {kinds}.").format(kinds=kinds) if kinds else ""]
        return Line(
            key=one.name,
            text=one.name,
            color_rgb=one.color_rgb or default_color(number),
            ticked=one in self._classes.chosen(),
            tip=" ".join(part for part in said if part),
        )

    def _is_found(self, one: PromptClass) -> bool:
        """Return whether a class is what the user searches for: by name, synonym, the terminology's words or code."""
        words = self._ui.classSearchEdit.text.casefold().split()
        text = " ".join([one.name, one.meaning, one.code, *one.synonyms]).casefold()
        return all(word in text for word in words)

    def _words(self, shown: int, count: int) -> str:
        if not count:
            return _(
                "There is no such model on this computer yet; download or import one under Model and settings, or "
                "choose another way to prompt."
            )
        if not shown:
            return _("No structure is called like this; the model knows {count} others.").format(count=count)
        return ""

    # --- what the user does -----------------------------------------------------------------------------------

    def on_prompt_by(self, index: int) -> None:
        """Store what prompts; a live preview of the former choice ends."""
        if self._state.listening and index >= 0:
            self._state.scope_leaving.emit()
            self._state.parameters.promptBy = list(PromptBy)[index].value

    def on_model(self, index: int) -> None:
        """Store the structure model."""
        if self._state.listening and 0 <= index < len(self._models):
            self._state.scope_leaving.emit()
            self._state.parameters.structures = ""
            self._model.choose(self._models[index])

    def on_search(self, text: str) -> None:
        """Show what is found."""
        if self._state.listening:
            self._state.changed.emit()

    def on_classes(self) -> None:
        """Store which classes are ticked."""
        if self._state.listening:
            self._state.scope_leaving.emit()
            self._classes.tick(self._list.ticked())


def _terminology(scheme: str) -> str:
    """Return the user's word for DICOM's name of a terminology."""
    return _("SNOMED CT") if scheme == "SCT" else scheme
