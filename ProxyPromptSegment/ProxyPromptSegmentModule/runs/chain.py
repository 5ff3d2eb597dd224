"""A chain of steps: tasks for the worker thread, one after another, and pauses in which the window lives."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Protocol[T_co]):
    """Work for the worker thread; knows nothing of nodes."""

    def __call__(self, engine: Engine, context: Context, /) -> T_co:
        """Do it, on the worker thread, and return the outcome."""


# The one `Any` of the runs: outcomes come back through a queue of events, which cannot say their type. `outcome_of`
# gives each the type that its task promises.
Chain = Generator["Task[object] | None", Any, T]
"""Yields a task for the worker thread and is sent its outcome, or yields None to be called again soon."""


def outcome_of(task: Task[T]) -> Chain[T]:
    """Hand a task to the worker thread and wait for its outcome."""
    outcome: T = yield task
    return outcome
