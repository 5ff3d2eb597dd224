"""Progress that interrupts its own process."""

from __future__ import annotations

import signal
import sys

import pytest

pytest.importorskip("torch")
from ProxyPromptSegmentLib.commands.console import ConsoleProgress


class SignalAt(ConsoleProgress):
    """Raises SIGINT so many times when a slice is done."""

    def __init__(self, number: int, times: int = 1) -> None:
        super().__init__(sys.stderr)
        self.number, self.times = number, times

    def step(self, n: int = 1, note: str = "") -> None:
        super().step(n, note)
        if self.done == self.number:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
