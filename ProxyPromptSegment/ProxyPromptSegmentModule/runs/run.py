"""A run, from Apply to the finished segments: a chain of tasks whose slices are written as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.remedies import informing_first
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentLib.worker.tasks import SegmentTask
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.chained import Chained, Submit
from ProxyPromptSegmentModule.runs.destinations import Destination, SegmentDestination
from ProxyPromptSegmentModule.runs.plan_task import PlanTask
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.tasks import SummaryTask
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.modality import modality_of
from ProxyPromptSegmentModule.scene.owners import result_segments
from ProxyPromptSegmentModule.scene.volume_reader import VolumeReading
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import slicer

    from ProxyPromptSegmentLib.imaging.geometry import Axis
    from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.reports.doubts import Doubt
    from ProxyPromptSegmentLib.reports.results_table import Table
    from ProxyPromptSegmentLib.tracking.result import FramesResult
    from ProxyPromptSegmentLib.worker.tasks import LiveSlice, SegmentTask
    from ProxyPromptSegmentModule.runs.refining import Refined
    from ProxyPromptSegmentModule.runs.tasks import Summary
    from ProxyPromptSegmentModule.scene.segment_state import SegmentStates

_MOMENT = 0.01
"""Seconds for which the segments are read before the window is drawn again."""


class Run(Chained):
    """The state and results of a run; used from the main thread only.

    Attributes:
        request: The description of the run.
        written: Slices that were written; those of a cancelled run are kept.
        undone: Whether the run was undone.
        left: After an undo: sentences about slices that were changed by hand since and therefore left.
        before: What was stored about the result before the run, to be restored by an undo; None before its end.
        after: What was stored about it after the run, to be restored by a redo.
        nothing_found: After the end: whether no object was found on any slice or item that was done.
        last_index: Slice (or item) written last; None before the first.
        segment_ids: Segment id of each object.
        job: The planned `Job`; None before.
        result: The outcome, after the end.
        table: After the end: the table of results, one row for each object.
        doubts: After the end: slices to review first, ordered by increasing confidence.
        confidence: After the end: confidence of each slice that was done, by object name and slice; 0..1.
        forecast: What it will have taken at its end, measured on its first slices; None before, and for short runs.
        refined: The masks with small pieces removed or slices smoothed; None as the model drew them.
        record: After the end: the run record as a dict.
        record_text: The run record as text.
    """

    def __init__(self, request: Request, submit: Submit, destination: Destination) -> None:
        """Prepare the run; the logic's pump starts it by calling `advance`.

        Args:
            request: The description of the run.
            submit: Submits a task and its label to the worker thread; returns the ticket.
            destination: The destination of the slices.
        """
        super().__init__(submit)
        self.request, self.destination = request, destination
        self.written: set[int] = set()
        self.undone = self.nothing_found = False
        self.left: list[str] = []
        self.before: tuple[str, str] | None = None
        self.after = ""
        self.last_index: int | None = None
        self.job: Job | None = None
        self.result: VolumeResult | FramesResult | LiveSlice | None = None
        self.table: Table | None = None
        self.doubts: list[Doubt] = []
        self.confidence: Mapping[str, Mapping[int, float]] = {}
        self.forecast: events.Forecasted | None = None
        self.refined: Refined | None = None
        self.record: dict[str, object] = {}
        self.record_text = ""
        self._pending: dict[int, npt.NDArray[np.uint8]] = {}
        self._failure: tuple[BaseException, str] | None = None
        self._counting = False
        self._started = datetime.now().astimezone()

    # --- for whoever looks on ---------------------------------------------------------------------------------

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The segmentation node, or None."""
        return self.destination.segmentation

    @property
    def segment_ids(self) -> dict[str, str]:
        """Segment id of each object; empty before the segments are created."""
        return self.destination.segment_ids

    @property
    def idle(self) -> bool:
        """Whether the run waits for user input, so that polling can stop."""
        return self.ended

    def cancel(self) -> None:
        """Cancel the run between two slices; finished slices are kept."""
        self._stopping = True
        if self.ticket is not None and not self._counting:  # finished slices are still summarised
            self.ticket.cancel()

    @property
    def keeps_masks(self) -> bool:
        """Whether the masks and probabilities of a volume are still there, so that they can be refined and shown."""
        return isinstance(self.result, VolumeResult)

    @property
    def makes_result(self) -> bool:
        """Whether what it writes is the result of its target, which later runs write again."""
        return True

    @property
    def pending(self) -> bool:
        """Whether slices have arrived that are not written yet."""
        return bool(self._pending)

    def undo(self) -> bool:
        """Undo everything that the run wrote, in one step; return False if that is no longer possible."""
        return self._turn_back(self.destination.undo, True)

    def redo(self) -> bool:
        """Redo what `undo` has reverted."""
        return self._turn_back(self.destination.redo, False)

    def _turn_back(self, step: Callable[[], bool], undone: bool) -> bool:
        if not self.ended or self.undone == undone or not self.destination.valid or not step():
            return False
        self.undone, self.left = undone, self.destination.kept() if undone else []
        self._tell()
        return True

    def release(self) -> None:
        """Release the large arrays of a run that has ended; undo stays possible."""
        self.job = self.result = self.refined = None

    def rewrite(self, refined: Refined) -> None:
        """Write the masks of a run that has ended in another form; slices that were changed by hand stay."""
        if not self.ended or self.undone or not self.destination.valid:
            return
        self.refined = refined
        self._pending = {index: refined.masks[index] for index in refined.changed}
        if not self._pending:
            self._tell()

    def ras_of(self, index: int) -> tuple[float, float, float]:
        """Return the world position of a slice's centre, for jumps."""
        assert self.job is not None  # slices exist only after planning
        return nodes.slice_ras(self.request.target, self.job.view.axis, index)

    @property
    def rows(self) -> list[dict[str, object]]:
        """Return the rows of the table of results by column name; empty before the end."""
        return [] if self.table is None else self.table.as_dicts()

    def masks(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Return the masks of a volume by object name, ``(K, J, I)``; empty before the end and for other runs."""
        return {}

    # --- for the logic ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Continue with the next step, unless the run waits for a task."""
        if self.ended or self.ticket is not None or self._pending:
            return
        if not self.destination.valid:
            self.abandon(_("The volume or its segmentation was removed, so the run was stopped."))
            return
        if self._failure is not None and not self._stops_early:  # slices that arrived before it are written by now
            self._fail(*self._failure)
            return
        super().advance()

    def receive(self, event: events.Event) -> None:
        """Handle an event of the worker thread."""
        if self.ended:
            return
        if isinstance(event, events.SliceReady):
            self._pending.pop(event.index, None)  # move it to the end: slices are written in the order of arrival
            self._pending[event.index] = event.masks
            return
        if isinstance(event, events.Forecasted):
            self.forecast = event
        if isinstance(event, events.Failed):
            self.ticket, self._failure = None, (event.error, event.trace)
            self._tell()
            return
        super().receive(event)

    def flush(self, deadline: float) -> None:
        """Write arrived slices until ``deadline`` (`time.perf_counter`), but at least a few."""
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
        if self.ended and self._pending:  # only the last change is to be counted and shown
            return
        if self.ended:
            self.destination.restore_surfaces()
        self._tell()

    def abandon(self, sentence: str) -> None:
        """End immediately and ignore later events, for example because the scene is closed or a node was removed."""
        if not self.ended:
            self.cancel()
            if self.ticket is not None:
                self.ticket.cancel()
            self._pending.clear()
            self.sentences.append(sentence)
            self._end(RunState.CANCELLED, tidy=False)

    # --- the chain --------------------------------------------------------------------------------------------

    @property
    def _stops_early(self) -> bool:
        """See `Chained`: the job of a plan that was cancelled is not to be carried out."""
        return super()._stops_early or (self._stopping and self.job is None)

    def _was_cancelled(self) -> bool:
        return self._stopping or (self.result is not None and self.result.cancelled)

    def _summary(
        self, job: Job, result: VolumeResult | FramesResult, mode: str = "", said: ByHand | None = None
    ) -> SummaryTask:
        """Return the task that summarises the result, also of a cancelled run; ``said`` by hand, if it changed."""
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
            by_hand=self.request.by_hand if said is None else said,
        )

    def take(self, summary: Summary) -> None:
        """Store the summary that is shown at the end."""
        self.nothing_found = summary.nothing_found
        self.table, self.doubts, self.confidence = summary.table, summary.doubts, summary.confidence
        self.record, self.record_text = summary.record, summary.text
        self.sentences += summary.notes

    def _planned(self, reslice: bool = True) -> Chain[Job]:
        """Copy the target from the scene and plan the job; see `PlanTask.reslice`."""
        return (yield from self._planned_on((yield from self._copied()), reslice))

    def _copied(self) -> Chain[VolumeReading]:
        """Copy the target from the scene."""
        self.state, self.what = RunState.READING, _("Reading the volume")
        reading = VolumeReading(self.request.target)
        while not reading.step():
            yield None
        self.sentences += reading.notes
        self.state = RunState.RUNNING
        return reading

    def _planned_on(self, reading: VolumeReading, reslice: bool = True) -> Chain[Job]:
        """Plan the job on a target that was copied; see `PlanTask.reslice`."""
        request = self.request
        plan = PlanTask(
            cases=request.cases,
            voxels=reading.voxels,
            geometry=reading.geometry,
            name=reading.name,
            objects=request.objects,
            slices=request.slices,
            settings=request.settings,
            reslice=reslice,
            classes=request.classes,
            modality=modality_of(request.target),
            any_modality=request.any_modality,
            by_hand=request.by_hand,
        )
        return (yield from outcome_of(plan))

    def _task(self, job: Job) -> SegmentTask:
        """Return the task that segments the planned job."""
        settings = self.request.settings
        return SegmentTask(
            job=job,
            model=settings.model,
            first=self.request.first,
            follow=settings.follow,
            **settings.computing(),
        )

    def _tidy(self) -> None:
        if self.destination.valid:
            self.destination.finish()
            self.sentences += self.destination.kept()

    def _end(self, state: RunState, tidy: bool = True) -> None:
        super()._end(state, tidy)
        scene = self.request.target.GetScene()
        if not self.written and self.destination.valid and scene is not None and not scene.IsClosing():
            self.destination.withdraw()  # once all have heard of the end: the panel forgets runs without a result


