"""One persistent thread for everything that torch computes: tasks in, events out.

PyTorch keeps its plans per thread, so a thread for each job would pay for the warm-up each time. This module imports no
torch; the engine is made on the thread when the first task comes.
"""

from __future__ import annotations

import atexit
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.events import Dropped, Event, Failed, Finished

__all__ = ["Context", "Task", "Ticket", "Worker"]

EXIT_TIMEOUT = 5.0
"""Seconds that the end of the program waits for a task that does not look at its cancel token."""


Task = Callable[[Any, Context], Any]
"""What is submitted: called on the worker thread with the engine and a context; returns the outcome."""


@runtime_checkable
class KeepsModels(Protocol):
    """An engine that holds models and embeddings from one task to the next."""

    def forget(self) -> None:
        """Release all of them; called on the thread, when it ends."""


class Ticket:
    """A task that was submitted.

    Attributes:
        number: As in its events.
        label: What to call it.
    """

    def __init__(self, number: int, label: str, drop: Callable[[Ticket], None]) -> None:
        """Made by `Worker.submit`."""
        self.number, self.label = number, label
        self.token = CancelToken()
        self._drop = drop
        self._ended = threading.Event()

    def cancel(self) -> None:
        """Asks a running task to stop between two slices; one that waits ends at once, with `Dropped`."""
        self.token.cancel()
        self._drop(self)

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked for the stop; the task may end a slice later, or be finished before."""
        return self.token.cancelled

    @property
    def finished(self) -> bool:
        """Whether the last event of the task can be drained, or has been."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is finished, for scripts and tests; the event loop of a program must not wait."""
        return self._ended.wait(timeout)


class _Waiting:
    """A task that has not begun or is running."""

    def __init__(self, task: Task, ticket: Ticket, key: str | None) -> None:
        self.task, self.ticket, self.key = task, ticket, key


class _Desk:
    """What the thread and its owner share. The thread does not know the `Worker`, so that one can be forgotten."""

    def __init__(self, engine_factory: Callable[[], Any] | None, name: str) -> None:
        self.engine_factory, self.name = engine_factory, name
        self.lock = threading.Condition()
        self.waiting: deque[_Waiting] = deque()
        self.running: _Waiting | None = None
        self.events: deque[Event] = deque()
        self.thread: threading.Thread | None = None
        self.leave = threading.Event()
        self.submitted = 0

    def submit(self, task: Task, label: str, replaces: str | None) -> Ticket:
        """Queues a task, and starts a thread where there is none."""
        with self.lock:
            if replaces is not None:
                for other in [one for one in self.waiting if one.key == replaces]:
                    self._drop(other)
                if self.running is not None and self.running.key == replaces:
                    self.running.ticket.token.cancel()
            self.submitted += 1
            ticket = Ticket(self.submitted, label, self.drop)
            self.waiting.append(_Waiting(task, ticket, replaces))
            if self.thread is None or self.leave.is_set() or not self.thread.is_alive():
                self.leave = threading.Event()
                self.thread = threading.Thread(
                    target=_run, args=(self, self.leave, self.thread), name=self.name, daemon=True
                )
                self.thread.start()
            self.lock.notify_all()
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """Ends a task that waits; nothing happens to one that has begun."""
        with self.lock:
            for other in [one for one in self.waiting if one.ticket is ticket]:
                self._drop(other)

    def cancel_all(self) -> None:
        """Ends what waits and asks what runs to stop."""
        with self.lock:
            for other in list(self.waiting):
                self._drop(other)
            if self.running is not None:
                self.running.ticket.token.cancel()

    def _drop(self, other: _Waiting) -> None:
        """Ends a task that waits; the lock is held."""
        self.waiting.remove(other)
        other.ticket.token.cancel()
        self.end(other.ticket, Finished(other.ticket.number, Dropped()))

    def end(self, ticket: Ticket, event: Event) -> None:
        """Sends the last event of a task."""
        self.events.append(event)
        ticket._ended.set()

    def dismiss(self) -> None:
        """Cancels everything and lets the thread end; does not wait."""
        self.cancel_all()
        with self.lock:
            self.leave.set()
            self.lock.notify_all()

    def stop(self, timeout: float) -> bool:
        """Ends the thread; whether it has ended."""
        self.dismiss()
        thread = self.thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(timeout)
        return not thread.is_alive()


