"""The top of the panel: missing packages, and the button that installs them."""

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
    """The list of missing packages and the install button; hidden if nothing is missing."""

    def __init__(self, widgets: TopWidgets, state: PanelState, model: ChosenModel, requirements: Requirements) -> None:
        """Connect the widgets and check the packages; imports none of them."""
        self._ui, self._state, self._model, self.requirements = widgets, state, model, requirements
        self._told = ""
        self._ui.firstRunButton.connect("clicked()", self.on_install)
        self.look_again()

    def look_again(self) -> None:
        """Check which packages are installed; takes half a second."""
        self._state.missing = self.requirements.missing()

    def enter(self) -> None:
        """Check again when the module is opened, and drop the message of the last installation."""
        self._told = ""
        if self._state.missing:
            self.look_again()
            self._state.installed.emit()

    def refresh(self) -> None:
        """Show what is missing, or the outcome of an installation."""
        wanted = self._state.obstacle or self._of_the_model()
        self._ui.firstRunFrame.setVisible(bool(wanted or self._told))
        self._ui.firstRunButton.setVisible(bool(wanted))
        say(self._ui.firstRunLabel, self._told or wanted)

    def _of_the_model(self) -> str:
        """Return a sentence if only the chosen model needs a package that is missing (SAM 2)."""
        row = self._model.row
        if row is None or row.usable or not row.package or is_installed(row.package):
            return ""
        return _("The model {name} needs the package {package}, which is not installed yet.").format(
            name=row.name, package=row.package
        )

    def on_install(self) -> None:
        """Ask, install, and show the outcome."""
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
