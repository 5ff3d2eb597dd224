"""Which model segments, as far as it has been chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.models.rows import ModelRow


class ChosenModel:
    """The models of this machine, and the one that is chosen.

    Attributes:
        rows: The models, those that can segment first; read anew by `look_again`.
    """

    def __init__(self, state: PanelState) -> None:
        """Looks at the state only."""
        self._state = state
        self.rows: list[ModelRow] = []

    def look_again(self) -> bool:
        """Read what is on this machine; whether there is something to read it with.

        Raises:
            CheckpointError: If the program's registry is damaged.
        """
        if self._state.catalog is None:
            return False
        self.rows = self._state.catalog.rows()
        return True

    @property
    def name(self) -> str:
        """Its name, also where it is not known here."""
        return self._state.parameters.model or DEFAULT_MODEL

    @property
    def row(self) -> ModelRow | None:
        """The chosen model; None where nothing is known of it."""
        return next((row for row in self.rows if row.name == self.name), None)

    @property
    def follows(self) -> bool:
        """Whether the chosen model has a memory."""
        return self.row is not None and self.row.follows

    def reason(self) -> str:
        """Why the chosen model cannot be used; "" if it can."""
        if self.row is None:
            return _("The model {name} is not known here; choose another one under Model and settings.").format(
                name=self.name
            )
        return "" if self.row.usable else self.row.reason
