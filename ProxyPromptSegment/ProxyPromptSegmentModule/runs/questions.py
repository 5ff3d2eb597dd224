"""Questions that the worker thread answers beside runs: why, is this support sound, which support is like this."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import slicer

from ProxyPromptSegmentLib.imaging.geometry import AXES, auto_axis
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentLib.worker.estimate import SpeedRecord, estimate
from ProxyPromptSegmentLib.worker.tasks import WhyTask
from ProxyPromptSegmentModule.runs.chain import Task
from ProxyPromptSegmentModule.runs.request import Request, Settings
from ProxyPromptSegmentModule.runs.run import Run, sentence_of
from ProxyPromptSegmentModule.runs.tasks import CheckTask, SuggestTask, WarmUpTask
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.volume_reader import VolumeReading
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.attribution import Why
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.review.findings import Finding
    from ProxyPromptSegmentLib.review.suggest import Suggestion
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.worker.estimate import Estimate, SpeedRecord
    from ProxyPromptSegmentLib.worker.thread import Ticket

T = TypeVar("T")

SPEEDS_SETTING = "ProxyPromptSegment/speeds"

WhyAnswer = Callable[["Why | None", str], None]
"""Called on the main thread with the answer, or with None and the reason."""
CheckAnswer = Callable[["list[Finding]", str], None]
SuggestAnswer = Callable[["list[Suggestion]", str], None]
"""Called with the answer and "", or with nothing and the reason; a suggestion may come with a sentence that warns."""


class SubmitQuestion(Protocol):
    """Hands a task, its label and what it replaces to the worker thread."""

    def __call__(self, task: Task[object], label: str, replaces: str | None = None, /) -> Ticket:
        """Submit it."""


class Questions:
    """Who asked what, until the answer comes; and what was learned for estimates."""

    def __init__(self, submit: SubmitQuestion) -> None:
        """``submit``: hands a task, its label and what it replaces to the worker thread."""
        self._submit = submit
        self._waiting: dict[int, Callable[..., None]] = {}  # each takes what its own task returns
        self._speeds: SpeedRecord | None = None

    def why(self, run: Run, ras: Sequence[float], name: str, on_answer: WhyAnswer) -> None:
        """Which support patches drove the prediction of an object at a world position; the newest question wins."""
        if run.job is None or name not in run.job.support.objects:
            on_answer(None, _("There is no prediction yet; press Apply first."))
            return
        ijk = nodes.ijk_at(run.request.target, ras)
        if ijk is None:
            on_answer(None, _("This point lies outside the volume; click inside it."))
            return
        shape = run.job.target.geometry.shape_kji
        index, row, column = run.job.view.position((ijk[2], ijk[1], ijk[0]), shape)
        settings = run.request.settings
        number = run.job.support.objects.index(name)
        task = WhyTask(
            job=run.job,
            index=index,
            row=float(row),
            column=float(column),
            object_index=number,
            model=settings.model,
            device=settings.device,
        )
        self._ask(task, _("Why"), on_answer, "why")

    def check(
        self, cases: Sequence[SupportCase], settings: Settings, leave_one_out: bool, on_answer: CheckAnswer
    ) -> None:
        """What is wrong with supports, in words."""
        task = CheckTask(cases=tuple(cases), settings=settings, leave_one_out=leave_one_out)
        self._ask(task, _("Support check"), lambda found, error: on_answer(found or [], error), "check")

    def suggest(
        self,
        target: slicer.vtkMRMLVolumeNode,
        library: SupportLibrary,
        settings: Settings,
        on_answer: SuggestAnswer,
    ) -> None:
        """Cases of the library in the order of their likeness to the target."""
        reading = VolumeReading(target)
        while not reading.step():
            pass
        task = SuggestTask(
            library=library, voxels=reading.voxels, geometry=reading.geometry, name=reading.name, settings=settings
        )

        def split(found: tuple[list[Suggestion], str] | None, error: str) -> None:
            suggestions, warning = found or ([], "")
            on_answer(suggestions, error or warning)

        self._ask(task, _("Suggestion"), split, "suggest")

    def warm_up(self, settings: Settings) -> None:
        """Loads torch and a model while nothing else is to be done; what fails will fail again, and be said, later."""
        self._submit(WarmUpTask(settings=settings), _("Warming up"), "warm up")

    def estimate(self, request: Request) -> Estimate:
        """Time and memory of a run, from this machine's earlier runs where there were any.

        Raises:
            ProxyPromptError: If the model is unknown.
        """
        settings, target = request.settings, request.target
        axis = settings.axis if settings.axis in AXES else auto_axis(nodes.geometry_of(target))
        shape = list(nodes.check_volume(target).GetDimensions()[::-1])
        count = shape.pop(AXES.index(axis))
        if request.slices is not None:
            count = max(1, len(request.slices))
        objects = len(request.objects) if request.objects else 1
        return estimate(
            settings.model,
            settings.device,
            count,
            (shape[0], shape[1]),
            settings.max_slices,
            objects,
            measured=self.speeds(),
        )

    def speeds(self) -> SpeedRecord:
        """How fast this machine was, as far as somebody has measured: an `estimate.SpeedRecord`."""
        if self._speeds is None:
            self._speeds = SpeedRecord.from_dict(_read_setting())
        return self._speeds

    def learn(self, run: Run) -> None:
        """Remembers how fast a finished run was, for the estimates of later sessions too."""
        found = run.result
        if run.state != RunState.FINISHED or not isinstance(found, VolumeResult):
            return  # a cancelled run says little, and a cine is counted otherwise
        self._speeds = self.speeds().learned(
            run.request.settings.model,
            found.device,
            found.seconds["segmentation"],
            found.slices,
            found.embedded,
            found.pairs,
            len(found.objects),
        )
        _write_setting(self._speeds.to_dict())

    def receive(self, event: events.Event) -> None:
        """Passes an answer on; what nobody waits for is dropped."""
        if not isinstance(event, (events.Finished, events.Failed)):
            return
        told = self._waiting.pop(event.ticket, None)
        if told is None:
            return
        if isinstance(event, events.Failed):
            told(None, sentence_of(event.error, event.trace))
        elif not isinstance(event.outcome, events.Dropped):
            told(event.outcome, "")

    def forget(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()

    def _ask(self, task: Task[T], label: str, on_answer: Callable[[T | None, str], None], replaces: str) -> None:
        ticket = self._submit(task, label, replaces)
        self._waiting[ticket.number] = on_answer


def _read_setting() -> object:
    """What was learned in earlier sessions; None where there are no settings (scripts, tests)."""
    try:
        return json.loads(slicer.app.userSettings().value(SPEEDS_SETTING, "{}"))
    except (AttributeError, TypeError, ValueError):
        return None


def _write_setting(values: dict[str, object]) -> None:
    try:
        settings = slicer.app.userSettings()
    except AttributeError:  # a script without an application
        return
    settings.setValue(SPEEDS_SETTING, json.dumps(values))
