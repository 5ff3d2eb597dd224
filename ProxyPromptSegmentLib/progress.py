"""Progress and cancelling, as two small objects that the engine is given; the defaults do nothing."""

from __future__ import annotations

import threading


class Progress:
    """The null progress; command line and Slicer override it."""

    def start(self, total: int, what: str) -> None:
        """Begins a stage of ``total`` steps called ``what``."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Reports that ``n`` more steps are done."""

    def close(self) -> None:
        """Ends the stage; may be called twice."""


class CancelToken:
    """A request to stop, sticky and safe to set from any thread or a signal handler.

    Cancelling is an outcome and not an error: whoever sees it stops between two slices and keeps
    what is done.
    """

    def __init__(self) -> None:
        """Makes a token that is not cancelled."""
        self._event = threading.Event()

    def cancel(self) -> None:
        """Asks for the stop."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked for the stop."""
        return self._event.is_set()
