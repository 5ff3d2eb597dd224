"""Questions that are answered on a thread of their own: neither a run nor the import of torch delays them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentLib.worker.thread import Worker
from ProxyPromptSegmentModule.runs.chained import sentence_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.thread import Ticket
    from ProxyPromptSegmentModule.runs.chain import Task

T = TypeVar("T")

Answer = Callable[["T | None", str], None]
"""Called on the main thread with the outcome and "", or with None and the reason."""


class Beside:
    """Tasks that need neither nodes nor torch; used from the main thread only."""

    def __init__(self, name: str) -> None:
        """Have no thread; it starts with the first question.

        Args:
            name: Name of the thread.
        """
        self._worker = Worker(lambda: None, name)
        self._waiting: dict[int, tuple[str, Callable[[events.Event], None]]] = {}
        self._last: Ticket | None = None

    @property
    def busy(self) -> bool:
        """Whether a question is being answered, or an answer was not handed over yet."""
        return self._worker.busy

    def put(self, task: Task[T], label: str, kind: str, on_answer: Answer[T]) -> None:
        """Ask a question; a newer one of the same kind replaces an older one, which then gets no answer."""
        self._waiting = {number: one for number, one in self._waiting.items() if one[0] != kind}

        def answer(event: events.Event) -> None:
            if isinstance(event, events.Failed):
                on_answer(None, sentence_of(event.error, event.trace))
            elif isinstance(event, events.Finished) and not isinstance(event.outcome, events.Dropped):
                on_answer(event.outcome, "")

        self._last = self._worker.submit(task, label, kind)
        self._waiting[self._last.number] = (kind, answer)

    def receive(self) -> None:
        """Hand over what was answered."""
        for event in self._worker.drain():
            if isinstance(event, (events.Failed, events.Finished)) and event.ticket in self._waiting:
                self._waiting.pop(event.ticket)[1](event)

    def forget(self) -> None:
        """Answer no question any more that was asked before."""
        self._waiting.clear()
        self._worker.cancel_all()

    def finish(self, timeout: float) -> bool:
        """Hand over no answer any more, and wait until all that was asked for is done; return whether it is."""
        self._waiting.clear()
        return self._last is None or self._last.wait(timeout)

    def stop(self, timeout: float) -> bool:
        """End the thread; return whether it has ended."""
        self.forget()
        return self._worker.stop(timeout)
