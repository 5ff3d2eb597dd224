"""Running a task of the engine on the command's own thread: the same tasks as on Slicer's worker thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.events import Event, Said

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.tasks import TaskEngine

R = TypeVar("R", covariant=True)


class Task(Protocol[R]):
    """What the engine carries out, see `tasks`."""

    def __call__(self, engine: TaskEngine, context: Context) -> R:
        """Carry out the task."""


def run_task(
    task: Task[R],
    console: Console,
    cancel: CancelToken,
    on_event: Callable[[Event], None] | None = None,
) -> R:
    """Carry out a task with an engine of its own; what it says for the user becomes a warning at once.

    Args:
        task: The task.
        console: Where warnings and progress go.
        cancel: Stops the task between two slices or frames.
        on_event: Called with every event of the task.

    Raises:
        ProxyPromptError: As the library's errors say.
    """
    from ProxyPromptSegmentLib.worker.engine import Engine  # loads torch, which bad input must not pay for

    def emit(event: Event) -> None:
        if isinstance(event, Said):
            console.warn(event.text)
        if on_event:
            on_event(event)

    return task(Engine(), Context(0, cancel, emit, progress=console.progress))
