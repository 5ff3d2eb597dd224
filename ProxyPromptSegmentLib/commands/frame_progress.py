"""Progress over frames of which nobody knows how many there are."""

from __future__ import annotations

import time

from ProxyPromptSegmentLib.commands.console import REDRAW_SECONDS, ConsoleProgress


class OpenEndedProgress(ConsoleProgress):
    """A line that counts and tells the speed, without a bar and without a time that is left."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Goes on; draws at most ten times a second."""
        self.done, self.note = self.done + n, note
        if time.monotonic() - self.drawn > REDRAW_SECONDS:
            self._draw()

    def _draw(self) -> None:
        seconds = time.monotonic() - self.begun
        line = f"{self.what}: {self.unit} {self.done}"
        if self.done and seconds > 0:
            line += f", {self.done / seconds:.1f} per second"
        self.stream.write("\r" + line.ljust(self.width))
        self.stream.flush()
        self.width = max(self.width, len(line))
        self.drawn = time.monotonic()
