"""Corrections in the panel: brush strokes on the result, and small pieces and slices refined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ProxyPromptSegmentModule.panel.marking import Marking
from ProxyPromptSegmentModule.panel.requests import Requests
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.shown_result import ShownResult
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import ReviewWidgets
from ProxyPromptSegmentModule.runs.refining import Refinement
from ProxyPromptSegmentModule.scene.hand_editor import HandEditor
from ProxyPromptSegmentModule.scene.overlay import Overlay
from ProxyPromptSegmentModule.states import Mark, PromptBy
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from ProxyPromptSegmentModule.runs.questions import UnsureAnswer
    from ProxyPromptSegmentModule.runs.run import Run

PAINT, ERASE = "Paint", "Erase"


class Refinements(Protocol):
    """The part of `Questions` about the masks of a run that has ended."""

    def refine(self, run: Run, how: Refinement, on_end: Callable[[str], None]) -> None:
        """Remove small pieces, or smooth slices, or take that back."""

    def unsure(self, run: Run, on_answer: UnsureAnswer) -> None:
        """Ask where a run was not sure."""


class CorrectSection(Section):
    """Strokes, refinements and the overlay of the result of the selected target."""

    def __init__(
        self,
        widgets: ReviewWidgets,
        state: PanelState,
        found: ShownResult,
        questions: Refinements,
        editor: HandEditor,
        marking: Marking,
        requests: Requests,
    ) -> None:
        """Connect the widgets.

        Args:
            widgets: The widgets.
            state: The shared state.
            found: The result of the selected target.
            questions: Refines runs, and says where they were not sure.
            editor: The effects of the Segment Editor.
            marking: The marks on the target.
            requests: What the marks correct.
        """
        self._marking, self._requests = marking, requests
        self._ui, self._state, self._found, self._editor = widgets, state, found, editor
        self._questions = questions
        self._overlay = Overlay()
        self._shown_of: tuple[object, ...] = ()
        self._refining: Run | None = None
        self._names: list[tuple[str, str]] = []
        for button, called in (
            (widgets.paintButton, self.on_paint),
            (widgets.eraseButton, self.on_erase),
            (widgets.undoStrokeButton, self.on_undo_stroke),
            (widgets.clickInsideButton, lambda: self.on_click(Mark.INSIDE)),
            (widgets.clickOutsideButton, lambda: self.on_click(Mark.OUTSIDE)),
        ):
            button.connect("clicked()", called)
        widgets.strokeObjectCombo.connect("currentIndexChanged(int)", self.on_object)
        for box in (widgets.piecesBox, widgets.smoothBox):
            box.connect("toggled(bool)", self.on_refine)
        widgets.overlayBox.connect("toggled(bool)", self.on_overlay)

    def close(self) -> None:
        """End strokes and remove the overlay."""
        self._overlay.hide()
        self._editor.close()

    def leave(self) -> None:
        """End strokes, because another module is opened; taking one back would take back what is drawn there."""
        self._editor.forget()
        self._show_effect()

    def forget(self) -> None:
        """Drop what belongs to a scene that is being closed."""
        self._overlay.hide()
        self._editor.forget()

    # --- showing it -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show what can be done with the result of the selected target."""
        run, node, ui = self._state.result, self._state.segmentation, self._ui
        now = self._found.now()
        key = (self._state.parameters.targetVolume, node, run, run is not None and run.undone, self._state.running)
        if key != self._shown_of:  # strokes and colours are those of one result
            self._shown_of = key
            self._overlay.hide()
            self._editor.forget()
        nothing = "" if now is not None else _("There is no result yet; press Apply.")
        if nothing and self._found.is_film:
            nothing = _("Not available for sequences.")
        running = _("Wait for the end of the run.") if self._state.running else ""
        names = [] if now is None else list(now.names.items())
        if names != self._names:
            self._names = names
            ui.strokeObjectCombo.clear()
            for _segment_id, name in names:
                ui.strokeObjectCombo.addItem(name)
        ui.strokeObjectCombo.setVisible(len(names) > 1)
        tip = _("Draws with the mouse in the slice views, into the result only; Shift and the wheel change the brush.")
        allow(ui.paintButton, nothing or running, tip)
        allow(ui.eraseButton, nothing or running, tip)
        no_stroke = "" if self._editor.edits(node) else _("Nothing was drawn here.")
        allow(ui.undoStrokeButton, nothing or running or no_stroke, _("Takes the last stroke back."))
        self._show_effect()
        self._show_clicks(nothing or ("" if self._marking.answering else running))
        self._show_run(run, nothing or running)

    def _show_clicks(self, nothing: str) -> None:
        """Show whether clicks can correct the result: only as it was prompted."""
        ui, placed = self._ui, self._marking.placed
        number = self._chosen()
        reason = nothing or self._requests.reason_to_mark()
        if not reason and number is not None and not self._requests.asks_for(self._names[number][1]):
            reason = _("What is chosen above does not prompt this structure, so that clicks cannot correct it.")
        tips = {
            Mark.INSIDE: _("Corrects the slice on screen: click where the structure is missing."),
            Mark.OUTSIDE: _("Corrects the slice on screen: click where it is too large."),
        }
        for kind, button in ((Mark.INSIDE, ui.clickInsideButton), (Mark.OUTSIDE, ui.clickOutsideButton)):
            button.setVisible(self._state.prompt_by != PromptBy.HAND)
            allow(button, reason, tips[kind])
            button.checked = placed is not None and placed[0] == kind

    def _show_effect(self) -> None:
        self._ui.paintButton.checked = self._editor.effect == PAINT
        self._ui.eraseButton.checked = self._editor.effect == ERASE

    def _show_run(self, run: Run | None, nothing: str) -> None:
        """Show what needs the masks that the run keeps."""
        ui, gone = self._ui, ""
        if run is None:
            gone = _("The run that made this result is not known any more.")
        elif run.undone:
            gone = _("The result was undone.")
        elif not run.keeps_masks:
            gone = _("Only for the last run on a volume: the masks of earlier runs are not kept.")
        how = run.refined.how if run is not None and run.refined is not None else Refinement()
        ui.piecesBox.checked, ui.smoothBox.checked = how.pieces, how.smooth
        busy = _("This is being computed.") if self._refining is not None else ""
        kept = _("Slices that you have changed stay as they are.")
        for box, tip in (
            (ui.piecesBox, _("Removes pieces that are much smaller than the largest one.")),
            (ui.smoothBox, _("Makes the contour of each slice the average of its own and its neighbours'.")),
        ):
            allow(box, nothing or gone or busy, f"{tip} {kept}")
        tip = _("Shows where the model was not sure as colours over the image; red where it could be either.")
        allow(ui.overlayBox, nothing or gone, tip)
        ui.overlayBox.checked = self._overlay.is_shown

    def on_click(self, kind: Mark) -> None:
        """Begin or end correcting by clicks."""
        number = self._chosen()
        if number is not None:
            self._editor.forget()  # its states hold the masks as they are now
            with said_in(self._ui.reviewMessageLabel):
                self._marking.start(kind, self._names[number][1])
        self._state.changed.emit()

    # --- strokes ----------------------------------------------------------------------------------------------

    def on_paint(self) -> None:
        """Paint, or end painting."""
        self._draw(PAINT)

    def on_erase(self) -> None:
        """Erase, or end erasing."""
        self._draw(ERASE)

    def on_object(self, index: int) -> None:
        """Go on with another object."""
        if self._state.listening and self._editor.effect:
            effect, self._editor.effect = self._editor.effect, ""
            self._draw(effect)

    def _draw(self, effect: str) -> None:
        node, target, number = self._state.segmentation, self._state.parameters.targetVolume, self._chosen()
        if self._editor.effect == effect or node is None or target is None or number is None:
            self._editor.stop()
        else:
            self._editor.start(effect, node, self._names[number][0], target)
        self._state.changed.emit()

    def _chosen(self) -> int | None:
        """Return the place of the object that is drawn."""
        number = max(0, self._ui.strokeObjectCombo.currentIndex)
        return number if number < len(self._names) else None

    def on_undo_stroke(self) -> None:
        """Take the last stroke back."""
        self._editor.undo()
        self._state.changed.emit()

    # --- the masks of the run ---------------------------------------------------------------------------------

    def on_refine(self, checked: bool) -> None:
        """Refine the masks as the boxes say."""
        run = self._state.result if self._state.listening else None
        if run is None:
            return
        how = Refinement(pieces=self._ui.piecesBox.checked, smooth=self._ui.smoothBox.checked)
        self._editor.forget()  # its states hold the masks as they are now
        self._refining = run
        self._questions.refine(run, how, self._when_refined)
        self._state.changed.emit()

    def _when_refined(self, error: str) -> None:
        self._refining = None
        if error:
            say(self._ui.reviewMessageLabel, error)
        self._state.changed.emit()

    def on_overlay(self, checked: bool) -> None:
        """Show where the model was not sure, or stop that."""
        run = self._state.result if self._state.listening else None
        if run is None:
            return
        if not checked:
            self._overlay.hide()
            return
        of = self._shown_of

        def show(values: npt.NDArray[np.uint8] | None, error: str) -> None:
            if values is not None and of == self._shown_of:  # the same result is still shown
                self._overlay.show(run.request.target, values)
            elif error:
                say(self._ui.reviewMessageLabel, error)
            self._state.changed.emit()

        self._questions.unsure(run, show)
