"""The why section: the regions of the supports that the model read for a point of the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import qt
import slicer

from ProxyPromptSegmentModule.panel.icons import heat_picture, icon
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import WhyWidgets
from ProxyPromptSegmentModule.scene.point_mark import mark_point, unmark_point
from ProxyPromptSegmentModule.scene.slice_views import Clicks, crosshair_ras, slice_interactors
from ProxyPromptSegmentModule.states import PromptBy
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.attribution import Why
    from ProxyPromptSegmentModule.runs.questions import WhyAnswer
    from ProxyPromptSegmentModule.runs.run import Run

_MOST_PICTURES = 6
_LEAST_SHARE = 0.005
"""Support slices with a smaller share are not shown."""


class Explains(Protocol):
    """The part of `SegmentationLogic` that explains a point."""

    def why(self, run: Run, ras: Sequence[float], name: str, on_answer: WhyAnswer) -> None:
        """Ask which support patches drove the prediction of an object at a world position."""


class WhySection(Section):
    """The buttons to choose a point, the explanation, and the pictures."""

    def __init__(self, widgets: WhyWidgets, state: PanelState, logic: Explains) -> None:
        """Connect the widgets."""
        self._ui, self._state, self._logic = widgets, state, logic
        self._clicks: Clicks | None = None
        self._objects: list[str] = []
        self._run: Run | None = None
        self._point: Sequence[float] = ()
        self._ui.whyPointButton.connect("toggled(bool)", self.on_point)
        self._ui.whyCrosshairButton.connect("clicked()", self.on_crosshair)
        self._ui.whyObjectCombo.connect("currentIndexChanged(int)", self.on_object)
        self._empty()

    def refresh(self) -> None:
        """Show whether a point can be explained: only what supports prompt reads them."""
        self._ui.whyButton.setVisible(self._state.prompt_by == PromptBy.SUPPORT)
        run = self._state.result
        film = run is not None and run.request.browser is not None
        job = run.job if run is not None and not film else None
        job = job if job is not None and job.support.pairs else None
        if run is not self._run:
            self._run = run
            self._empty()
        objects = list(job.support.objects) if job is not None else []
        if objects != self._objects:
            self._objects = objects
            self._ui.whyObjectCombo.clear()
            for name in objects:
                self._ui.whyObjectCombo.addItem(name)
        if objects:
            wanted = self._state.parameters.whyObject
            self._ui.whyObjectCombo.currentIndex = objects.index(wanted) if wanted in objects else 0
        self._ui.whyObjectCombo.setVisible(len(objects) > 1)
        reason = "" if job is not None else _("There is no result yet; press Apply.")
        reason = _("Not available for sequences.") if film else reason or self._state.teaching
        if reason:
            self.stop()
        allow(self._ui.whyPointButton, reason, _("Press, then click into a slice view of the target."))
        allow(self._ui.whyCrosshairButton, reason, _("Explains the point under the crosshair."))

    def _empty(self) -> None:
        say(self._ui.whyLabel, "")
        self._ui.whyList.clear()
        self._ui.whyList.setVisible(False)
        if self._state.has_scene:
            unmark_point(slicer.mrmlScene)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_object(self, index: int) -> None:
        """Store the object."""
        if self._state.listening and 0 <= index < len(self._objects):
            self._state.parameters.whyObject = self._objects[index]

    def on_point(self, checked: bool) -> None:
        """Start or stop observing clicks."""
        self._unlisten()
        if checked:
            say(self._ui.whyLabel, _("Click into a slice view of the target."))
            self._clicks = Clicks(slicer.mrmlScene, slice_interactors(), self.ask)

    def on_crosshair(self) -> None:
        """Explain the point under the crosshair."""
        ras = crosshair_ras(slicer.mrmlScene)
        if ras is None:
            say(self._ui.whyLabel, _("There is no crosshair; press Explain a point and click."))
        else:
            self.ask(ras)

    def ask(self, ras: tuple[float, float, float]) -> None:
        """Ask about a world position; `on_answer` receives the answer."""
        run = self._state.result
        if run is None or not self._objects:
            return
        name = self._objects[max(0, self._ui.whyObjectCombo.currentIndex)]
        self._point = ras
        say(self._ui.whyLabel, _("Computing…"))
        with said_in(self._ui.whyLabel):
            self._logic.why(run, ras, name, lambda why, reason: self.on_answer(run, why, reason))

    def on_answer(self, run: Run, why: Why | None, reason: str) -> None:
        """Show the pictures, the largest share first."""
        job = run.job
        if run is not self._state.result or job is None:
            return
        self._empty()
        if why is None:
            say(self._ui.whyLabel, reason)
            return
        if self._point:
            mark_point(slicer.mrmlScene, self._point, why.name)
        chance = _("Probability of {name} at this point: {percent} %.").format(
            name=why.name, percent=round(100 * why.probability)
        )
        say(self._ui.whyLabel, "\n".join([why.sentence, chance, why.caveat]))
        shares = sorted(enumerate(why.shares), key=lambda one: -float(one[1]))[:_MOST_PICTURES]
        for number, share in shares:
            if float(share) < _LEAST_SHARE:
                continue
            pair, shown = job.support.pairs[number], job.shown[number]
            item = qt.QListWidgetItem(
                _("{percent} %, slice {number}\n{name}").format(
                    name=shown.name, number=shown.index, percent=round(100 * float(share))
                )
            )
            frames = [patch.box for patch in why.patches if patch.pair == number]
            item.setIcon(icon(heat_picture(pair.image, why.maps[number], frames=frames)))
            self._ui.whyList.addItem(item)
        self._ui.whyList.setVisible(True)

    def stop(self) -> None:
        """Stop observing clicks."""
        self._unlisten()
        self._ui.whyPointButton.checked = False

    def _unlisten(self) -> None:
        if self._clicks is not None:
            self._clicks.stop()
            self._clicks = None

    def close(self) -> None:
        """Stop observing clicks, and remove the mark, when the module is unloaded."""
        self.stop()
        unmark_point(slicer.mrmlScene)
