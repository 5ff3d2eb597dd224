"""The apply section: the button, the estimate, the progress and the messages of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import slicer

from ProxyPromptSegmentLib.imaging.geometry import AXES, axis_number
from ProxyPromptSegmentModule.panel.chosen_objects import ChosenObjects
from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.live_watch import LiveWatch
from ProxyPromptSegmentModule.panel.marking import Marking
from ProxyPromptSegmentModule.panel.requests import Requests
from ProxyPromptSegmentModule.panel.run_words import words_of_end, words_of_estimate, words_of_forecast
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import ApplyWidgets
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.scene.facts import result_now
from ProxyPromptSegmentModule.scene.nodes import check_volume
from ProxyPromptSegmentModule.scene.slice_views import show_case, show_only_own, show_slice, volume_on_screen
from ProxyPromptSegmentModule.states import PromptBy, RunState, Scope
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import duration, explained, ranges, said_in, say, sentence

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.estimate import Estimate
    from ProxyPromptSegmentModule.runs.estimates import EstimateAnswer
    from ProxyPromptSegmentModule.runs.live_run import LiveRun
    from ProxyPromptSegmentModule.runs.pump import Pump
    from ProxyPromptSegmentModule.runs.run import Run

_MOST_SENTENCES = 4


class Runs(Protocol):
    """The part of `SegmentationLogic` that starts runs."""

    pump: Pump

    def estimate_later(self, request: Request, on_answer: EstimateAnswer) -> None:
        """Estimate time and memory of a run; the answer comes when there is one, and only to the newest question."""

    def prepare_ahead(self, request: Request) -> None:
        """Prepare supports in the background."""

    def start(self, request: Request) -> Run:
        """Start a run."""

    def live(self, request: Request) -> LiveRun:
        """Start a live preview."""

    def show(self, run: LiveRun, index: int) -> None:
        """Segment another slice of a live preview."""


class ApplySection(Section):
    """The button Apply, which becomes Cancel; the estimate before a run, its progress, and its messages."""

    def __init__(
        self,
        widgets: ApplyWidgets,
        state: PanelState,
        objects: ChosenObjects,
        target: ChosenTarget,
        requests: Requests,
        marking: Marking,
        logic: Runs,
    ) -> None:
        """Connect the widgets."""
        self._marking = marking
        self._ui, self._state, self._objects, self._target = widgets, state, objects, target
        self._requests, self._logic = requests, logic
        self._preview: LiveRun | None = None
        self._watch: LiveWatch | None = None
        self._cancelling = False
        self._written: slicer.vtkMRMLSegmentationNode | None = None
        self._largest_of: Run | None = None
        self._again = False
        self._said_of: slicer.vtkMRMLVolumeNode | None = None
        self._seen: int | None = None
        self._estimated: tuple[object, str] = (None, "")
        self._ui.applyButton.connect("clicked()", self.on_apply)
        self._ui.followViewBox.connect("toggled(bool)", self.on_follow)
        self._ui.replaceChangedBox.connect("toggled(bool)", self.on_replace_changed)
        self._ui.progressBar.setVisible(False)
        say(self._ui.runLabel, "")

    @property
    def live(self) -> bool:
        """Whether a live preview is in progress."""
        return self._watch is not None

    def refresh(self) -> None:
        """Show whether Apply can be pressed, and if not, why."""
        ui = self._ui
        ui.followViewBox.checked = self._state.parameters.followView
        ui.followViewBox.setVisible(self._state.prompt_by != PromptBy.HAND)
        reason = "" if self._state.running else self._requests.reason()
        say(ui.reasonLabel, reason)
        self._show_button(reason)
        say(ui.estimateLabel, self._forecast() if self._state.running else "" if reason else self._estimate())
        ui.progressBar.setVisible(self._state.running and not self.live and not self._marking.answering)
        self._show_changed("" if reason or self._state.running else self._changed_words())
        self._show_words_of_target()

    def _changed_words(self) -> str:
        """Return which slices of the earlier result were changed by hand; "" if none was."""
        if self._target.scope() == Scope.SEQUENCE:
            return ""
        changed = self._requests.changed_slices(self._target.axis())
        lines = [f"{name}: {ranges(slices)}" for name, slices in changed.items() if slices]
        if not lines:
            return ""
        return _("Changed by hand and left as they are: {slices}.").format(slices="; ".join(lines))

    def _show_changed(self, words: str) -> None:
        say(self._ui.changedLabel, words)
        self._ui.replaceChangedBox.setVisible(bool(words))
        if not (words and self._state.replace_changed):
            self._state.replace_changed = False  # an answer for another target or output is forgotten
        self._ui.replaceChangedBox.checked = self._state.replace_changed

    def _show_words_of_target(self) -> None:
        """Show what the last run on the selected target said, once another target is selected."""
        target = self._state.parameters.targetVolume
        if target is not self._said_of:
            self._said_of = target
            if not self._state.running:
                run = self._state.result
                say(self._ui.runLabel, self._sentences(run) if run is not None else "")

    def _show_button(self, reason: str) -> None:
        button = self._ui.applyButton
        if self._state.running:
            button.text = _("Stop the live preview") if self.live else _("Cancel")
            button.enabled = not self._cancelling
            if self._marking.answering:
                button.text = _("Finish marking")
                button.toolTip = _("Ends the marks on this image; the result can then be undone and corrected.")
                return
            button.toolTip = _("Stops after the slice that is being computed; finished slices are kept.")
            return
        self._cancelling = False
        button.text = _("Apply")
        button.enabled = not reason
        names = ", ".join(self._objects.names())
        target = self._state.parameters.targetVolume
        where = target.GetName() if target is not None else ""
        button.toolTip = reason or _("Segments {objects} in {target}.").format(objects=names, target=where)

    def _estimate(self) -> str:
        """Return time and memory in words; asked for again only if the choices have changed."""
        if self._target.scope() in (Scope.LIVE, Scope.SEQUENCE) or self._state.prompt_by == PromptBy.HAND:
            return ""
        parameters = self._state.parameters
        assert parameters.targetVolume is not None  # otherwise there is a reason
        key = (
            parameters.targetVolume.GetID(),
            check_volume(parameters.targetVolume).GetDimensions(),
            tuple((row.key, row.slices) for row in self._state.used_rows()),
            self._objects.names(),
            self._target.slices(),
            (self._state.prompt_by, self._requests.settings()),
            id(self._state.run),
        )
        if self._estimated[0] != key:
            self._estimated = (key, _("Estimating time and memory…"))  # never the words of other choices meanwhile
            first = self._state.run is None
            try:
                request = self._requests.request()
                self._logic.estimate_later(request, lambda found, _error: self._on_estimate(key, found, first, request))
            except Exception as error:  # the estimate is optional; Apply will report the error
                explained(error)
                self._estimated = (key, "")
        return self._estimated[1]

    def _forecast(self) -> str:
        """Return what the run in progress takes, once its first slices were measured; "" before."""
        run = self._state.run
        return "" if run is None or run.ended or run.forecast is None else words_of_forecast(run.forecast)

    def _on_estimate(self, key: object, found: Estimate | None, first: bool, request: Request) -> None:
        """Show an estimate and prepare its supports, unless other choices were made meanwhile."""
        if self._estimated[0] != key:
            return
        text = "" if found is None else words_of_estimate(found, first)
        self._estimated = (key, text)
        if not self._state.running:
            reason = self._requests.reason()
            say(self._ui.estimateLabel, "" if reason else text)
            if found is not None and not reason:
                self._logic.prepare_ahead(request)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_apply(self) -> None:
        """Start a run, or cancel the one in progress."""
        if self.live or self._marking.answering:
            self.end_live()
        elif self._again:  # between two live previews
            self._again = False
        elif self._state.running:
            self._cancelling = True
            if self._state.run is not None:
                self._state.run.cancel()
            self._logic.pump.start()
            say(self._ui.runLabel, _("Stopping after this slice…"))
        else:
            self.start()
        self._state.changed.emit()

    def start(self) -> None:
        """Start a run; errors in the choices are shown below the button."""
        say(self._ui.runLabel, "")
        with said_in(self._ui.runLabel):
            request = self._requests.request()
            live = self._target.scope() == Scope.LIVE
            self._cancelling, self._seen, self._written = False, None, None
            show_case(slicer.mrmlScene, request.target, self._state.support_rows())
            self._preview = self._logic.live(request) if live else None
            run: Run = self._preview or self._logic.start(request)
            self._state.run, self._said_of = run, request.target
            self._state.replace_changed = False  # the answer to a question about this run
            if live:
                axis = AXES[axis_number(request.settings.axis)]
                self._watch = LiveWatch(slicer.mrmlScene, request.target, axis, self._show_live)
                self._watch.look()
            run.observe(self.on_run_changed)
            self.show_run(run)
        self._state.changed.emit()

    def update_at_once(self) -> None:
        """Segment again with other objects or supports if this target has a result or a live preview."""
        parameters, run = self._state.parameters, self._state.run
        if not parameters.updateAtOnce or run is None or self._requests.reason():
            return
        if self.live:
            self.end_live()
            self._again = True  # after its end: only then its segments are known to be unedited
            self._go_on(run)
        elif self._state.result is run and not run.undone:
            self.start()

    def on_run_began(self) -> None:
        """Show a run that another section has started."""
        run = self._state.run
        if run is None:
            return
        say(self._ui.runLabel, "")
        self._cancelling, self._seen, self._written, self._preview = False, None, None, None
        self._said_of = run.request.target
        run.observe(self.on_run_changed)
        self.show_run(run)
        self._state.changed.emit()

    def end_live(self) -> None:
        """End a live preview, or the answers to marks; their slices are kept."""
        self._marking.stop()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
            if self._state.running and self._preview is not None:
                self._preview.close()
                self._logic.pump.start()

    def _show_live(self, index: int) -> None:
        preview = self._preview
        if preview is not None and self._state.running and not self._requests.stays(preview.request, index):
            self._logic.show(preview, index)

    def _go_on(self, run: Run) -> None:
        """Restart the live preview that was ended because the choices changed."""
        if self._again and run.ended:
            self._again = False
            if not self._requests.reason():
                self.start()

    def on_follow(self, checked: bool) -> None:
        """Store whether the views follow the run."""
        if self._state.listening:
            self._state.parameters.followView = checked

    def on_replace_changed(self, checked: bool) -> None:
        """Store the answer whether slices changed by hand are replaced by the next run."""
        if self._state.listening:
            self._state.replace_changed = checked
            self._state.changed.emit()

    def on_run_changed(self, run: Run) -> None:
        """Update the panel after a change of the run; called many times a second, so it has to be fast."""
        if run is not self._state.run or not self._state.has_scene:
            return
        parameters = self._state.parameters
        if run.segmentation is not None and run.segmentation is not self._written:
            self._written = run.segmentation
            if run.request.target is parameters.targetVolume and run.makes_result:
                parameters.outputSegmentation = run.segmentation
            shown = volume_on_screen(slicer.mrmlScene) or parameters.targetVolume
            if shown is not None:  # another case may have been selected meanwhile
                show_only_own(slicer.mrmlScene, shown, self._state.support_rows())
        self.show_run(run)
        if run.ended:
            if run.state == RunState.FINISHED and parameters.followView and not run.undone:
                self._show_largest(run)
            self._state.changed.emit()

    def _show_largest(self, run: Run) -> None:
        """Show the slice with the largest section, once after the end of a run on the selected target."""
        if run is self._largest_of or run.job is None or run.request.browser is not None or self._preview is run:
            return
        if run is self._marking.run or not run.makes_result:  # the user looks at the slice
            return
        self._largest_of = run
        target, node = run.request.target, run.segmentation
        if node is None or target is not self._state.parameters.targetVolume:
            return
        now = result_now(node, target, self._state.states)
        pixels = [now.along[one].pixels for one in run.segment_ids.values() if one in now.along]
        sums = {index: sum(one.get(index, 0) for one in pixels) for one in pixels for index in one}
        if sums:
            show_slice(slicer.mrmlScene, target, now.axis, max(sums, key=lambda index: sums[index]))

    # --- what a run says --------------------------------------------------------------------------------------

    def show_run(self, run: Run) -> None:
        """Show the progress of a run."""
        bar = self._ui.progressBar
        bar.maximum = run.total
        bar.value = run.done
        bar.format = self._progress_words(run)
        if not run.ended:
            say(self._ui.estimateLabel, self._forecast())
        if run.ended and self._watch is not None:
            self._watch.stop()
            self._watch = None
        if not (self._cancelling and not run.ended):
            said = self._sentences(run)
            target = run.request.target
            if said and target is not self._state.parameters.targetVolume:  # it would be read as about that one
                said = _("“{image}”: {said}").format(image=target.GetName(), said=said)
            say(self._ui.runLabel, said)
        if run.last_index is not None and run.last_index != self._seen:
            self._seen = run.last_index
            if self._state.parameters.followView and not (run.ended or self.live or run is self._marking.run):
                self._follow(run)
        self._go_on(run)

    def _follow(self, run: Run) -> None:
        if run.request.browser is not None and run.last_index is not None:
            run.request.browser.SetSelectedItemNumber(run.last_index)
        elif run.job is not None and run.last_index is not None:
            show_slice(slicer.mrmlScene, run.request.target, run.job.view.axis, run.last_index)

    def _progress_words(self, run: Run) -> str:
        what = _("{what}, {image}").format(what=sentence(run.what), image=run.request.target.GetName())
        if not run.total:
            return what
        text = _("{what}: {done} of {total}").format(what=what, done=run.done, total=run.total)
        if run.seconds_left is not None:
            text += _(", about {time} left").format(time=duration(run.seconds_left))
        return text.replace("%", "%%") if "%" in text else text

    def _sentences(self, run: Run) -> str:
        lines = list(run.sentences[-_MOST_SENTENCES:])
        if self._watch is not None and self._watch.seen is None:
            lines.append(
                _(
                    "No slice view shows a slice of the target: turn one to its plane (“Rotate to volume plane” in the "
                    "bar of the view) and scroll to it."
                )
            )
        if run.state == RunState.FAILED:
            lines.append(run.error)
        elif run.undone:
            lines = [_("The result was undone.")]
        elif run.ended:
            lines.append(words_of_end(run).format(count=len(run.written)))
        return "\n".join(lines)

    def close(self) -> None:
        """Stop observing the views."""
        self.end_live()
