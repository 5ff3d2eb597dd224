"""An engine and a task for the tests of the worker thread, and what they wait for."""

from __future__ import annotations

import threading
import time

SOON = 20.0  # seconds; nothing here takes one


class FakeEngine:
    """Knows the thread that it was made on, and whether it was forgotten."""

    made: list[FakeEngine] = []

    def __init__(self):
        self.thread, self.forgotten = threading.current_thread(), False
        FakeEngine.made.append(self)

    def forget(self):
        self.forgotten = threading.current_thread() is self.thread


def until(condition, what="it"):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.002)


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


class Held:
    """A task that runs until it is let go or cancelled."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, engine, context):
        self.begun.set()
        while not self.go.wait(0.002):
            if context.cancel.cancelled:
                return "cancelled"
        return "done"
