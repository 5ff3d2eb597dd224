"""Progress that interrupts its own process."""

from __future__ import annotations

import signal
import sys

import pytest

pytest.importorskip("torch")
from ProxyPromptSegmentLib.commands.console import ConsoleProgress


class SignalAt(ConsoleProgress):
    """Raises SIGINT so many times when a slice or frame is done; the stages before that do not count."""

    def __init__(self, number: int, times: int = 1, stages: tuple[str, ...] = ("segmenting", "tracking")) -> None:
        super().__init__(sys.stderr)
        self.number, self.times, self.stages = number, times, stages

    def step(self, n: int = 1, note: str = "") -> None:
        super().step(n, note)
        if self.what in self.stages and self.done - n < self.number <= self.done:  # several may be done at once
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
