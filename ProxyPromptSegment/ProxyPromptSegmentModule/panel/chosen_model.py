"""The chosen model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.parameters import names_of
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.models.rows import ModelRow


class ChosenModel:
    """The models on this machine and the chosen one; each way to prompt has a choice of its own.

    Attributes:
        rows: The models, those that can segment first; updated by `look_again`.
    """

    def __init__(self, state: PanelState) -> None:
        """Derive everything from the panel's state."""
        self._state = state
        self.rows: list[ModelRow] = []

    def look_again(self) -> bool:
        """Read the models of this machine; return False if the catalogue is not available yet.

        Raises:
            CheckpointError: If the program's registry is damaged.
        """
        if self._state.catalog is None:
            return False
        self.rows = self._state.catalog.rows()
        return True

    @property
    def fitting(self) -> list[ModelRow]:
        """The models that can be prompted as it is chosen."""
        return [row for row in self.rows if row.answers(self._state.prompt_by)]

    def choose(self, name: str) -> None:
        """Choose a model for the way to prompt that is chosen."""
        parameters, prompt_by = self._state.parameters, self._state.prompt_by
        if prompt_by == PromptBy.CLASS:
            parameters.classModel = name
        elif prompt_by == PromptBy.STRUCTURE:
            parameters.structureModel = name
        else:
            parameters.model = name

    @property
    def name(self) -> str:
        """Name of the chosen model, even if it is unknown on this machine; "" if there is none of the wanted kind."""
        parameters, prompt_by = self._state.parameters, self._state.prompt_by
        if prompt_by == PromptBy.CLASS:
            return self._for_classes(parameters.classModel, names_of(parameters.classes) or ())
        if prompt_by == PromptBy.STRUCTURE:
            return parameters.structureModel or next((row.name for row in self.fitting), "")
        return parameters.model or DEFAULT_MODEL

    def _for_classes(self, chosen: str, names: Sequence[str]) -> str:
        """Return the chosen model if it knows all of some classes, else the first that does, else the chosen one."""
        rows = sorted(self.fitting, key=lambda row: row.name != chosen)
        able = [row.name for row in rows if row.usable and all(row.knows(name) for name in names)]
        return next(iter(able), chosen or next((row.name for row in rows), ""))

    @property
    def row(self) -> ModelRow | None:
        """The chosen model; None if it is unknown, or cannot be prompted as it is chosen."""
        return next((row for row in self.fitting if row.name == self.name), None)

    @property
    def follows(self) -> bool:
        """Whether the chosen model has a memory, and it is used: only with supports."""
        return self.row is not None and self.row.follows and self._state.prompt_by == PromptBy.SUPPORT

    def reason(self) -> str:
        """Return why the chosen model cannot be used; "" if it can."""
        if self.row is None:
            if not self.name:
                return _("No model on this computer can be prompted like this; import one under Model and settings.")
            return _("The model {name} is not known here; choose another one under Model and settings.").format(
                name=self.name
            )
        return "" if self.row.usable else self.row.reason
