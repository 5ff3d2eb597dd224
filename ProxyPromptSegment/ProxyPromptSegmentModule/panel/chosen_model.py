"""The chosen model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.models.rows import ModelRow


class ChosenModel:
    """The models on this machine and the chosen one.

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
    def name(self) -> str:
        """Name of the chosen model, even if it is unknown on this machine."""
        return self._state.parameters.model or DEFAULT_MODEL

    @property
    def row(self) -> ModelRow | None:
        """The chosen model; None if it is unknown."""
        return next((row for row in self.rows if row.name == self.name), None)

    @property
    def follows(self) -> bool:
        """Whether the chosen model has a memory."""
        return self.row is not None and self.row.follows

    def reason(self) -> str:
        """Return why the chosen model cannot be used; "" if it can."""
        if self.row is None:
            return _("The model {name} is not known here; choose another one under Model and settings.").format(
                name=self.name
            )
        return "" if self.row.usable else self.row.reason
