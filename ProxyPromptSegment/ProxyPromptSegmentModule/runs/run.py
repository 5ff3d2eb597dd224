"""One press of Apply, as the widget and scripts see it: a chain of tasks whose slices are written as they come."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentModule.panel_words import in_panel_words
from ProxyPromptSegmentModule.runs.destinations import VolumeSink
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.tasks import PlanTask, SummaryTask
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.volume_reader import VolumeReading
from ProxyPromptSegmentModule.translation import _

WAITING, READING, RUNNING = "waiting", "reading", "running"
FINISHED, CANCELLED, FAILED = "finished", "cancelled", "failed"

_log = logging.getLogger(__name__)

Chain = Generator[Any, Any, None]
"""Yields a task for the worker thread and is sent its outcome, or yields None to be called again soon."""


def sentence_of(error: BaseException, trace: str = "") -> str:
    """What the user is told of an error; a fault of the program leaves its trace in the log."""
    from ProxyPromptSegmentLib.errors import ProxyPromptError

    if isinstance(error, ProxyPromptError):
        return in_panel_words(str(error))
    if isinstance(error, ImportError):
        return _("A package is missing ({text}). Open the module Proxy Prompt Segment and press Install.").format(
            text=error
        )
    _log.error("A task ended by a fault.\n%s", trace, exc_info=None if trace else error)
    return _("The program made a mistake ({kind}: {text}); the details are in the log.").format(
        kind=type(error).__name__, text=error
    )


class Run:
    """A job and what has come of it so far; used from the main thread only.

    Attributes:
        request: What was asked for.
        state: One of the constants above. ``cancelled`` keeps what is done.
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

    def __init__(self, request: Request, submit: Callable[[Any, str], Any], sink: Any) -> None:
        """Begins nothing yet; the logic's pump calls `advance`.

        Args:
            request: What to do.
            submit: Hands a task and its label to the worker thread; returns the ticket.
            sink: Where the slices go.
        """
        self.request, self.sink = request, sink
        self.state, self.what, self.error = WAITING, _("Waiting"), ""
        self.done = self.total = 0
        self.seconds_left: float | None = None
        self.written: set[int] = set()
        self.sentences: list[str] = []
        self.undone = False
        self.last_index: int | None = None
        self.job: Any = None
        self.result: Any = None
        self.table: Any = None
        self.doubts: list[Any] = []
        self.record: dict[str, Any] = {}
        self.record_text = ""
        self.ticket: Any = None
        self._submit = submit
        self._pending: dict[int, Any] = {}
        self._observers: list[Callable[[Run], None]] = []
        self._chain: Chain | None = self._steps()
        self._answer: Any = None
        self._failure: tuple[BaseException, str] | None = None
        self._stopping = self._counting = False
        self._started = datetime.now().astimezone()

    # --- for whoever looks on ---------------------------------------------------------------------------------

    @property
    def segmentation(self) -> Any:
        """The segmentation node, once there is one."""
        return self.sink.segmentation

    @property
    def segment_ids(self) -> dict[str, str]:
        """Segment of each object, once they are there."""
        return self.sink.segment_ids

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in (FINISHED, CANCELLED, FAILED)

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
        return self._turn_back(self.sink.undo, True)

    def redo(self) -> bool:
        """Does again what `undo` took back."""
        return self._turn_back(self.sink.redo, False)

    def _turn_back(self, step: Callable[[], bool], undone: bool) -> bool:
        if not self.ended or self.undone == undone or not self.sink.valid or not step():
            return False
        self.undone = undone
        self._tell()
        return True

    def ras_of(self, index: int) -> tuple[float, float, float]:
        """World position of the middle of a slice, to jump there."""
        r, a, s = nodes.slice_ras(self.request.target, self.job.view.axis, index)
        return r, a, s

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the table of results by column name; none before the end."""
        return [] if self.table is None else self.table.as_dicts()

    # --- for the logic ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Goes on to the next step, if nothing is being waited for."""
        if self.ended or self.ticket is not None or self._pending:
            return
        if not self.sink.valid:
            self.abandon(_("The volume or its segmentation was removed, so the run was stopped."))
            return
        if self._stopping and self.state in (WAITING, READING):
            self._end(CANCELLED)
            return
        if self._failure is not None:  # what was done before it is written by now
            self._fail(*self._failure)
            return
        answer, self._answer = self._answer, None
        try:
            assert self._chain is not None
            task = self._chain.send(answer)
        except StopIteration:
            self._end(CANCELLED if self._stopping or getattr(self.result, "cancelled", False) else FINISHED)
        except Exception as error:
            self._fail(error)
        else:
            if task is not None:
                self.ticket = self._submit(task, self.what)
            self._tell()

    def receive(self, event: Any) -> None:
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
                self._end(CANCELLED)
        elif isinstance(event, events.Failed):
            self.ticket, self._failure = None, (event.error, event.trace)
        self._tell()

    def flush(self, deadline: float) -> None:
        """Writes slices that have come until it is ``deadline`` (`time.perf_counter`), at least a few."""
        if not self._pending:
            return
        if not self.sink.valid:
            self.abandon(_("The volume or its segmentation was removed, so the run was stopped."))
            return
        while self._pending:
            some = [(index, self._pending.pop(index)) for index in list(self._pending)[:4]]
            self.sink.write(some)
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
            self._end(CANCELLED, tidy=False)

    # --- the chain --------------------------------------------------------------------------------------------

    def _steps(self) -> Chain:
        """From the nodes to finished slices."""
        self.job = yield from self._planned()
        self.sink.open(self.job)
        self.sentences += self.sink.notes
        self.result = yield self._task()
        self.sentences += [note for note in self.result.outcome.notes if note not in self.sentences]
        self.take((yield self._summary()))

    def _summary(self, mode: str = "") -> SummaryTask:
        """What counts and records the result, also of a cancelled run."""
        self._counting = True
        return SummaryTask(
            self.job,
            self.result,
            self.request.cases,
            self.request.settings,
            self.request.objects,
            self._started,
            tuple(self.sentences),
            mode,
        )

    def take(self, summary: Any) -> None:
        """Takes over what is shown at the end."""
        self.table, self.doubts = summary.table, summary.doubts
        self.record, self.record_text = summary.record, summary.text

    def _planned(self) -> Generator[Any, Any, Any]:
        """Copies the target out of the scene and plans the job."""
        self.state, self.what = READING, _("Reading the volume")
        reading = VolumeReading(self.request.target)
        while not reading.step():
            yield None
        self.sentences += reading.notes
        self.state = RUNNING
        request = self.request
        job = yield PlanTask(
            request.cases,
            reading.voxels,
            reading.geometry,
            reading.name,
            request.objects,
            request.slices,
            request.settings,
        )
        return job

    def _task(self) -> Any:
        """What segments the planned job."""
        from ProxyPromptSegmentLib.worker.tasks import SegmentTask

        settings = self.request.settings
        return SegmentTask(
            self.job,
            settings.model,
            settings.device,
            settings.threshold,
            first=self.request.first,
            follow=settings.follow,
        )

    def _fail(self, error: BaseException, trace: str = "") -> None:
        """Ends with a sentence."""
        self.error = sentence_of(error, trace)
        self._end(FAILED)

    def _end(self, state: str, tidy: bool = True) -> None:
        self.state, self.ticket, self._answer = state, None, None
        self.seconds_left = None
        if self._chain is not None:
            self._chain.close()
            self._chain = None
        if tidy and self.sink.valid:
            self.sink.finish()
        self._tell()

    def _tell(self) -> None:
        for told in list(self._observers):
            told(self)


class VolumeRun(Run):
    """A run on one volume."""

    def __init__(self, request: Request, submit: Callable[[Any, str], Any]) -> None:
        """Writes into segments of the request's output."""
        super().__init__(request, submit, VolumeSink(request.target, request.output))
