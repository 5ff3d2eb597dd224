"""A list of lines with a tick and a colour each, updated without replacing its items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qt

from ProxyPromptSegmentModule.panel.icons import swatch


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the list.

    Attributes:
        key: Identifier of the line.
        text: Text of the line.
        color_rgb: Red, green, blue in 0..1.
        ticked: Whether it is ticked.
        tip: Tool tip.
    """

    key: str
    text: str
    color_rgb: tuple[float, float, float]
    ticked: bool
    tip: str = ""


class TickList:
    """A ``QListWidget`` of lines that can be ticked.

    Its items are changed, not replaced, because Qt still uses the item whose tick it reports.
    """

    def __init__(self, listed: qt.QListWidget, told: Callable[[], None]) -> None:
        """Call ``told`` after every change, also after those by `show`; the receiver has to distinguish them."""
        self._listed = listed
        self._lines: list[Line] = []
        listed.connect("itemChanged(QListWidgetItem*)", lambda item: told())

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines."""
        if list(lines) == self._lines and self._as_shown():
            return
        while self._listed.count > len(lines):
            self._listed.takeItem(self._listed.count - 1)
        while self._listed.count < len(lines):
            self._listed.addItem("")
        for number, line in enumerate(lines):
            item = self._listed.item(number)
            item.setText(line.text)
            item.setToolTip(line.tip)
            item.setIcon(swatch(line.color_rgb))
            item.setCheckState(qt.Qt.Checked if line.ticked else qt.Qt.Unchecked)
        self._lines = list(lines)

    def ticked(self) -> list[str]:
        """Return the keys of the ticked lines."""
        states = [self._listed.item(number).checkState() == qt.Qt.Checked for number in range(self._listed.count)]
        return [line.key for line, state in zip(self._lines, states, strict=False) if state]

    def _as_shown(self) -> bool:
        return self.ticked() == [line.key for line in self._lines if line.ticked]
