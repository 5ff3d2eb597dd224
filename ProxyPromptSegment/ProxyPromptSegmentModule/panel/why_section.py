"""The why view: which places of the supports the network read for a point of the target."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ProxyPromptSegmentModule.panel.icons import heat_picture, icon
from ProxyPromptSegmentModule.scene.slice_views import Clicks, crosshair_ras, slice_interactors
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import allow, said_in, say

_MOST_PICTURES = 6
_LEAST_SHARE = 0.005
"""Supports that had less of what was read are not shown."""


class WhySection:
    """A click, an answer, and pictures."""

    def __init__(self, panel: Any) -> None:
        """Connects the widgets."""
        self.panel, self.ui = panel, panel.ui
        self._clicks: Clicks | None = None
        self._objects: list[str] = []
        self._run: Any = None
        self.ui.whyPointButton.connect("toggled(bool)", self.on_point)
        self.ui.whyCrosshairButton.connect("clicked()", self.on_crosshair)
        self.ui.whyObjectCombo.connect("currentIndexChanged(int)", self.on_object)
        self._empty()

    def refresh(self) -> None:
        """Shows whether something can be asked."""
        run = self.panel.results.run
        film = run is not None and run.request.browser is not None
        job = run.job if run is not None and not film else None
        if run is not self._run:
            self._run = run
            self._empty()
        objects = list(job.support.objects) if job is not None else []
        if objects != self._objects:
            self._objects = objects
            self.ui.whyObjectCombo.clear()
            for name in objects:
                self.ui.whyObjectCombo.addItem(name)
        if objects:
            wanted = self.panel.parameters.whyObject
            self.ui.whyObjectCombo.currentIndex = objects.index(wanted) if wanted in objects else 0
        self.ui.whyObjectCombo.setVisible(len(objects) > 1)
        reason = "" if job is not None else _("There is no result yet; press Apply.")
        reason = _("Not for sequences.") if film else reason
        if reason:
            self.stop()
        allow(self.ui.whyPointButton, reason, _("Then click into a slice view of the target."))
        allow(self.ui.whyCrosshairButton, reason, _("Takes the place of the crosshair instead of a click."))

    def _empty(self) -> None:
        say(self.ui.whyLabel, "")
        self.ui.whyList.clear()
        self.ui.whyList.setVisible(False)

    # --- what the user does -----------------------------------------------------------------------------------

    def on_object(self, index: int) -> None:
        """Another object."""
        if self.panel.listening and 0 <= index < len(self._objects):
            self.panel.parameters.whyObject = self._objects[index]

    def on_point(self, checked: bool) -> None:
        """Begins or ends to listen to clicks."""
        self._unlisten()
        if checked:
            say(self.ui.whyLabel, _("Click into a slice view of the target."))
            self._clicks = Clicks(slicer.mrmlScene, slice_interactors(), self.ask)

    def on_crosshair(self) -> None:
        """Asks about the crosshair."""
        ras = crosshair_ras(slicer.mrmlScene)
        if ras is None:
            say(self.ui.whyLabel, _("There is no crosshair; press Explain a point and click."))
        else:
            self.ask(ras)

    def ask(self, ras: tuple[float, float, float]) -> None:
        """Asks about a place of the world; the answer comes later."""
        run = self.panel.results.run
        if run is None or not self._objects:
            return
        name = self._objects[max(0, self.ui.whyObjectCombo.currentIndex)]
        say(self.ui.whyLabel, _("Looking…"))
        with said_in(self.ui.whyLabel):
            self.panel.logic.why(run, ras, name, lambda why, reason: self.on_answer(run, why, reason))

    def on_answer(self, run: Any, why: Any, reason: str) -> None:
        """Shows the pictures, the most read first."""
        if run is not self.panel.results.run:
            return
        self._empty()
        if why is None:
            say(self.ui.whyLabel, reason)
            return
        chance = _("Probability of {name} at this point: {percent} %.").format(
            name=why.name, percent=round(100 * why.probability)
        )
        say(self.ui.whyLabel, "\n".join([why.sentence, chance, why.caveat]))
        shares = sorted(enumerate(why.shares), key=lambda one: -float(one[1]))[:_MOST_PICTURES]
        for number, share in shares:
            if float(share) < _LEAST_SHARE:
                continue
            pair, shown = run.job.support.pairs[number], run.job.shown[number]
            item = qt.QListWidgetItem(
                _("{percent} %, slice {number}\n{name}").format(
                    name=shown.name, number=shown.index, percent=round(100 * float(share))
                )
            )
            frames = [patch.box for patch in why.patches if patch.pair == number]
            item.setIcon(icon(heat_picture(pair.image, why.maps[number], frames=frames)))
            self.ui.whyList.addItem(item)
        self.ui.whyList.setVisible(True)

    def stop(self) -> None:
        """Listens to clicks no more."""
        self._unlisten()
        self.ui.whyPointButton.checked = False

    def _unlisten(self) -> None:
        if self._clicks is not None:
            self._clicks.stop()
            self._clicks = None

    def close(self) -> None:
        """The same when the module is unloaded."""
        self.stop()