class Worker:
    """The thread, from outside. All methods may be called from any thread.

    The thread starts with the first task and sleeps while there is none. It ends by `stop`, with the worker's own end,
    or with the program's.
    """

    def __init__(self, engine_factory: Callable[[], Any] | None = None, name: str = "ProxyPromptWorker") -> None:
        """Makes a worker without a thread.

        Args:
            engine_factory: Makes what tasks compute with, called on the thread; by default `engine.Engine`.
            name: Of the thread.
        """
        self._desk = _Desk(engine_factory, name)
        # A worker that nobody holds any more must leave no thread, and the end of the program must not meet one that
        # is still inside torch.
        weakref.finalize(self, self._desk.dismiss).atexit = False
        atexit.register(_stop_at_exit, weakref.ref(self._desk))

    def submit(self, task: Task, label: str = "", replaces: str | None = None) -> Ticket:
        """Hands a task to the thread; tasks run one after another.

        Args:
            task: Called with engine and context; every array in it is the task's own.
            label: What to call it.
            replaces: A key by which the newest wins: tasks with the same key that wait are dropped, and one that runs
                is cancelled.

        Returns:
            The ticket, whose number its events carry.
        """
        return self._desk.submit(task, label, replaces)

    def drain(self, most: int | None = None) -> list[Event]:
        """Takes the events that are there, oldest first; never waits.

        Args:
            most: How many at most; None means all.
        """
        events: list[Event] = []
        queue = self._desk.events
        for _ in range(len(queue) if most is None else most):
            try:
                events.append(queue.popleft())
            except IndexError:
                break
        return events

    @property
    def busy(self) -> bool:
        """Whether something runs or waits, or events have not been drained: whether to look again soon."""
        desk = self._desk
        with desk.lock:  # never held for longer than it takes to move a task from one place to the next
            return bool(desk.waiting) or desk.running is not None or bool(desk.events)

    def cancel_all(self) -> None:
        """Drops what waits and asks what runs to stop between two slices."""
        self._desk.cancel_all()

    def stop(self, timeout: float = 10.0) -> bool:
        """Cancels everything and ends the thread, with all that its engine holds; `submit` starts a new one.

        Args:
            timeout: Seconds to wait for a task that is in the middle of a slice.

        Returns:
            Whether the thread has ended. If not, it ends after its slice, and a new one waits for that.
        """
        return self._desk.stop(timeout)


def _stop_at_exit(reference: weakref.ref[_Desk]) -> None:
    desk = reference()
    if desk is not None:
        desk.stop(EXIT_TIMEOUT)


def _run(desk: _Desk, leave: threading.Event, before: threading.Thread | None) -> None:
    """The thread: one task after another until it is told to leave."""
    if before is not None:
        before.join()  # never two threads in torch
    engine: Any = None
    try:
        while True:
            with desk.lock:
                while not desk.waiting and not leave.is_set():
                    desk.lock.wait()
                if leave.is_set():
                    return
                desk.running = work = desk.waiting.popleft()
            ticket = work.ticket
            last: Event
            try:
                if engine is None:
                    engine = _make_engine(desk)
                context = Context(ticket.number, ticket.token, desk.events.append)
                outcome = work.task(engine, context)
                context.progress.close()
                last = Finished(ticket.number, outcome)
                del context, outcome
            except BaseException as error:  # noqa: BLE001 - the thread survives whatever a task does
                last = Failed(ticket.number, error, "".join(traceback.format_exception(error)))
                _forget_frames(error)
            desk.end(ticket, last)
            with desk.lock:
                desk.running = None
            del work, ticket, last  # no array of a finished task stays alive while the thread sleeps
    finally:
        if isinstance(engine, KeepsModels):
            engine.forget()


def _make_engine(desk: _Desk) -> Any:
    """The engine; torch is imported here, on the thread."""
    if desk.engine_factory is not None:
        return desk.engine_factory()
    from ProxyPromptSegmentLib.worker.engine import Engine

    return Engine()


def _forget_frames(error: BaseException) -> None:
    """Takes the tracebacks off an error and its causes: their frames hold every tensor of the failed task."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            rest += [one.__cause__, one.__context__]
