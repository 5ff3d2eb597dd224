"""Runs a task of the engine on the command's own thread; the tasks are those of Slicer's worker thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ProxyPromptSegmentLib.commands.checks import check_torch_settings
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.package_loading import TORCH_LATER, loading
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.events import Event, Said

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.tasks import TaskEngine

R = TypeVar("R", covariant=True)


class Task(Protocol[R]):
    """A task that the engine carries out, see `worker.tasks`."""

    def __call__(self, engine: TaskEngine, context: Context) -> R:
        """Carry out the task."""


def run_task(
    task: Task[R],
    console: Console,
    cancel: CancelToken,
    on_event: Callable[[Event], None] | None = None,
    base: Path | None = None,
    engine: TaskEngine | None = None,
) -> R:
    """Carry out a task; print its messages to the user as warnings.

    Args:
        task: The task.
        console: Where warnings and progress go.
        cancel: Stops the task between two slices or frames.
        on_event: Called with every event of the task.
        base: File of the weights that the task's model was trained on, if it does not hold them.
        engine: The engine of earlier tasks with the same base; by default a new one.

    Raises:
        ProxyPromptError: As the library's errors say.
    """

    def emit(event: Event) -> None:
        if isinstance(event, Said):
            console.warn(event.text)
        if on_event:
            on_event(event)

    return task(engine or new_engine(base), Context(0, cancel, emit, progress=console.progress))


def new_engine(base: Path | None = None, keep_supports: bool = True) -> TaskEngine:
    """Return an engine without models.

    Args:
        base: Official weights on which generators are loaded; by default as installed.
        keep_supports: Whether prepared supports are read from disk and kept there.
    """
    check_torch_settings()
    with loading(TORCH_LATER, stays=True):  # only after the inputs were checked
        from ProxyPromptSegmentLib.inference.loading import load
        from ProxyPromptSegmentLib.networks.cores import limit_threads
        from ProxyPromptSegmentLib.worker.engine import Engine
        from ProxyPromptSegmentLib.worker.kept_supports import KeptSupports

    limit_threads()
    kept = KeptSupports.of_user() if keep_supports else None
    return Engine(load=partial(load, base=base) if base else None, kept=kept)
