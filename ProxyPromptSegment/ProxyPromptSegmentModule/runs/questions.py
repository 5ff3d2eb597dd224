"""Questions to the worker thread that are not runs: why, support check, suggestions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import slicer

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.inference.tiling.choice import OFF
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.user_folders import supports_folder
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentLib.worker.tasks import WhyTask
from ProxyPromptSegmentModule.runs.chain import Task
from ProxyPromptSegmentModule.runs.chained import sentence_of
from ProxyPromptSegmentModule.runs.refining import Refinement, RefineTask, UnsureTask
from ProxyPromptSegmentModule.runs.request import Request, Settings
from ProxyPromptSegmentModule.runs.run import Run
from ProxyPromptSegmentModule.runs.tasks import CheckTask, PrepareAheadTask, SuggestTask, WarmUpTask
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.volume_reader import VolumeReading
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ProxyPromptSegmentLib.inference.attribution import Why
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.review.findings import Finding
    from ProxyPromptSegmentLib.review.suggest import Suggestion
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.worker.thread import Ticket
    from ProxyPromptSegmentModule.runs.refining import Refined

T = TypeVar("T")

WhyAnswer = Callable[["Why | None", str], None]
"""Called on the main thread with the explanation and "", or with None and the reason."""
UnsureAnswer = Callable[["npt.NDArray[np.uint8] | None", str], None]
CheckAnswer = Callable[["list[Finding]", str], None]
SuggestAnswer = Callable[["list[Suggestion]", str], None]
"""Called with the answer and "", or with an empty list and the reason; suggestions may come with a warning."""


class SubmitQuestion(Protocol):
    """The function that submits a task with its label, and what it replaces, to the worker thread."""

    def __call__(
        self, task: Task[object], label: str, replaces: str | None = None, /, *, yields: bool = False
    ) -> Ticket:
        """Submit the task."""


class Questions:
    """The pending questions and their callbacks."""

    def __init__(self, submit: SubmitQuestion) -> None:
        """Submit tasks through ``submit``, see `SubmitQuestion`."""
        self._submit = submit
        self._waiting: dict[int, tuple[str, Callable[..., None]]] = {}  # each takes the outcome of its own task

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
            precision=settings.precision,
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

    def prepare_ahead(self, request: Request) -> None:
        """Prepare the supports of a request in advance; errors are ignored, because the run will report them.

        Any other task ends it, and nothing is done where prepared supports are not kept.
        """
        if not request.cases or supports_folder() is None:
            return
        try:
            target = nodes.geometry_of(request.target)
        except ProxyPromptError:  # it was changed since; the timer that asks for this must not stop
            return
        task = PrepareAheadTask(cases=request.cases, objects=request.objects, target=target, settings=request.settings)
        self._submit(task, _("Preparing the support"), "prepare", yields=True)

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
