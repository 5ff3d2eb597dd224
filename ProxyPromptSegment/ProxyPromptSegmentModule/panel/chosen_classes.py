"""The chosen classes: structures that a model knows by name and needs no support for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.weights.vocabulary import FEW
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.parameters import names_of, text_of
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


class ChosenClasses:
    """The classes that models on this machine know, and those that are ticked."""

    def __init__(self, state: PanelState, model: ChosenModel) -> None:
        """Derive everything from the panel's state and the chosen model."""
        self._state, self._model = state, model

    def choices(self) -> tuple[PromptClass, ...]:
        """Return the classes to choose from: those of all class models, or those of the chosen structure model."""
        rows = self._model.fitting
        if self._state.prompt_by == PromptBy.STRUCTURE:
            rows = [row for row in rows if row.name == self._model.name]
        elif self._state.prompt_by != PromptBy.CLASS:
            return ()
        own = self._model.row  # the model that will be used comes first: names and colours are its own
        ordered = [*([own] if own in rows else []), *rows]
        found: dict[str, PromptClass] = {}
        for one in (one for row in ordered if row is not None for one in row.classes):
            found.setdefault(one.name.casefold(), one)
        return tuple(found.values())

    def chosen(self) -> tuple[PromptClass, ...]:
        """Return the classes to segment, in the order of the choices."""
        choices, names = self.choices(), self.ticked()
        if names is None:
            return choices if len(choices) <= FEW else ()
        return tuple(one for one in choices if any(one.is_called(name) for name in names))

    def ticked(self) -> tuple[str, ...] | None:
        """Return the stored names; None means all of a structure model that knows few."""
        parameters = self._state.parameters
        if self._state.prompt_by == PromptBy.STRUCTURE:
            return names_of(parameters.structures)
        return names_of(parameters.classes) or ()

    def tick(self, names: list[str]) -> None:
        """Store which classes are ticked."""
        parameters = self._state.parameters
        if self._state.prompt_by == PromptBy.STRUCTURE:
            parameters.structures = text_of(names)
        else:
            parameters.classes = text_of(names) if names else ""

    def unknown(self) -> list[str]:
        """Return the ticked names that no model on this machine knows any more."""
        choices = self.choices()
        return [name for name in self.ticked() or () if not any(one.is_called(name) for one in choices)]

    def reason(self) -> str:
        """Return why no class can be segmented; "" if one can."""
        choices = self.choices()
        if not choices:
            return self._model.reason()
        if unknown := self.unknown():
            return _("No model on this computer knows {name} any more; choose another structure.").format(
                name=f"“{unknown[0]}”"
            )
        if not self.chosen():
            return _("Tick at least one structure in the list.")
        row = self._model.row
        strange = [one.name for one in self.chosen() if row is not None and not row.knows(one.name)]
        if strange and row is not None:
            return _("No model knows all of these structures together; segment {name} by itself.").format(
                name=f"“{strange[0]}”"
            )
        return ""
