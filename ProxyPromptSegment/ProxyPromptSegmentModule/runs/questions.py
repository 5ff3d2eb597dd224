"""Questions to the worker thread that are not runs: why, support check, suggestions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import slicer

from ProxyPromptSegmentLib.imaging.geometry import AXES, auto_axis, slice_spacing_mm
from ProxyPromptSegmentLib.inference.tiling.choice import OFF, TileChoice
from ProxyPromptSegmentLib.inference.tiling.forecast import forecast
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentLib.worker.estimate import SpeedRecord, architecture_of, estimate
from ProxyPromptSegmentLib.worker.tasks import WhyTask
from ProxyPromptSegmentLib.worker.tile_work import TileWork
from ProxyPromptSegmentModule.runs.chain import Task
from ProxyPromptSegmentModule.runs.chained import sentence_of
from ProxyPromptSegmentModule.runs.refining import Refinement, RefineTask, UnsureTask
from ProxyPromptSegmentModule.runs.request import Request, Settings
from ProxyPromptSegmentModule.runs.run import Run
from ProxyPromptSegmentModule.runs.tasks import CheckTask, SuggestTask, WarmUpTask
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.volume_reader import VolumeReading
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ProxyPromptSegmentLib.inference.attribution import Why
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.review.findings import Finding
    from ProxyPromptSegmentLib.review.suggest import Suggestion
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.worker.estimate import Estimate, SpeedRecord
    from ProxyPromptSegmentLib.worker.thread import Ticket
    from ProxyPromptSegmentModule.runs.refining import Refined

T = TypeVar("T")

SPEEDS_SETTING = "ProxyPromptSegment/speeds"

WhyAnswer = Callable[["Why | None", str], None]
"""Called on the main thread with the explanation and "", or with None and the reason."""
UnsureAnswer = Callable[["npt.NDArray[np.uint8] | None", str], None]
CheckAnswer = Callable[["list[Finding]", str], None]
SuggestAnswer = Callable[["list[Suggestion]", str], None]
"""Called with the answer and "", or with an empty list and the reason; suggestions may come with a warning."""


class SubmitQuestion(Protocol):
    """The function that submits a task with its label, and what it replaces, to the worker thread."""

    def __call__(self, task: Task[object], label: str, replaces: str | None = None, /) -> Ticket:
        """Submit the task."""


class Questions:
    """The pending questions and their callbacks, and the measured speeds for estimates."""

    def __init__(self, submit: SubmitQuestion) -> None:
        """Submit tasks through ``submit``, see `SubmitQuestion`."""
        self._submit = submit
        self._waiting: dict[int, tuple[str, Callable[..., None]]] = {}  # each takes the outcome of its own task
        self._speeds: SpeedRecord | None = None

    def why(self, run: Run, ras: Sequence[float], name: str, on_answer: WhyAnswer) -> None:
        """Ask which support patches drove the prediction at a world position; replaces an earlier question."""
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
            tiles=OFF if settings.follow else settings.tiles,
            most_read=settings.most_read,
            position=settings.position,
            model=settings.model,
            device=settings.device,
        )
        self._ask(task, _("Why"), on_answer, "why")

    def check(
        self, cases: Sequence[SupportCase], settings: Settings, leave_one_out: bool, on_answer: CheckAnswer
    ) -> None:
        """Check supports; the findings are sentences."""
        task = CheckTask(cases=tuple(cases), settings=settings, leave_one_out=leave_one_out)
        self._ask(task, _("Support check"), lambda found, error: on_answer(found or [], error), "check")

    def suggest(
        self,
        target: slicer.vtkMRMLVolumeNode,
        library: SupportLibrary,
        settings: Settings,
        on_answer: SuggestAnswer,
    ) -> None:
        """Rank the cases of the library by likeness to the target."""
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

    def refine(self, run: Run, how: Refinement, on_end: Callable[[str], None]) -> None:
        """Remove small pieces of a run that has ended, or smooth its slices, or take that back.

        Only slices that are as the run wrote them change. Calls ``on_end(error)`` before they are written.
        """
        found = run.result
        if not isinstance(found, VolumeResult):
            on_end(_("The masks of this run are not kept any more."))
            return

        def write(refined: Refined | None, error: str) -> None:
            if refined is not None:
                run.rewrite(refined)
            on_end(error)

        shown = run.refined.masks if run.refined is not None else found.masks
        task = RefineTask(masks=found.masks, shown=shown, done=found.result.done, how=how)
        self._ask(task, _("Refining"), write, "refine")

    def unsure(self, run: Run, on_answer: UnsureAnswer) -> None:
        """Ask where a run was not sure; ``on_answer(values, error)``: uint8 ``(K, J, I)``, or None with the reason."""
        found = run.result
        if run.job is None or not isinstance(found, VolumeResult):
            on_answer(None, _("The probabilities of this run are not kept any more."))
            return
        shape = run.job.target.geometry.shape_kji
        task = UnsureTask(result=found.result, view=run.job.view, shape=shape, threshold=run.request.settings.threshold)
        self._ask(task, _("Confidence"), on_answer, "unsure")

    def warm_up(self, settings: Settings) -> None:
        """Load torch and a model in advance; errors are ignored, because the run will report them."""
        self._submit(WarmUpTask(settings=settings), _("Warming up"), "warm up")

    def estimate(self, request: Request) -> Estimate:
        """Estimate time and memory of a run, based on earlier runs on this machine if there are any.

        Raises:
            ProxyPromptError: If the model is unknown.
        """
        settings, target = request.settings, request.target
        axis = settings.axis if settings.axis in AXES else auto_axis(nodes.geometry_of(target))
        shape = list(nodes.check_volume(target).GetDimensions()[::-1])
        voxels = math.prod(shape)
        if settings.register and not settings.follow:
            voxels += sum(math.prod(case.volume.geometry.size_ijk) for case in request.cases)
        count = shape.pop(AXES.index(axis))
        if request.slices is not None:
            count = max(1, len(request.slices))
        objects = len(request.objects) if request.objects else 1
        if not request.cases:
            size = (shape[0], shape[1])
            return estimate(
                settings.model, settings.device, count, size, 0, objects, measured=self.speeds(), voxels=voxels
            )
        found = forecast(
            request.cases,
            request.objects,
            (shape[0], shape[1]),
            slice_spacing_mm(nodes.geometry_of(target), axis),
            architecture_of(settings.model).logits,
            TileChoice.of(OFF if settings.follow else settings.tiles),
            settings.max_slices,
            settings.closer and not settings.follow,
        )
        return estimate(
            settings.model,
            settings.device,
            count,
            (shape[0], shape[1]),
            settings.max_slices,
            objects,
            tiles=TileWork.planned(found.tiles, settings.max_slices),
            measured=self.speeds(),
            closer=len(found.closer),
            voxels=voxels,
        )

    def speeds(self) -> SpeedRecord:
        """Return the measured speeds of this machine."""
        if self._speeds is None:
            self._speeds = SpeedRecord.from_dict(_read_setting())
        return self._speeds

    def learn(self, run: Run) -> None:
        """Store the speed of a finished run for estimates, also of later sessions."""
        found = run.result
        if run.state != RunState.FINISHED or not isinstance(found, VolumeResult):
            return  # a cancelled run is not representative, and a cine is measured differently
        if run.job is not None and run.job.reslicing is not None:
            return  # other slices were segmented than those of the result
        self._speeds = self.speeds().learned(
            run.request.settings.model,
            found.device,
            found.seconds["segmentation"],
            found.slices,
            found.embedded,
            found.pairs,
            len(found.objects),
            TileWork.done(found.tiles),
            len(found.helps.closer),
        )
        _write_setting(self._speeds.to_dict())

    def receive(self, event: events.Event) -> None:
        """Pass an answer to its callback; answers without one are ignored."""
        if not isinstance(event, (events.Finished, events.Failed)):
            return
        kind, told = self._waiting.pop(event.ticket, ("", None))
        if told is None:
            return
        if isinstance(event, events.Failed):
            told(None, sentence_of(event.error, event.trace))
        elif not isinstance(event.outcome, events.Dropped):
            told(event.outcome, "")
        elif all(kind != other for other, _told in self._waiting.values()):  # the same was not asked again
            told(None, _("The question was cancelled; ask again."))

    def forget(self, reason: str) -> None:
        """Answer all questions with the reason why they will not be answered."""
        waiting = [told for _kind, told in self._waiting.values()]
        self._waiting.clear()
        for told in waiting:
            told(None, reason)

    def _ask(self, task: Task[T], label: str, on_answer: Callable[[T | None, str], None], replaces: str) -> None:
        ticket = self._submit(task, label, replaces)
        self._waiting[ticket.number] = (replaces, on_answer)


def _read_setting() -> object:
    """Return the stored speeds of earlier sessions; None without settings (scripts, tests)."""
    try:
        return json.loads(slicer.app.userSettings().value(SPEEDS_SETTING, "{}"))
    except (AttributeError, TypeError, ValueError):
        return None


def _write_setting(values: dict[str, object]) -> None:
    try:
        settings = slicer.app.userSettings()
    except AttributeError:  # a script without an application object
        return
    settings.setValue(SPEEDS_SETTING, json.dumps(values))
