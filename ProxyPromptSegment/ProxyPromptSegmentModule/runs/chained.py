"""What runs and lessons share: a chain of steps on the worker thread, and how far it is."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ProxyPromptSegmentLib.errors import as_user_error
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.chain import Chain, Task
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.thread import Ticket

_log = logging.getLogger(__name__)

Submit = Callable[["Task[object]", str], "Ticket"]
"""Function that submits a task and its label to the worker thread."""

One = TypeVar("One", bound="Chained")


def sentence_of(error: BaseException, trace: str = "") -> str:
    """Return the sentence of an error for the user; the traceback of an internal error is logged."""
    known = as_user_error(error)
    if known is not None:
        return worded(known)
    _log.error("A task ended by a fault.\n%s", trace, exc_info=None if trace else error)
    return _("Internal error ({kind}: {text}). Details are in the application log.").format(
        kind=type(error).__name__, text=error
    )


class Chained(ABC):
    """Steps that yield tasks for the worker thread; used from the main thread only.

    Attributes:
        state: The current state.
        what: The current stage in words, for the progress bar.
        done: How much of the stage is done.
        total: All of it; 0 while unknown.
        seconds_left: Estimated remaining time; None while unknown.
        sentences: Notes for the user.
        error: The sentence of a failure; "" if there is none.
        fault: The error itself; None if there is none.
        ticket: The task on the worker thread; None between two.
    """

    def __init__(self, submit: Submit) -> None:
        """Prepare the chain; the first `advance` begins it.

        Args:
            submit: Submits a task and its label to the worker thread; returns the ticket.
        """
        self.state, self.what, self.error = RunState.WAITING, _("Waiting"), ""
        self.done = self.total = 0
        self.fault: BaseException | None = None
        self.seconds_left: float | None = None
        self.sentences: list[str] = []
        self.ticket: Ticket | None = None
        self._submit, self._stopping = submit, False
        self._observers: list[Callable[[], None]] = []
        self._chain: Chain[None] | None = self._steps()
        self._answer: object = None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state.ended

    @property
    def _stops_early(self) -> bool:
        """Whether it was cancelled before the worker had anything to keep."""
        return self._stopping and self.state in (RunState.WAITING, RunState.READING)

    def observe(self: One, told: Callable[[One], None]) -> None:
        """Call a function with this object after every change, on the main thread."""
        self._observers.append(partial(told, self))

    def cancel(self) -> None:
        """Stop after the current step of the worker thread."""
        self._stopping = True
        if self.ticket is not None:
            self.ticket.cancel()

    def advance(self) -> None:
        """Continue with the next step, unless the worker is computing."""
        if self.ended or self.ticket is not None:
            return
        if self._stops_early:
            self._end(RunState.CANCELLED)
            return
        answer, self._answer = self._answer, None
        try:
            assert self._chain is not None
            task = self._chain.send(answer)
        except StopIteration:
            self._end(RunState.CANCELLED if self._was_cancelled() else RunState.FINISHED)
        except Exception as error:
            self._fail(error)
        else:
            if task is not None:
                self.ticket = self._submit(task, self.what)
            self._tell()

    def receive(self, event: events.Event) -> None:
        """Handle an event of the worker thread."""
        if self.ended:
            return
        if isinstance(event, events.StageStarted):
            self.what, self.done, self.total, self.seconds_left = event.what, 0, event.total, None
        elif isinstance(event, events.Progressed):
            self.what, self.done, self.total = event.what, event.done, event.total
            self.seconds_left = event.seconds_left
        elif isinstance(event, events.Said):
            self.sentences.append(event.text)
        elif isinstance(event, events.Finished):
            self.ticket, self._answer = None, event.outcome
            if isinstance(event.outcome, events.Dropped):
                self._end(RunState.CANCELLED)
                return
        elif isinstance(event, events.Failed):
            self._fail(event.error, event.trace)
            return
        self._tell()

    @abstractmethod
    def _steps(self) -> Chain[None]:
        """Do all steps."""

    @abstractmethod
    def _was_cancelled(self) -> bool:
        """Return whether a chain that came to its end was cancelled on the way."""

    @abstractmethod
    def _tidy(self) -> None:
        """Clean up after the last step, before the observers are called."""

    def _fail(self, error: BaseException, trace: str = "") -> None:
        """End with the sentence of an error."""
        self.error, self.fault = sentence_of(error, trace), error
        self._end(RunState.FAILED)

    def _end(self, state: RunState, tidy: bool = True) -> None:
        self.state, self.ticket, self._answer = state, None, None
        self.seconds_left = None
        if self._chain is not None:
            self._chain.close()
            self._chain = None
        if tidy:
            self._tidy()
        self._tell()

    def _tell(self) -> None:
        for told in list(self._observers):
            told()
