"""The worker thread, which runs all computations of torch: tasks in, events out.

PyTorch caches its plans per thread, so a new thread for each job would repeat the warm-up. This module does not import
torch; the engine is created on the thread with the first task.
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
"""Seconds that the exit of the program waits for a task that does not check its cancel token."""


Task = Callable[[Any, Context], Any]
"""A callable to submit; called on the worker thread with the engine and a context, it returns the outcome."""


@runtime_checkable
class KeepsModels(Protocol):
    """An engine that holds models and embeddings from one task to the next."""

    def forget(self) -> None:
        """Release all of them; called on the thread when it ends."""


class Ticket:
    """A submitted task.

    Attributes:
        number: Number of the task, carried by its events.
        label: Name of the task for display.
    """

    def __init__(self, number: int, label: str, drop: Callable[[Ticket], None]) -> None:
        """Create a ticket; called by `Worker.submit`."""
        self.number, self.label = number, label
        self.token = CancelToken()
        self._drop = drop
        self._ended = threading.Event()

    def cancel(self) -> None:
        """Request a running task to stop between two slices; a waiting task ends immediately, with `Dropped`."""
        self.token.cancel()
        self._drop(self)

    @property
    def cancelled(self) -> bool:
        """Whether cancelling was requested; the task may still finish a slice, or all of its work."""
        return self.token.cancelled

    @property
    def finished(self) -> bool:
        """Whether the last event of the task can be drained, or has been."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the task is finished, for at most ``timeout`` seconds; return whether it is.

        For scripts and tests only: the event loop of a program must not block.
        """
        return self._ended.wait(timeout)


class _Waiting:
    """A task that is waiting or running."""

    def __init__(self, task: Task, ticket: Ticket, key: str | None, yields: bool) -> None:
        self.task, self.ticket, self.key, self.yields = task, ticket, key, yields

    def makes_way(self, key: str | None) -> bool:
        """Return whether it ends for a new task that replaces those with a key."""
        return self.yields or (key is not None and self.key == key)


class _Desk:
    """The state shared by the worker thread and its owner.

    The thread holds no reference to `Worker`, so an unused worker can be garbage-collected.
    """

    def __init__(self, engine_factory: Callable[[], Any] | None, name: str) -> None:
        self.engine_factory, self.name = engine_factory, name
        self.lock = threading.Condition()
        self.waiting: deque[_Waiting] = deque()
        self.running: _Waiting | None = None
        self.events: deque[Event] = deque()
        self.thread: threading.Thread | None = None
        self.leave = threading.Event()
        self.submitted = 0

    def submit(self, task: Task, label: str, replaces: str | None, yields: bool) -> Ticket:
        """Queue a task, and start a thread if none is running."""
        with self.lock:
            for other in [one for one in self.waiting if one.makes_way(replaces)]:
                self._drop(other)
            if self.running is not None and self.running.makes_way(replaces):
                self.running.ticket.token.cancel()
            self.submitted += 1
            ticket = Ticket(self.submitted, label, self.drop)
            self.waiting.append(_Waiting(task, ticket, replaces, yields))
            if self.thread is None or self.leave.is_set() or not self.thread.is_alive():
                self.leave = threading.Event()
                self.thread = threading.Thread(
                    target=_run, args=(self, self.leave, self.thread), name=self.name, daemon=True
                )
                self.thread.start()
            self.lock.notify_all()
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """End a waiting task; do nothing if it has begun."""
        with self.lock:
            for other in [one for one in self.waiting if one.ticket is ticket]:
                self._drop(other)

    def cancel_all(self) -> None:
        """End the waiting tasks and request the running one to stop."""
        with self.lock:
            for other in list(self.waiting):
                self._drop(other)
            if self.running is not None:
                self.running.ticket.token.cancel()

    def _drop(self, other: _Waiting) -> None:
        """End a waiting task; the caller holds the lock."""
        self.waiting.remove(other)
        other.ticket.token.cancel()
        self.end(other.ticket, Finished(other.ticket.number, Dropped()))

    def end(self, ticket: Ticket, event: Event) -> None:
        """Send the last event of a task."""
        self.events.append(event)
        ticket._ended.set()

    def dismiss(self) -> None:
        """Cancel all tasks and request the thread to end, without waiting."""
        self.cancel_all()
        with self.lock:
            self.leave.set()
            self.lock.notify_all()

    def stop(self, timeout: float) -> bool:
        """End the thread, waiting up to ``timeout`` seconds; return whether it has ended."""
        self.dismiss()
        thread = self.thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(timeout)
        return not thread.is_alive()


class Worker:
    """The owner's handle of the worker thread. All methods may be called from any thread.

    The thread starts with the first task and sleeps while there is none. It ends with `stop`, when the worker is
    garbage-collected, or when the program exits.
    """

    def __init__(self, engine_factory: Callable[[], Any] | None = None, name: str = "ProxyPromptWorker") -> None:
        """Create a worker without a thread.

        Args:
            engine_factory: Creates the engine for the tasks, called on the thread; by default `engine.Engine`.
            name: Name of the thread.
        """
        self._desk = _Desk(engine_factory, name)
        # An unreferenced worker must not leave a thread behind, and the program must not exit while its thread is
        # still inside torch.
        weakref.finalize(self, self._desk.dismiss).atexit = False
        atexit.register(_stop_at_exit, weakref.ref(self._desk))

    def submit(self, task: Task, label: str = "", replaces: str | None = None, yields: bool = False) -> Ticket:
        """Submit a task to the thread; tasks run one after another.

        Args:
            task: Called with engine and context; the caller must not change arrays that it holds.
            label: Name of the task for display.
            replaces: Key of tasks that replace each other: waiting tasks with the same key are dropped, and a running
                one is cancelled.
            yields: Whether any later task replaces it, because it only computes ahead what others may need.

        Returns:
            The ticket; the task's events carry its number.
        """
        return self._desk.submit(task, label, replaces, yields)

    def drain(self, most: int | None = None) -> list[Event]:
        """Remove and return the queued events, oldest first, without waiting.

        Args:
            most: Largest number of events to return; None returns all.
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
        """Whether a task is running or waiting, or events have not been drained, so that polling must continue."""
        desk = self._desk
        with desk.lock:  # held only for moments, never while a task runs
            return bool(desk.waiting) or desk.running is not None or bool(desk.events)

    def cancel_all(self) -> None:
        """Drop the waiting tasks and request the running one to stop between two slices."""
        self._desk.cancel_all()

    def stop(self, timeout: float = 10.0) -> bool:
        """Cancel all tasks and end the thread with its engine; a later `submit` starts a new thread.

        Args:
            timeout: Seconds to wait for a task in the middle of a slice.

        Returns:
            Whether the thread has ended. If not, it ends after its current slice, and a new thread waits for that.
        """
        return self._desk.stop(timeout)


def _stop_at_exit(reference: weakref.ref[_Desk]) -> None:
    desk = reference()
    if desk is not None:
        desk.stop(EXIT_TIMEOUT)


def _run(desk: _Desk, leave: threading.Event, before: threading.Thread | None) -> None:
    """Run one task after another until ``leave`` is set; the body of the thread."""
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
            except BaseException as error:  # noqa: BLE001 - the thread survives every error of a task
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
    """Return a new engine; this imports torch, on the worker thread."""
    if desk.engine_factory is not None:
        return desk.engine_factory()
    from ProxyPromptSegmentLib.networks.cores import limit_threads
    from ProxyPromptSegmentLib.worker.engine import Engine
    from ProxyPromptSegmentLib.worker.kept_supports import KeptSupports

    limit_threads()
    return Engine(kept=KeptSupports.of_user())


def _forget_frames(error: BaseException) -> None:
    """Remove the tracebacks of an error and its causes, whose frames reference all tensors of the failed task."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            rest += [one.__cause__, one.__context__]
