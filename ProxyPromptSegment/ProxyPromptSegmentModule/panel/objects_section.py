"""Which objects of the supports are looked for in the target."""

from __future__ import annotations

from typing import Any

from ProxyPromptSegmentModule.panel.tick_list import Line, TickList
from ProxyPromptSegmentModule.parameters import names_of, text_of
from ProxyPromptSegmentModule.translation import _


class ObjectsSection:
    """A list with a tick for each object; another choice switches the target of the result."""

    def __init__(self, panel: Any) -> None:
        """Connects the widgets."""
        self.panel, self.ui = panel, panel.ui
        self._list = TickList(self.ui.objectsList, self.on_objects)
        self.ui.updateAtOnceBox.connect("toggled(bool)", self.on_update_at_once)

    def refresh(self) -> None:
        """Shows the objects of the ticked supports."""
        choices, wanted = self._choices(), self.names()
        self._list.show(
            [
                Line(one.name, self._text(one), tuple(one.color_rgb), one.name in wanted, self._tip(one))
                for one in choices
            ]
        )
        for widget in (self.ui.objectsCaption, self.ui.objectsList, self.ui.updateAtOnceBox):
            widget.setVisible(bool(choices))
        self.ui.updateAtOnceBox.checked = self.panel.parameters.updateAtOnce

    def names(self) -> tuple[str, ...]:
        """Names of the objects to segment."""
        choices, chosen = self._choices(), names_of(self.panel.parameters.objects)
        if chosen is not None:
            folded = {name.casefold() for name in chosen}
            known = tuple(one.name for one in choices if one.name.casefold() in folded)
            if known or not chosen:  # with none of them left in the supports, all are meant
                return known
        return tuple(one.name for one in choices if one.everywhere)

    def reason(self) -> str:
        """Why there is nothing to look for; "" if there is."""
        if self._choices() and not self.names():
            if names_of(self.panel.parameters.objects) == ():
                return _("Tick at least one object to segment.")
            return _("The ticked supports have no object in common; tick an object, or fewer supports.")
        return ""

    def _choices(self) -> list[Any]:
        return self.panel.table.objects() if self.panel.table is not None else []

    def _text(self, one: Any) -> str:
        if one.everywhere:
            return one.name
        return _("{name} (in {count} of {all} supports)").format(name=one.name, count=one.supports, all=one.of)

    def _tip(self, one: Any) -> str:
        if one.everywhere:
            return ""
        return _("Where this object is ticked, only the supports that have it are used.")

    def on_objects(self) -> None:
        """Another choice: kept, and segmented at once where a result is there."""
        if not self.panel.listening:
            return
        ticked = self._list.ticked()
        every = [one.name for one in self._choices() if one.everywhere]
        self.panel.parameters.objects = "" if ticked == every else text_of(ticked)
        self.panel.apply.update_at_once()

    def on_update_at_once(self, checked: bool) -> None:
        """Whether to segment again at once."""
        if self.panel.listening:
            self.panel.parameters.updateAtOnce = checked
