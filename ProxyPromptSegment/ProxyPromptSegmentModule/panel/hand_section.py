"""The section of marks by hand: points, boxes and a painted mask, and everything that a slice shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import slicer

from ProxyPromptSegmentModule.panel.chosen_objects import ChosenObjects
from ProxyPromptSegmentModule.panel.marking import Marking
from ProxyPromptSegmentModule.panel.requests import Requests
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import PromptWidgets
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.scene.hand_marks import count_of, kind_of, marks_of, remove_last
from ProxyPromptSegmentModule.scene.painted_masks import choose_painting, painted_masks, paintings
from ProxyPromptSegmentModule.states import Mark, PromptBy
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
    from ProxyPromptSegmentModule.runs.everything_run import EverythingRun


class Finds(Protocol):
    """The part of `SegmentationLogic` that finds everything."""

    def everything(self, request: Request, choice: EverythingChoice | None = None) -> EverythingRun:
        """Start to look for everything."""


class HandSection(Section):
    """The buttons that place marks, the list of painted masks, and the button that finds everything."""

    def __init__(
        self,
        widgets: PromptWidgets,
        state: PanelState,
        objects: ChosenObjects,
        requests: Requests,
        marking: Marking,
        logic: Finds,
    ) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._objects, self._requests = widgets, state, objects, requests
        self._marking, self._logic = marking, logic
        self._everything: EverythingRun | None = None
        self._paintings: list[tuple[slicer.vtkMRMLSegmentationNode, str]] = []
        self._listed: list[str] = []
        self._places = {
            Mark.INSIDE: self._ui.insideButton,
            Mark.OUTSIDE: self._ui.outsideButton,
            Mark.BOX: self._ui.boxButton,
        }
        self._ui.insideButton.connect("clicked()", lambda: self.on_place(Mark.INSIDE))
        self._ui.outsideButton.connect("clicked()", lambda: self.on_place(Mark.OUTSIDE))
        self._ui.boxButton.connect("clicked()", lambda: self.on_place(Mark.BOX))
        self._ui.handNameEdit.connect("editingFinished()", self.on_name)
        self._ui.handMaskCombo.connect("currentIndexChanged(int)", self.on_mask)
        self._ui.takeBackButton.connect("clicked()", self.on_take_back)
        self._ui.clearMarksButton.connect("clicked()", self.on_clear)
        self._ui.everythingButton.connect("clicked()", self.on_everything)

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the marks on the target; those on others are hidden in the views."""
        ui, by_hand = self._ui, self._state.prompt_by == PromptBy.HAND
        self._marking.look_again()
        ui.handFrame.setVisible(by_hand)
        if not by_hand:
            return
        if ui.handNameEdit.text != self._state.parameters.handObject:
            ui.handNameEdit.text = self._state.parameters.handObject
        placed, reason = self._marking.placed, self._requests.reason_to_mark()
        tips = {
            Mark.INSIDE: _("Press, then click into the structure in a slice view; each click is answered at once."),
            Mark.OUTSIDE: _("Press, then click where the structure is not."),
            Mark.BOX: _("Press, then drag a box around the structure on a slice."),
        }
        for kind, button in self._places.items():
            allow(button, reason, tips[kind])
            button.checked = placed is not None and placed[0] == kind
        self._show_paintings(reason)
        nodes = marks_of(slicer.mrmlScene, self._state.parameters.targetVolume)
        counts = {kind: sum(count_of(node) for node in nodes if kind_of(node) == kind) for kind in Mark}
        nothing = "" if any(counts.values()) else _("There is no mark on this image yet.")
        allow(ui.takeBackButton, nothing, _("Removes the mark that was made last; its slice is drawn again."))
        allow(ui.clearMarksButton, nothing, _("Removes all marks on this image; the result is kept."))
        allow(
            ui.everythingButton,
            self._reason_for_everything(reason),
            _("Segments everything on the slice on screen, into a segmentation of its own; press again to remove it."),
        )
        ui.everythingButton.checked = self._is_there(self._everything)
        said = _("On this image: inside {inside}, outside {outside}, boxes {boxes}.").format(
            inside=counts[Mark.INSIDE], outside=counts[Mark.OUTSIDE], boxes=counts[Mark.BOX]
        )
        say(ui.handLabel, self._marking.problem or ("" if nothing else said))

    def _show_paintings(self, reason: str) -> None:
        """Show the segments that were painted on the target."""
        target, combo = self._state.parameters.targetVolume, self._ui.handMaskCombo
        self._paintings = paintings(slicer.mrmlScene, target)
        titles = [
            f"{node.GetName()}: {node.GetSegmentation().GetSegment(segment_id).GetName()}"
            for node, segment_id in self._paintings
        ]
        if titles != self._listed or combo.count != len(titles) + 1:
            self._listed = titles
            combo.clear()
            combo.addItem(_("No painted mask"))
            for title in titles:
                combo.addItem(title)
        chosen = {(node.GetID(), one) for node, one, _name in painted_masks(slicer.mrmlScene, target)}
        places = [n for n, (node, one) in enumerate(self._paintings, 1) if (node.GetID(), one) in chosen]
        combo.currentIndex = places[0] if places else 0
        combo.setVisible(bool(titles))
        tip = _("A rough segment that you have painted on this image prompts the slices on which it is marked.")
        allow(combo, reason, tip)

    def _reason_for_everything(self, reason: str) -> str:
        run = self._everything
        if run is not None and not run.ended:
            return _("This is being computed.")
        return reason

    def _is_there(self, run: EverythingRun | None) -> bool:
        """Return whether everything that was found on the target is in the scene."""
        return (
            run is not None
            and run.ended
            and run.segmentation is not None
            and run.destination.valid
            and run.request.target is self._state.parameters.targetVolume
        )

    # --- what the user does -----------------------------------------------------------------------------------

    def on_place(self, kind: Mark) -> None:
        """Begin or end placing marks."""
        with said_in(self._ui.handLabel):
            self._marking.start(kind, self._objects.named)
        self._state.changed.emit()

    def on_name(self) -> None:
        """Store the name of the structure that is marked next."""
        if self._state.listening and self._ui.handNameEdit.text.strip() != self._state.parameters.handObject:
            self._marking.stop()
            self._state.parameters.handObject = self._ui.handNameEdit.text.strip()

    def on_mask(self, index: int) -> None:
        """Use a painted segment as a prompt, or none."""
        if not self._state.listening:
            return
        target = self._state.parameters.targetVolume
        for node, segment_id, _name in painted_masks(slicer.mrmlScene, target):
            choose_painting(node, segment_id, "")
        if 1 <= index <= len(self._paintings):
            choose_painting(*self._paintings[index - 1], self._objects.named)
        with said_in(self._ui.handLabel):
            self._marking.changed()
        self._state.changed.emit()

    def on_take_back(self) -> None:
        """Remove the last mark."""
        target = self._state.parameters.targetVolume
        if target is not None and remove_last(slicer.mrmlScene, target):
            self._marking.changed()
        self._state.changed.emit()

    def on_clear(self) -> None:
        """Remove all marks on the target; the result is kept."""
        target = self._state.parameters.targetVolume
        if target is not None:
            self._marking.clear(target)
        self._state.changed.emit()

    def on_everything(self) -> None:
        """Find everything on the slice on screen, or remove what was found."""
        run = self._everything
        if run is not None and self._is_there(run):
            run.undo()
            self._everything = None
            self._state.changed.emit()
            return
        with said_in(self._ui.handLabel):
            self._marking.stop()
            request = self._requests.everything()
            self._everything = found = self._logic.everything(request)
            self._state.run = found
            self._state.run_began.emit()
        self._state.changed.emit()

    def close(self) -> None:
        """Stop observing the marks; also of a scene that is being closed."""
        self._marking.close()
