"""Progress of a download: how much, how fast, how long still; and sizes as people say them."""

from __future__ import annotations

import time
from collections import deque
from typing import TextIO

from ProxyPromptSegmentLib.commands.console import BAR, REDRAW_SECONDS
from ProxyPromptSegmentLib.progress import Progress
from ProxyPromptSegmentLib.wording import duration, size_text

WINDOW_SECONDS = 5.0


class ByteProgress(Progress):
    """A line on a terminal that is drawn over itself; the speed is that of the last seconds."""

    def __init__(self, stream: TextIO) -> None:
        """Draws on ``stream``."""
        self.stream = stream
        self.total, self.done, self.what = 0, 0, ""
        self.seen: deque[tuple[float, int]] = deque()
        self.drawn, self.width = 0.0, 0

    def start(self, total: int, what: str) -> None:
        """Begins a stage of ``total`` bytes."""
        self.total, self.done, self.what = total, 0, what
        self.seen.clear()
        self._draw()

    def step(self, n: int = 1, note: str = "") -> None:
        """Reports ``n`` more bytes; the first ones may be there from before and tell nothing about the speed."""
        self.done += n
        now = time.monotonic()
        self.seen.append((now, self.done))
        while now - self.seen[0][0] > WINDOW_SECONDS:
            self.seen.popleft()
        if self.done >= self.total or now - self.drawn > REDRAW_SECONDS:
            self._draw()

    def close(self) -> None:
        """Wipes the line."""
        if self.width:
            self.stream.write("\r" + " " * self.width + "\r")
            self.stream.flush()
            self.width = 0

    def speed(self) -> float:
        """Bytes per second of the last seconds; 0 where nothing can be said yet."""
        if len(self.seen) < 2 or self.seen[-1][0] - self.seen[0][0] < 0.2:
            return 0.0
        return (self.seen[-1][1] - self.seen[0][1]) / (self.seen[-1][0] - self.seen[0][0])

    def _draw(self) -> None:
        filled = BAR * min(self.done, self.total) // max(self.total, 1)
        line = f"{self.what} [{'#' * filled}{'.' * (BAR - filled)}] {size_text(self.done)} of {size_text(self.total)}"
        if (speed := self.speed()) > 0:
            line += f", {size_text(int(speed))}/s"
            if self.done < self.total:
                line += f", {duration((self.total - self.done) / speed)} left"
        self.stream.write("\r" + line.ljust(self.width))
        self.stream.flush()
        self.width = max(self.width, len(line))
        self.drawn = time.monotonic()
