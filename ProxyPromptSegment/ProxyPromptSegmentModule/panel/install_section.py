"""The line at the top that says what has to be installed, and the button that does it after asking."""

from __future__ import annotations

import slicer.util

from ProxyPromptSegmentModule.install.installer import Requirements
from ProxyPromptSegmentModule.models.rows import is_installed
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.widgets import TopWidgets
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import explained, say


class InstallSection(Section):
    """Hidden when nothing is missing."""

    def __init__(self, widgets: TopWidgets, state: PanelState, model: ChosenModel, requirements: Requirements) -> None:
        """Looks at once, which imports nothing."""
        self._ui, self._state, self._model, self.requirements = widgets, state, model, requirements
        self._told = ""
        self._ui.firstRunButton.connect("clicked()", self.on_install)
        self.look_again()

    def look_again(self) -> None:
        """Looks what is installed now; takes half a second."""
        self._state.missing = self.requirements.missing()

    def enter(self) -> None:
        """Somebody opens the module: what was told before is old, and what was missing is perhaps there."""
        self._told = ""
        if self._state.missing:
            self.look_again()
            self._state.installed.emit()

    def refresh(self) -> None:
        """Shows what is missing, or what an installation has ended with."""
        wanted = self._state.obstacle or self._of_the_model()
        self._ui.firstRunFrame.setVisible(bool(wanted or self._told))
        self._ui.firstRunButton.setVisible(bool(wanted))
        say(self._ui.firstRunLabel, self._told or wanted)

    def _of_the_model(self) -> str:
        """A sentence where the chosen model alone needs a package that is not here (SAM 2)."""
        row = self._model.row
        if row is None or row.usable or not row.package or is_installed(row.package):
            return ""
        return _("The model {name} needs the package {package}, which is not installed yet.").format(
            name=row.name, package=row.package
        )

    def on_install(self) -> None:
        """Asks, installs, and says what came of it."""
        self._ui.firstRunButton.enabled = False
        try:
            outcome = self.requirements.install(self._ask, self._report)
            self._told = outcome.text
        except Exception as error:
            self._told = explained(error)
        self._ui.firstRunButton.enabled = True
        self.look_again()
        self._state.installed.emit()
        self._state.changed.emit()

    def _ask(self, text: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(text, _("Install Python packages")))

    def _report(self, text: str) -> None:
        self._told = text
        say(self._ui.firstRunLabel, text)
        slicer.app.processEvents()
