"""The review section: the confidence along the slices, the next doubtful slice, and accepting the case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentModule.panel.confidence_strip import ConfidenceStrip, Slices
from ProxyPromptSegmentModule.panel.live_watch import LiveWatch
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.shortcuts import Key
from ProxyPromptSegmentModule.panel.shown_result import ShownResult
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import ReviewWidgets
from ProxyPromptSegmentModule.scene.case_states import accept, state_in
from ProxyPromptSegmentModule.scene.slice_views import show_slice, slice_count, slice_nodes
from ProxyPromptSegmentModule.states import CaseState
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, say

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.scene.facts import ResultNow


class ReviewSection(Section):
    """What helps to look through the result of the selected target, and to decide that it is good."""

    def __init__(self, widgets: ReviewWidgets, state: PanelState, found: ShownResult) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets.
            state: The shared state.
            found: The result of the selected target.
        """
        self._ui, self._state, self._found = widgets, state, found
        self._strip = ConfidenceStrip(widgets.confidenceStrip, self.on_strip)
        self._watch: LiveWatch | None = None
        self._watched: tuple[object, ...] = ()
        self._doubt: tuple[object, ...] = ()
        self._said_of: tuple[object, ...] = ()
        widgets.nextDoubtButton.connect("clicked()", self.on_next_doubt)
        widgets.toggleResultButton.connect("clicked()", self.on_toggle)
        widgets.acceptButton.connect("clicked()", self.on_accept)
        widgets.reviewButton.connect("contentsCollapsed(bool)", self._on_opened)
        say(widgets.reviewMessageLabel, "")

    def close(self) -> None:
        """Stop observing the views."""
        self._watch_views(None)

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the result of the selected target."""
        now, ui, node = self._found.now(), self._ui, self._state.segmentation
        target = self._state.parameters.targetVolume
        if self._said_of != (target, node):
            self._said_of, self._doubt = (target, node), ()
            say(ui.reviewMessageLabel, "")
        nothing = "" if now is not None else _("There is no result yet; press Apply.")
        if nothing and self._found.is_film:
            nothing = _("Not available for sequences.")
        self._show_strip(now)
        none = "" if now is None or now.doubts else _("No slice stands out; check them all.")
        allow(
            ui.nextDoubtButton, nothing or none, _("Shows the next slice to review ({key}).").format(key=Key.NEXT_DOUBT)
        )
        shown = "" if node is not None else _("There is no result yet; press Apply.")
        allow(ui.toggleResultButton, shown, _("Hides the result, or shows it again ({key}).").format(key=Key.TOGGLE))
        accepted = self._is_accepted()
        ui.acceptButton.checked = accepted
        ui.acceptButton.text = _("Accepted") if accepted else _("Accept")
        tip = _("Marks the case as accepted in the list of cases, until its result changes ({key}).")
        running = _("Wait for the end of the run.") if self._state.running else ""
        allow(ui.acceptButton, nothing or running, tip.format(key=Key.ACCEPT))

    def _show_strip(self, now: ResultNow | None) -> None:
        target, known = self._state.parameters.targetVolume, bool(now and now.confidence)
        for widget in (self._ui.stripCaption, self._ui.confidenceStrip):
            widget.setVisible(known)
        if now is None or target is None or not known:
            self._watch_views(None)
            return
        changed = frozenset(index for state in now.along.values() for index in state.changed)
        count = slice_count(target, now.axis)
        self._strip.show(Slices(count=count, confidence=now.confidence, changed=changed))
        self._watch_views(now)

    def _watch_views(self, now: ResultNow | None) -> None:
        """Follow the slice on screen while the section is open."""
        target = self._state.parameters.targetVolume if self._state.has_scene else None
        key: tuple[object, ...] = ()
        if now is not None and target is not None and not self._ui.reviewButton.collapsed:
            key = (target, now.axis, tuple(node.GetID() for node in slice_nodes(slicer.mrmlScene)))
        if key == self._watched:
            return
        self._watched = key
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if key and now is not None and target is not None:
            self._watch = LiveWatch(slicer.mrmlScene, target, now.axis, self._strip.mark)
            self._watch.look()

    def _on_opened(self, collapsed: bool) -> None:
        if self._state.has_scene:
            self._watch_views(None if collapsed else self._found.now())

    def _is_accepted(self) -> bool:
        node, target = self._state.segmentation, self._state.parameters.targetVolume
        return node is not None and target is not None and state_in(node, target) == CaseState.ACCEPTED

    # --- what the user does -----------------------------------------------------------------------------------

    def on_strip(self, index: int) -> None:
        """Show the slice of a cell."""
        now, target = self._found.now(), self._state.parameters.targetVolume
        if now is not None and target is not None:
            show_slice(slicer.mrmlScene, target, now.axis, index, center=True)

    def on_next_doubt(self) -> None:
        """Show the slice to review after the one that was shown last, in the order of the list."""
        now = self._found.now()
        if now is None or not now.doubts:
            return
        places = [(one.index, one.name) for one in now.doubts]
        number = (places.index(self._doubt) + 1) % len(places) if self._doubt in places else 0
        doubt, self._doubt = now.doubts[number], places[number]
        self.on_strip(doubt.index)
        said = _("{number} of {count}: slice {where}, {name}: {reason}")
        where = doubt.where or str(doubt.index)
        words = said.format(number=number + 1, count=len(places), where=where, name=doubt.name, reason=doubt.reason)
        say(self._ui.reviewMessageLabel, words)

    def on_toggle(self) -> None:
        """Hide the result, or show it again."""
        node = self._state.segmentation if self._state.has_scene else None
        display = node.GetDisplayNode() if node is not None else None
        if display is not None:
            display.SetVisibility(not display.GetVisibility())

    def on_accept_key(self) -> None:
        """Accept the case by its key; only where the button can be pressed."""
        self._ui.acceptButton.click()

    def on_accept(self) -> None:
        """Accept the result of the target as it is, or take that back."""
        node, target = self._state.segmentation, self._state.parameters.targetVolume
        if node is not None and target is not None:
            accept(node, target, self._state.states, not self._is_accepted())
        self._state.changed.emit()
