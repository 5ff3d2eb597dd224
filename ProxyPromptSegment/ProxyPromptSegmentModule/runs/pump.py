"""Keeps the main thread and the worker thread going at once.

Slicer's event loop does not hand over Python's global lock while it waits, so a worker that does many small operations
beside an idle window takes thirty times as long (measured in Slicer 5.13). A timer whose callback sleeps a few
milliseconds gives the lock away: the worker then runs at nearly its own speed, and no other timer is late by more than
that. The timer stops when there is nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import qt

SLEEP_SECONDS = 0.005

_log = logging.getLogger(__name__)


class Pump:
    """Calls ``work`` again and again as long as it answers that there is more to come.

    Attributes:
        longest: Seconds that the longest call of ``work`` took: how long the window stood still because of us.
    """

    def __init__(self, work: Callable[[], bool]) -> None:
        """Makes a pump that stands still; where there is no Qt (scripts, tests) `turn` is called by whoever waits."""
        self._work = work
        self._timer: qt.QTimer | None = None
        self.longest = 0.0

    def start(self) -> None:
        """Begins to pump; does nothing where it does already."""
        if self._timer is None:
            self._timer = _qt_timer(self._tick)
        if self._timer is not None and not self._timer.active:
            self._timer.start()

    def stop(self) -> None:
        """Stands still; `start` goes on."""
        if self._timer is not None:
            self._timer.stop()

    def close(self) -> None:
        """Stops for good."""
        self.stop()
        if self._timer is not None:
            self._timer.timeout.disconnect()
            self._timer = None

    def turn(self) -> bool:
        """One call of ``work``, then the sleep; whether there is more to come."""
        begun = time.perf_counter()
        more = self._work()
        self.longest = max(self.longest, time.perf_counter() - begun)
        time.sleep(SLEEP_SECONDS)
        return more

    def _tick(self) -> None:
        try:
            more = self.turn()
        except Exception:  # a timer that raises would do so a hundred times a second
            _log.exception("The module's timer stopped because of a fault.")
            more = False
        if not more:
            self.stop()


def _qt_timer(called: Callable[[], None]) -> qt.QTimer | None:
    """A timer with interval 0, or None without Qt."""
    try:
        import qt
    except ImportError:
        return None
    timer = qt.QTimer()
    timer.setInterval(0)
    timer.connect("timeout()", called)
    return timer
