"""The adaptation as a task of the engine's thread, for the panel and the command line."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.training.adapting.cases import CheckedCases
from ProxyPromptSegmentLib.training.adapting.result import AdaptProgress, AdaptResult
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.tasks import TaskEngine


@dataclass(frozen=True, eq=False)
class AdaptTask:
    """A task that adapts a model; its outcome is an `AdaptResult`, its progress comes as `Advanced` events.

    Attributes:
        checked: The cases, see `check_cases`.
        name: Name of the new model.
        settings: The settings.
        device: See `devices.choose_device`.
        keep_anyway: Whether it is registered even if it is not better.
        restart: Whether the state of an earlier task of this name is removed first.
        began: See `run.adapt`.
    """

    checked: CheckedCases
    name: str
    _: KW_ONLY
    settings: AdaptSettings = field(default_factory=AdaptSettings)
    device: str = "auto"
    keep_anyway: bool = False
    restart: bool = False
    began: float | None = None

    def __call__(self, engine: TaskEngine, context: Context) -> AdaptResult:
        """Carry out the task; the engine's models and caches are not used."""
        from ProxyPromptSegmentLib.training.adapting.run import adapt

        def report(progress: AdaptProgress) -> None:
            context.advanced(progress)

        return adapt(
            self.checked,
            self.name,
            self.settings,
            self.device,
            self.keep_anyway,
            self.restart,
            context.cancel,
            report,
            say=context.say,
            began=self.began,
        )
