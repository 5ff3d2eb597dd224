"""The pump: a timer that handles events of the worker thread and gives that thread time to run.

Slicer's event loop does not release Python's global lock while it waits, so a worker thread that does many small
operations takes thirty times as long while the window is idle (measured in Slicer 5.13). A timer whose callback sleeps
a few milliseconds releases the lock: the worker then runs at nearly full speed, and other timers are late by at most
that time. The timer stops when there is nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import qt

SLEEP_SECONDS = 0.005
REST_MS = 300
"""After the last change of a segment, before its numbers are computed again."""
AFTER_RENDERING_MS = 50
"""Slicer's views render a sixtieth of a second after a change; that of 300 slices of 512 x 512 takes 30 ms."""


_log = logging.getLogger(__name__)


class Pump:
    """A timer that calls ``work`` repeatedly while it returns True.

    Attributes:
        longest: Duration of the longest call of ``work`` in seconds, during which the window was blocked.
    """

    def __init__(self, work: Callable[[], bool]) -> None:
        """Create a stopped pump; without Qt (scripts, tests) the waiting code calls `turn`."""
        self._work = work
        self._timer: qt.QTimer | None = None
        self.longest = 0.0

    def start(self) -> None:
        """Start the timer unless it is running."""
        if self._timer is None:
            self._timer = _qt_timer(self._tick)
        if self._timer is not None and not self._timer.active:
            self._timer.start()

    def stop(self) -> None:
        """Stop the timer until the next `start`."""
        if self._timer is not None:
            self._timer.stop()

    def close(self) -> None:
        """Stop and delete the timer."""
        self.stop()
        if self._timer is not None:
            self._timer.timeout.disconnect()
            self._timer = None

    def turn(self) -> bool:
        """Call ``work`` once and sleep; return what ``work`` returned."""
        begun = time.perf_counter()
        more = self._work()
        self.longest = max(self.longest, time.perf_counter() - begun)
        time.sleep(SLEEP_SECONDS)
        return more

    def _tick(self) -> None:
        try:
            more = self.turn()
        except Exception:  # an exception would repeat a hundred times a second
            _log.exception("The module's timer stopped because of a fault.")
            more = False
        if not more:
            self.stop()


def _qt_timer(called: Callable[[], None]) -> qt.QTimer | None:
    """Return a timer with interval 0, or None without Qt."""
    try:
        import qt
    except ImportError:
        return None
    timer = qt.QTimer()
    timer.setInterval(0)
    timer.connect("timeout()", called)
    return timer


class RestTimer:
    """A timer that calls a function once nothing has started it again for a while."""

    def __init__(self, timer: qt.QTimer) -> None:
        """Use a Qt timer."""
        self._timer = timer

    def start(self) -> None:
        """Wait again from now on."""
        self._timer.start(REST_MS)

    def soon(self) -> None:
        """Call the function in the next turn of the window."""
        self._timer.start(0)

    def after_rendering(self) -> None:
        """Call the function once the views have rendered what was just changed, not in the same turn."""
        self._timer.start(AFTER_RENDERING_MS)

    def close(self) -> None:
        """Stop and delete the timer."""
        self._timer.stop()
        self._timer.timeout.disconnect()


def rest_timer(called: Callable[[], None]) -> RestTimer | None:
    """Return a timer that calls a function when changes have come to rest; None without Qt."""
    timer = _qt_timer(called)
    if timer is None:
        return None
    timer.setSingleShot(True)
    return RestTimer(timer)
