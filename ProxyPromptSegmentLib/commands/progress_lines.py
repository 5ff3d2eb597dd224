"""Progress where no terminal shows a bar: whole lines, such as a log keeps, from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable

from ProxyPromptSegmentLib.commands.progress_bars import AT_ONCE_SECONDS, BYTE, unit_of
from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.wording import duration, size_text

SHORTEST_SECONDS, LONGEST_SECONDS = 30.0, 300.0
SHARE = 0.1
"""The next line follows after this share of the time so far, within the limits above."""


class LineProgress(Progress):
    """A line about every half minute, later about every five: what a command of a second or a day may leave in a log.

    Attributes:
        unit: The name of a step.
    """

    def __init__(self, say: Callable[[str], None], unit: str = "slice") -> None:
        """Write lines with ``say``; ``unit`` names a step, see `progress_bars.unit_of`."""
        self._say, self.unit = say, unit
        self._begun = self._stage_begun = self._said = time.monotonic()
        self._what, self._total, self._done = "", 0, 0
        self._from = (self._begun, 0)  # time and steps from which the speed is measured

    def start(self, total: int, what: str) -> None:
        """Begin a stage."""
        self._what, self._total, self._done = what, total, 0
        self._stage_begun = time.monotonic()
        self._from = (self._stage_begun, 0)
        self._line("")

    def step(self, n: int = 1, note: str = "") -> None:
        """Count steps."""
        if not self._what:
            return
        self._done += n
        now = time.monotonic()
        if now - self._stage_begun < AT_ONCE_SECONDS:
            self._from = (now, self._done)
        self._line(note)

    def close(self) -> None:
        """End the stage."""
        self._what = ""

    def _line(self, note: str) -> None:
        """Write how far the stage is, unless the last line is too recent."""
        now = time.monotonic()
        wait = min(max(SHORTEST_SECONDS, SHARE * (now - self._begun)), LONGEST_SECONDS)
        if now - self._said >= wait:
            self._said = now
            self._say(", ".join(filter(None, (self._far(), self._left(now), note.strip(" ,")))))

    def _far(self) -> str:
        """Return stage and steps; a single step, such as loading a model, is not counted."""
        if self._total == 1:
            return self._what
        done, total = map(size_text if self.unit == BYTE else str, (self._done, self._total))
        unit = "" if self.unit == BYTE else unit_of(self._what, self.unit) + " "
        return f"{self._what}: {unit}{done}" + (f" of {total}" if self._total else "")

    def _left(self, now: float) -> str:
        """Return the time that is left; "" if that cannot be known."""
        since, before = self._from
        made, left = self._done - before, self._total - self._done
        return f"{duration((now - since) / made * left)} left" if made > 0 and left > 0 else ""
