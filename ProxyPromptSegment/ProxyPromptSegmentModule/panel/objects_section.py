"""The list of objects to segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentModule.panel.chosen_objects import ChosenObjects
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.tick_list import Line, TickList
from ProxyPromptSegmentModule.panel.widgets import SupportWidgets
from ProxyPromptSegmentModule.parameters import text_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.supports.saved import ObjectChoice


_LINE_HEIGHT, _MOST_HEIGHT = 22, 130
"""In pixels; the list takes no more room than its objects need, so that Apply stays in sight."""


class ObjectsSection(Section):
    """The list of the supports' objects, each with a tick."""

    def __init__(self, widgets: SupportWidgets, state: PanelState, objects: ChosenObjects) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._objects = widgets, state, objects
        self._list = TickList(widgets.objectsList, self.on_objects)
        widgets.updateAtOnceBox.connect("toggled(bool)", self.on_update_at_once)

    def refresh(self) -> None:
        """Show the objects of the ticked supports."""
        choices, wanted = self._objects.choices(), self._objects.names()
        self._list.show(
            [
                Line(
                    key=one.name,
                    text=self._text(one),
                    color_rgb=one.color_rgb,
                    ticked=one.name in wanted,
                    tip=self._tip(one),
                )
                for one in choices
            ]
        )
        self._ui.objectsList.maximumHeight = min(_MOST_HEIGHT, _LINE_HEIGHT * len(choices) + 10)
        for widget in (self._ui.objectsCaption, self._ui.objectsList, self._ui.updateAtOnceBox):
            widget.setVisible(bool(choices))
        self._ui.updateAtOnceBox.checked = self._state.parameters.updateAtOnce

    def _text(self, one: ObjectChoice) -> str:
        if one.everywhere:
            return one.name
        return _("{name} (in {count} of {all} supports)").format(name=one.name, count=one.supports, all=one.of)

    def _tip(self, one: ObjectChoice) -> str:
        if one.everywhere:
            return ""
        return _("If this object is ticked, only the supports that have it are used.")

    def on_objects(self) -> None:
        """Store the choice; an existing result is updated."""
        if not self._state.listening:
            return
        ticked = self._list.ticked()
        every = [one.name for one in self._objects.choices() if one.everywhere]
        self._state.parameters.objects = "" if ticked == every else text_of(ticked)
        self._state.choice_changed.emit()

    def on_update_at_once(self, checked: bool) -> None:
        """Store whether the result is updated automatically."""
        if self._state.listening:
            self._state.parameters.updateAtOnce = checked