class VolumeRun(Run):
    """A run on one volume."""

    def __init__(self, request: Request, submit: Submit, states: SegmentStates | None = None) -> None:
        """Prepare to write into segments of the request's output.

        Args:
            request: The description of the run.
            submit: Submits a task and its label to the worker thread; returns the ticket.
            states: What the segments of the scene hold; those of the result are read before the end, a little at a
                time, so that its tables can be made at once.
        """
        self._segments = SegmentDestination(request.target, request.output)
        self._states = states
        super().__init__(request, submit, self._segments)

    def _open(self, job: Job) -> None:
        """Create the segments."""
        self._segments.open(job)
        self.sentences += self._segments.notes

    def _steps(self) -> Chain[None]:
        yield from self._segmented((yield from self._copied()))

    def _segmented(self, reading: VolumeReading) -> Chain[None]:
        """Segment the target that was copied."""
        self.job = job = yield from self._planned_on(reading)
        self._open(job)
        self.result = result = yield from outcome_of(self._task(job))
        self.sentences += [said for said in map(worded, informing_first(result.notes)) if said not in self.sentences]
        self.sentences += [result.helps.sentence] if result.helps.names else []
        if result.cancelled and not self.written:
            return
        self.take((yield from outcome_of(self._summary(job, result))))
        yield from self._counted(job.view.axis)

    def _counted(self, axis: Axis) -> Chain[None]:
        """Read what is in the segments now, a little at a time."""
        node, target = self.segmentation, self.request.target
        if self._states is None or node is None:
            return
        for segment_id in result_segments(node, target):
            while not self._states.read_some(node, segment_id, target, axis, time.perf_counter() + _MOMENT):
                yield None
        yield None  # the end, which stores the result and shows it everywhere, has a turn of its own

    def masks(self) -> dict[str, npt.NDArray[np.uint8]]:
        """See `Run.masks`."""
        if not isinstance(self.result, VolumeResult):
            return {}
        return {one.name: one.mask for one in self.result.segmentation.segments}
