"""Which objects of the supports are looked for in the target, as far as it has been chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.parameters import names_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.supports.saved import ObjectChoice


class ChosenObjects:
    """The objects that the ticked supports have, and those of them that are ticked."""

    def __init__(self, state: PanelState) -> None:
        """Looks at the state only."""
        self._state = state

    def choices(self) -> list[ObjectChoice]:
        """Objects that can be looked for, first those that most supports have."""
        return self._state.table.objects() if self._state.table is not None else []

    def names(self) -> tuple[str, ...]:
        """Names of the objects to segment."""
        choices, chosen = self.choices(), names_of(self._state.parameters.objects)
        if chosen is not None:
            folded = {name.casefold() for name in chosen}
            known = tuple(one.name for one in choices if one.name.casefold() in folded)
            if known or not chosen:  # with none of them left in the supports, all are meant
                return known
        return tuple(one.name for one in choices if one.everywhere)

    def reason(self) -> str:
        """Why there is nothing to look for; "" if there is."""
        if self.choices() and not self.names():
            if names_of(self._state.parameters.objects) == ():
                return _("Tick at least one object to segment.")
            return _("The ticked supports have no object in common; tick an object, or fewer supports.")
        return ""
