"""One press of Apply, as the widget and scripts see it: a chain of tasks whose slices are written as they come."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import as_user_error
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentLib.worker.tasks import SegmentTask
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.chain import Chain, Task, outcome_of
from ProxyPromptSegmentModule.runs.destinations import Destination, SegmentDestination
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.tasks import PlanTask, SummaryTask
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.volume_reader import VolumeReading
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import slicer

    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.reports.results_table import Doubt, Table
    from ProxyPromptSegmentLib.tracking.result import FramesResult
    from ProxyPromptSegmentLib.worker.tasks import LiveSlice, SegmentTask
    from ProxyPromptSegmentLib.worker.thread import Ticket
    from ProxyPromptSegmentModule.runs.tasks import Summary

_log = logging.getLogger(__name__)

Submit = Callable[["Task[object]", str], "Ticket"]
"""Hands a task and its label to the worker thread."""


def sentence_of(error: BaseException, trace: str = "") -> str:
    """Return what the user is shown of an error; a fault of the program leaves its trace in the log."""
    known = as_user_error(error)
    if known is not None:
        return worded(known)
    _log.error("A task ended by a fault.\n%s", trace, exc_info=None if trace else error)
    return _("Internal error ({kind}: {text}). Details are in the application log.").format(
        kind=type(error).__name__, text=error
    )


class Run:
    """A job and what has come of it so far; used from the main thread only.

    Attributes:
        request: What was asked for.
        state: How far it is. ``cancelled`` keeps what is done.
        what: The stage in words, for the progress bar.
        done: Slices or frames of the stage that are done.
        total: All of them; 0 while that is not known.
        seconds_left: Estimated; None while nothing is known.
        written: Slices that were written, each counted once.
        sentences: What the user should know: notes, steps down the memory ladder.
        error: The sentence of a failure; "" where there is none.
        undone: Whether what it wrote was taken back.
        last_index: Slice (or item) written last; None before the first.
        segment_ids: Segment id of each object.
        job: The engine's `Job`, once it is planned.
        result: The task's outcome, after the end.
        table: After the end: the table of results, one row for each object (`results_table.Table`).
        doubts: After the end: slices to look at first, least sure first (`results_table.Doubt`).
        record: After the end: the run record as a dict.
        record_text: The same as text.
    """

    def __init__(self, request: Request, submit: Submit, destination: Destination) -> None:
        """Begins nothing yet; the logic's pump calls `advance`.

        Args:
            request: What to do.
            submit: Hands a task and its label to the worker thread; returns the ticket.
            destination: Where the slices go.
        """
        self.request, self.destination = request, destination
        self.state, self.what, self.error = RunState.WAITING, _("Waiting"), ""
        self.done = self.total = 0
        self.seconds_left: float | None = None
        self.written: set[int] = set()
        self.sentences: list[str] = []
        self.undone = False
        self.last_index: int | None = None
        self.job: Job | None = None
        self.result: VolumeResult | FramesResult | LiveSlice | None = None
        self.table: Table | None = None
        self.doubts: list[Doubt] = []
        self.record: dict[str, object] = {}
        self.record_text = ""
        self.ticket: Ticket | None = None
        self._submit = submit
        self._pending: dict[int, npt.NDArray[np.uint8]] = {}
        self._observers: list[Callable[[Run], None]] = []
        self._chain: Chain[None] | None = self._steps()
        self._answer: object = None
        self._failure: tuple[BaseException, str] | None = None
        self._stopping = self._counting = False
        self._started = datetime.now().astimezone()

    # --- for whoever looks on ---------------------------------------------------------------------------------

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The segmentation node, once there is one."""
        return self.destination.segmentation

    @property
    def segment_ids(self) -> dict[str, str]:
        """Segment of each object, once they are there."""
        return self.destination.segment_ids

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state.ended

    @property
    def idle(self) -> bool:
        """Whether it waits for somebody, so that the pump may rest."""
        return self.ended

    def observe(self, told: Callable[[Run], None]) -> None:
        """Calls back after every change, on the main thread."""
        self._observers.append(told)

    def cancel(self) -> None:
        """Stops between two slices and keeps what is done."""
        self._stopping = True
        if self.ticket is not None and not self._counting:  # what is done is still counted
            self.ticket.cancel()

    @property
    def pending(self) -> bool:
        """Whether slices have come that are not written yet."""
        return bool(self._pending)

    def undo(self) -> bool:
        """Takes back everything that the run wrote, in one step; False if that is no longer possible."""
        return self._turn_back(self.destination.undo, True)

    def redo(self) -> bool:
        """Does again what `undo` took back."""
        return self._turn_back(self.destination.redo, False)

    def _turn_back(self, step: Callable[[], bool], undone: bool) -> bool:
        if not self.ended or self.undone == undone or not self.destination.valid or not step():
            return False
        self.undone = undone
        self._tell()
        return True

    def ras_of(self, index: int) -> tuple[float, float, float]:
        """World position of the middle of a slice, to jump there."""
        assert self.job is not None  # there are slices only then
        return nodes.slice_ras(self.request.target, self.job.view.axis, index)

    @property
    def rows(self) -> list[dict[str, object]]:
        """Rows of the table of results by column name; none before the end."""
        return [] if self.table is None else self.table.as_dicts()

    def masks(self) -> dict[str, npt.NDArray[np.uint8]]:
        """What was found in a volume, by object name, ``(K, J, I)``; nothing before the end or of other runs."""
        return {}

    # --- for the logic ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Goes on to the next step, if nothing is being waited for."""
        if self.ended or self.ticket is not None or self._pending:
            return
        if not self.destination.valid:
            self.abandon(_("The volume or its segmentation was removed, so the run was stopped."))
            return
        if self._stopping and self.state in (RunState.WAITING, RunState.READING):
            self._end(RunState.CANCELLED)
            return
        if self._failure is not None:  # what was done before it is written by now
            self._fail(*self._failure)
            return
        answer, self._answer = self._answer, None
        try:
            assert self._chain is not None
            task = self._chain.send(answer)
        except StopIteration:
            self._end(RunState.CANCELLED if self._stopping or self._was_cancelled() else RunState.FINISHED)
        except Exception as error:
            self._fail(error)
        else:
            if task is not None:
                self.ticket = self._submit(task, self.what)
            self._tell()

    def receive(self, event: events.Event) -> None:
        """Takes an event of the worker thread."""
        if self.ended:
            return
        if isinstance(event, events.SliceReady):
            self._pending.pop(event.index, None)  # to the end of the queue: order of writing is order of arrival
            self._pending[event.index] = event.masks
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
        elif isinstance(event, events.Failed):
            self.ticket, self._failure = None, (event.error, event.trace)
        self._tell()

    def flush(self, deadline: float) -> None:
        """Writes slices that have come until it is ``deadline`` (`time.perf_counter`), at least a few."""
        if not self._pending:
            return
        if not self.destination.valid:
            self.abandon(_("The volume or its segmentation was removed, so the run was stopped."))
            return
        while self._pending:
            some = [(index, self._pending.pop(index)) for index in list(self._pending)[:4]]
            self.destination.write(some)
            self.written.update(index for index, _masks in some)
            self.last_index = some[-1][0]
            if time.perf_counter() > deadline:
                break
        self._tell()

    def abandon(self, sentence: str) -> None:
        """Ends at once: nothing more is written, whatever still comes. For a scene that closes, a node that is gone."""
        if not self.ended:
            self.cancel()
            if self.ticket is not None:
                self.ticket.cancel()
            self._pending.clear()
            self.sentences.append(sentence)
            self._end(RunState.CANCELLED, tidy=False)

    # --- the chain --------------------------------------------------------------------------------------------

    def _steps(self) -> Chain[None]:
        """From the nodes to finished slices."""
        raise NotImplementedError

    def _was_cancelled(self) -> bool:
        return self.result is not None and self.result.cancelled

    def _summary(self, job: Job, result: VolumeResult | FramesResult, mode: str = "") -> SummaryTask:
        """What counts and records the result, also of a cancelled run."""
        self._counting = True
        return SummaryTask(
            job=job,
            result=result,
            cases=self.request.cases,
            settings=self.request.settings,
            objects=self.request.objects,
            started=self._started,
            sentences=tuple(self.sentences),
            mode=mode,
        )

    def take(self, summary: Summary) -> None:
        """Takes over what is shown at the end."""
        self.table, self.doubts = summary.table, summary.doubts
        self.record, self.record_text = summary.record, summary.text

    def _planned(self) -> Chain[Job]:
        """Copies the target out of the scene and plans the job."""
        self.state, self.what = RunState.READING, _("Reading the volume")
        reading = VolumeReading(self.request.target)
        while not reading.step():
            yield None
        self.sentences += reading.notes
        self.state = RunState.RUNNING
        request = self.request
        plan = PlanTask(
            cases=request.cases,
            voxels=reading.voxels,
            geometry=reading.geometry,
            name=reading.name,
            objects=request.objects,
            slices=request.slices,
            settings=request.settings,
        )
        return (yield from outcome_of(plan))

    def _task(self, job: Job) -> SegmentTask:
        """What segments the planned job."""
        settings = self.request.settings
        return SegmentTask(
            job=job,
            model=settings.model,
            device=settings.device,
            threshold=settings.threshold,
            first=self.request.first,
            follow=settings.follow,
        )

    def _fail(self, error: BaseException, trace: str = "") -> None:
        """Ends with a sentence."""
        self.error = sentence_of(error, trace)
        self._end(RunState.FAILED)

    def _end(self, state: RunState, tidy: bool = True) -> None:
        self.state, self.ticket, self._answer = state, None, None
        self.seconds_left = None
        if self._chain is not None:
            self._chain.close()
            self._chain = None
        if tidy and self.destination.valid:
            self.destination.finish()
        self._tell()

    def _tell(self) -> None:
        for told in list(self._observers):
            told(self)


class VolumeRun(Run):
    """A run on one volume."""

    def __init__(self, request: Request, submit: Submit) -> None:
        """Writes into segments of the request's output."""
        self._segments = SegmentDestination(request.target, request.output)
        super().__init__(request, submit, self._segments)

    def _open(self, job: Job) -> None:
        """Makes the segments."""
        self._segments.open(job)
        self.sentences += self._segments.notes

    def _steps(self) -> Chain[None]:
        self.job = job = yield from self._planned()
        self._open(job)
        self.result = result = yield from outcome_of(self._task(job))
        self.sentences += [said for said in map(worded, result.notes) if said not in self.sentences]
        self.take((yield from outcome_of(self._summary(job, result))))

    def masks(self) -> dict[str, npt.NDArray[np.uint8]]:
        """See `Run.masks`."""
        if not isinstance(self.result, VolumeResult):
            return {}
        return {one.name: one.mask for one in self.result.segmentation.segments}
