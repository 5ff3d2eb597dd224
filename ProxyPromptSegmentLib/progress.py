"""Progress and cancellation: two small objects that are passed to the engine; the defaults do nothing."""

from __future__ import annotations

import threading


class Progress:
    """A progress receiver that ignores everything; command line and Slicer override it."""

    def start(self, total: int, what: str) -> None:
        """Start a stage of ``total`` steps called ``what``."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Report that ``n`` more steps are done."""

    def hide(self) -> None:
        """Make room for something else that is printed, until the next step."""

    def close(self) -> None:
        """End the stage; may be called more than once."""


class CancelToken:
    """A cancel request, sticky and safe to set from any thread or a signal handler.

    Cancellation is an outcome, not an error: work stops between two slices and keeps
    the finished ones.
    """

    def __init__(self) -> None:
        """Create a token that is not cancelled."""
        self._event = threading.Event()

    def cancel(self) -> None:
        """Request cancellation."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether cancellation was requested."""
        return self._event.is_set()
