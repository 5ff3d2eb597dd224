"""A chain of steps: a generator that yields tasks for the worker thread, and pauses for the window."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Protocol[T_co]):
    """Work for the worker thread; independent of nodes."""

    def __call__(self, engine: Engine, context: Context, /) -> T_co:
        """Do the work on the worker thread and return the outcome."""


# The only `Any` of the runs: outcomes arrive in a queue of events, which does not know their types. `outcome_of` gives
# each the type that its task declares.
Chain = Generator["Task[object] | None", Any, T]
"""Yields a task for the worker thread and is sent its outcome, or yields None to be called again soon."""


def outcome_of(task: Task[T]) -> Chain[T]:
    """Hand a task to the worker thread and wait for its outcome."""
    outcome: T = yield task
    return outcome
