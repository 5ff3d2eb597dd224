"""The line at the top that says what has to be installed, and the button that does it after asking."""

from __future__ import annotations

from typing import Any

import slicer.util

from ProxyPromptSegmentModule.install.installer import Requirements
from ProxyPromptSegmentModule.models.rows import is_installed
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import explained, say


class FirstRunSection:
    """Hidden when nothing is missing.

    Attributes:
        missing: What is missing, as requirements.
    """

    def __init__(self, panel: Any) -> None:
        """Looks at once, which imports nothing."""
        self.panel, self.ui = panel, panel.ui
        self.requirements = Requirements()
        self.missing: list[str] = []
        self._told = ""
        self.ui.firstRunButton.connect("clicked()", self.on_install)
        self.look_again()

    def look_again(self) -> None:
        """Looks what is installed now; takes half a second."""
        self.missing = self.requirements.missing()

    def enter(self) -> None:
        """Somebody opens the module: what was told before is old, and what was missing is perhaps there."""
        self._told = ""
        if self.missing:
            self.look_again()
            self.panel.equip()

    @property
    def reason(self) -> str:
        """Why nothing can run yet; "" if it can."""
        if not self.missing:
            return ""
        names = {line.split(">")[0].split("=")[0].strip() for line in self.missing}
        what = _("PyTorch is") if "torch" in names else _("Some packages are")
        return _("{what} not installed yet. Press Install at the top; it asks before it does anything.").format(
            what=what
        )

    def refresh(self) -> None:
        """Shows what is missing, or what an installation has ended with."""
        wanted = self.reason or self._of_the_model()
        self.ui.firstRunFrame.setVisible(bool(wanted or self._told))
        self.ui.firstRunButton.setVisible(bool(wanted))
        say(self.ui.firstRunLabel, self._told or wanted)

    def _of_the_model(self) -> str:
        """A sentence where the chosen model alone needs a package that is not here (SAM 2)."""
        row = self.panel.models.row
        if row is None or row.usable or not row.package or is_installed(row.package):
            return ""
        return _("The model {name} needs the package {package}, which is not installed yet.").format(
            name=row.name, package=row.package
        )

    def on_install(self) -> None:
        """Asks, installs, and says what came of it."""
        self.ui.firstRunButton.enabled = False
        try:
            outcome = self.requirements.install(self._ask, self._report)
            self._told = outcome.text
        except Exception as error:
            self._told = explained(error)
        self.ui.firstRunButton.enabled = True
        self.look_again()
        self.panel.equip()
        self.panel.models.look_again()
        self.panel.refresh()

    def _ask(self, text: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(text, _("Install Python packages")))

    def _report(self, text: str) -> None:
        self._told = text
        say(self.ui.firstRunLabel, text)
        slicer.app.processEvents()
