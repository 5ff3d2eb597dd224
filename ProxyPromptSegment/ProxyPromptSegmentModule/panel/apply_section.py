"""The button that begins and cancels, and what is said while it runs."""

from __future__ import annotations

from typing import Any

import slicer

from ProxyPromptSegmentModule.panel.live_watch import LiveWatch
from ProxyPromptSegmentModule.panel.requests import reason_of, request_of, stays
from ProxyPromptSegmentModule.panel_words import in_panel_words
from ProxyPromptSegmentModule.parameters import LIVE, SEQUENCE
from ProxyPromptSegmentModule.scene.slice_views import show_case, show_slice
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import duration, explained, said_in, say, sentence, size

_MOST_SENTENCES = 4


class ApplySection:
    """Apply, which becomes Cancel; the estimate before, the progress during, the sentences after."""

    def __init__(self, panel: Any) -> None:
        """Connects the widgets."""
        self.panel, self.ui = panel, panel.ui
        self._watch: LiveWatch | None = None
        self._cancelling = False
        self._again = False
        self._seen: int | None = None
        self._estimated: tuple[Any, str] = (None, "")
        self.ui.applyButton.connect("clicked()", self.on_apply)
        self.ui.followViewBox.connect("toggled(bool)", self.on_follow)
        self.ui.progressBar.setVisible(False)
        say(self.ui.runLabel, "")

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return self.panel.run is not None and not self.panel.run.ended

    @property
    def live(self) -> bool:
        """Whether a live preview goes on."""
        return self._watch is not None

    def refresh(self) -> None:
        """Shows whether Apply can be pressed, and if not, why."""
        ui = self.ui
        ui.followViewBox.checked = self.panel.parameters.followView
        reason = "" if self.running else reason_of(self.panel)
        say(ui.reasonLabel, reason)
        self._show_button(reason)
        say(ui.estimateLabel, "" if reason or self.running else self._estimate())
        ui.progressBar.setVisible(self.running and not self.live)

    def _show_button(self, reason: str) -> None:
        button = self.ui.applyButton
        if self.running:
            button.text = _("Stop the live preview") if self.live else _("Cancel")
            button.enabled = not self._cancelling
            button.toolTip = _("Stops after the slice that is being computed; what is done stays.")
            return
        self._cancelling = False
        button.text = _("Apply")
        button.enabled = not reason
        names = ", ".join(self.panel.objects.names())
        target = self.panel.parameters.targetVolume
        button.toolTip = reason or _("Segments {objects} in {target}.").format(objects=names, target=target.GetName())

    def _estimate(self) -> str:
        """Time and memory in words; asked again only when the choices change."""
        if self.panel.target.scope() in (LIVE, SEQUENCE):
            return ""
        parameters = self.panel.parameters
        key = (
            parameters.targetVolume.GetID(),
            parameters.targetVolume.GetImageData().GetDimensions(),
            tuple((row.key, row.slices) for row in self.panel.used_rows()),
            self.panel.objects.names(),
            self.panel.target.slices(),
            (parameters.model, parameters.device, parameters.axis, parameters.followMemory),
            id(self.panel.run),
        )
        if self._estimated[0] != key:
            try:
                text = _words_of(self.panel.logic.estimate(request_of(self.panel)), self.panel.run is None)
            except Exception as error:  # an estimate is a kindness; Apply says what is wrong
                explained(error)
                text = ""
            self._estimated = (key, text)
        return self._estimated[1]

    # --- what the user does -----------------------------------------------------------------------------------

    def on_apply(self) -> None:
        """Begins, or cancels what runs."""
        if self.live:
            self.end_live()
        elif self._again:  # between two live previews
            self._again = False
        elif self.running:
            self._cancelling = True
            self.panel.run.cancel()
            self.panel.logic.pump.start()
            say(self.ui.runLabel, _("Stopping after this slice…"))
        else:
            self.start()
        self.panel.refresh()

    def start(self) -> None:
        """Begins a run; what is wrong with the choices is said below the button."""
        say(self.ui.runLabel, "")
        with said_in(self.ui.runLabel):
            request = request_of(self.panel)
            live = self.panel.target.scope() == LIVE
            self._cancelling, self._seen = False, None
            show_case(slicer.mrmlScene, request.target, self.panel.support_rows())
            run = self.panel.logic.live(request) if live else self.panel.logic.start(request)
            self.panel.run = run
            if live:
                self._watch = LiveWatch(slicer.mrmlScene, request.target, request.settings.axis, self._show_live)
                self._watch.look()
            run.observe(self.panel.run_changed)
            self.show_run(run)
        self.panel.refresh()

    def update_at_once(self) -> None:
        """Segments again with other objects or supports, where this target has a result or a preview goes on."""
        parameters, run = self.panel.parameters, self.panel.run
        if not parameters.updateAtOnce or run is None or reason_of(self.panel):
            return
        if self.live:
            self.end_live()
            self._again = True  # when it has ended: only then are its segments known to be nobody else's
            self._go_on(run)
        elif self.panel.results.shown and run.request.target is parameters.targetVolume:
            self.start()

    def end_live(self) -> None:
        """Ends a live preview; what it wrote stays."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
            if self.running:
                self.panel.run.close()
                self.panel.logic.pump.start()

    def _show_live(self, index: int) -> None:
        if self.running and not stays(self.panel, self.panel.run.request, index):
            self.panel.logic.show(self.panel.run, index)

    def _go_on(self, run: Any) -> None:
        """Begins the live preview again that has ended because the choices changed."""
        if self._again and run.ended:
            self._again = False
            if not reason_of(self.panel):
                self.start()

    def on_follow(self, checked: bool) -> None:
        """Whether the views follow."""
        if self.panel.listening:
            self.panel.parameters.followView = checked

    # --- what a run says --------------------------------------------------------------------------------------

    def show_run(self, run: Any) -> None:
        """Shows how far a run is."""
        bar = self.ui.progressBar
        bar.maximum = run.total
        bar.value = run.done
        bar.format = self._progress_words(run)
        if run.ended and self._watch is not None:
            self._watch.stop()
            self._watch = None
        if not (self._cancelling and not run.ended):
            say(self.ui.runLabel, self._sentences(run))
        if run.last_index is not None and run.last_index != self._seen:
            self._seen = run.last_index
            if self.panel.parameters.followView and not run.ended and not self.live:
                self._follow(run)
        self._go_on(run)

    def _follow(self, run: Any) -> None:
        if run.request.browser is not None:
            run.request.browser.SetSelectedItemNumber(run.last_index)
        elif run.job is not None:
            show_slice(slicer.mrmlScene, run.request.target, run.job.view.axis, run.last_index)

    def _progress_words(self, run: Any) -> str:
        what = sentence(run.what)
        if not run.total:
            return what
        text = _("{what}: {done} of {total}").format(what=what, done=run.done, total=run.total)
        if run.seconds_left is not None:
            text += _(", about {time} left").format(time=duration(run.seconds_left))
        return text.replace("%", "%%") if "%" in text else text

    def _sentences(self, run: Any) -> str:
        lines = [in_panel_words(one) for one in run.sentences[-_MOST_SENTENCES:]]
        if self.live and self._watch.seen is None:
            lines.append(_("No slice view shows a slice of the target; turn one to its plane and scroll to it."))
        if run.state == "failed":
            lines.append(run.error)
        elif run.ended:
            lines.append(_words_of_end(run).format(count=len(run.written)))
        return "\n".join(lines)

    def close(self) -> None:
        """Stops watching the views."""
        self.end_live()


def _words_of_end(run: Any) -> str:
    """How a run has ended that has not failed, with a place for the number of slices."""
    film = run.request.browser is not None
    if run.state == "cancelled":
        return _("Cancelled; items done and kept: {count}.") if film else _("Cancelled; slices done and kept: {count}.")
    return _("Finished; items written: {count}.") if film else _("Finished; slices written: {count}.")


def _words_of(estimate: Any, first: bool) -> str:
    """Time and memory in words.

    Args:
        estimate: An `estimate.Estimate`.
        first: Whether the model has not been used yet, so that it has to be loaded.
    """
    seconds = estimate.seconds + (estimate.first_time_seconds if first else 0.0)
    return _("About {time}, {size} of memory.").format(time=duration(seconds), size=size(estimate.memory_bytes))
