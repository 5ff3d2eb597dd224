"""The context of a task, which turns its progress, slices and messages into events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.worker.events import (
    Advanced,
    Event,
    Forecasted,
    FrameLookedAt,
    LabelsReady,
    Progressed,
    Said,
    SliceReady,
    StageStarted,
)

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.results import FrameResult

__all__ = ["Context", "TimeLeft"]

REPORT_EVERY = 0.05
"""Seconds between two progress events; a faster progress bar does not look smoother."""
_REMEMBERED = 15  # steps whose durations are remembered


class TimeLeft:
    """An estimate of the time left in a stage, by the median duration of recent steps, which is robust to outliers."""

    def __init__(self, now: float) -> None:
        """Begin measuring at ``now``, in seconds."""
        self._last = now
        self._per_step: deque[float] = deque(maxlen=_REMEMBERED)
        self._steps = 0

    def step(self, now: float, n: int) -> None:
        """Record ``n`` steps that were finished by ``now``, in seconds."""
        if n > 0:
            self._steps += 1
            if self._steps == 2:
                self._per_step.clear()  # the first step includes the warm-up
            self._per_step.append((now - self._last) / n)
            self._last = now

    def seconds(self, remaining: int) -> float | None:
        """Return the estimated seconds for ``remaining`` steps; None before two steps are finished."""
        return max(0, remaining) * median(self._per_step) if self._steps > 1 else None


class _EventProgress(Progress):
    """Progress that is sent as events, at a limited rate."""

    def __init__(self, ticket: int, emit: Callable[[Event], None], clock: Callable[[], float]) -> None:
        self._ticket, self._emit, self._clock = ticket, emit, clock
        self._what, self._total, self._done = "", 0, 0
        self._told, self._told_at, self._left = 0, 0.0, TimeLeft(0.0)

    def start(self, total: int, what: str) -> None:
        """Begin a stage."""
        self.close()
        now = self._clock()
        self._what, self._total, self._done = what, total, 0
        self._told, self._told_at, self._left = 0, now, TimeLeft(now)
        self._emit(StageStarted(self._ticket, what, total))

    def step(self, n: int = 1, note: str = "") -> None:
        """Count steps; send an event if the last one is `REPORT_EVERY` seconds old, or the stage is complete."""
        now = self._clock()
        self._done += n
        self._left.step(now, n)
        if self._done >= self._total or now - self._told_at >= REPORT_EVERY:
            self._tell(now)

    def close(self) -> None:
        """Send the count if it has changed since the last event."""
        if self._told != self._done:
            self._tell(self._clock())

    def _tell(self, now: float) -> None:
        self._told, self._told_at = self._done, now
        left = self._left.seconds(self._total - self._done)
        self._emit(Progressed(self._ticket, self._done, self._total, self._what, left))


class Context:
    """The channel from a task to its owner.

    Attributes:
        ticket: Number of the task.
        cancel: Whether the task should stop; checked between two slices.
        progress: Sends `StageStarted` and `Progressed`, the latter at most about twenty times per second.
    """

    def __init__(
        self,
        ticket: int,
        cancel: CancelToken,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
        progress: Progress | None = None,
    ) -> None:
        """Create a context that sends events to ``emit``.

        Args:
            ticket: Number of the task.
            cancel: See `Context`.
            emit: Called with each event, on the thread that runs the task.
            clock: Returns the time in seconds, for the rate of progress events.
            progress: Receives the progress instead of events, e.g. the progress bar of a terminal.
        """
        self.ticket, self.cancel = ticket, cancel
        self.progress: Progress = progress or _EventProgress(ticket, emit, clock)
        self._emit = emit

    def slice_ready(
        self, index: int, masks: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32], final: bool = True
    ) -> None:
        """Send a `SliceReady`; the arrays then belong to the receiver."""
        self._emit(SliceReady(self.ticket, index, masks, confidence, final))

    def frame_looked_at(self, index: int, found: FrameResult | None, reason: str = "") -> None:
        """Send a `FrameLookedAt`."""
        self._emit(FrameLookedAt(self.ticket, index, found, reason))

    def labels_ready(self, index: int, labels: npt.NDArray[np.uint16]) -> None:
        """Send a `LabelsReady`; the array then belongs to the receiver."""
        self._emit(LabelsReady(self.ticket, index, labels))

    def advanced(self, how: object) -> None:
        """Send an `Advanced`."""
        self._emit(Advanced(self.ticket, how))

    def forecasted(self, seconds: float, memory_bytes: int, device: str) -> None:
        """Send a `Forecasted`."""
        self._emit(Forecasted(self.ticket, seconds, memory_bytes, device))

    def say(self, text: str) -> None:
        """Send a message for the user."""
        self._emit(Said(self.ticket, text))
