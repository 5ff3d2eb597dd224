"""Many studies of a scene, segmented alike one after another; one that fails does not stop the others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ProxyPromptSegmentLib.cohort.endings import ends_all
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.chained import Submit, sentence_of
from ProxyPromptSegmentModule.runs.request import Request
from ProxyPromptSegmentModule.runs.study_list import HowFar, StudyList
from ProxyPromptSegmentModule.runs.study_run import Judge, Reason, StudyRun, work_of
from ProxyPromptSegmentModule.runs.study_tasks import Work, WorkTask
from ProxyPromptSegmentModule.scene.editor_history import open_history
from ProxyPromptSegmentModule.scene.nodes import in_scene
from ProxyPromptSegmentModule.scene.owners import results_of
from ProxyPromptSegmentModule.states import RunState, StudyState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import slicer


class Start(Protocol):
    """Starts the run of a study; the logic's."""

    def __call__(self, request: Request, judge: Judge, /) -> StudyRun:
        """Start it."""


@dataclass(frozen=True, kw_only=True)
class StudiesRequest:
    """What is to be segmented, and with what.

    Attributes:
        targets: The studies, in the order in which they are segmented.
        base: The request of each of them, whose target and output are replaced.
        left_out: Why volumes are not segmented, by node id.
    """

    targets: tuple[slicer.vtkMRMLVolumeNode, ...]
    base: Request
    left_out: Mapping[str, str]


class Study:
    """A study and what became of it.

    Attributes:
        node: Its volume.
        identifier: The volume's id.
        state: What became of it.
        reason: Why it failed, or was not segmented.
        run: Its latest run; None before the first.
    """

    def __init__(self, node: slicer.vtkMRMLVolumeNode) -> None:
        """Wait."""
        self.node, self.identifier = node, node.GetID()
        self.state, self.reason = StudyState.WAITING, ""
        self.run: StudyRun | None = None

    @property
    def name(self) -> str:
        """The volume's name, also after it was renamed."""
        return self.node.GetName() or self.identifier


class Studies(StudyList):
    """The state of many studies; used from the main thread only.

    Attributes:
        request: What is to be segmented.
        studies: The studies, in the order in which they are segmented.
        current: The study that is being segmented; None between two.
    """

    def __init__(self, request: StudiesRequest, submit: Submit, start: Start, is_free: Callable[[], bool]) -> None:
        """Prepare the studies; `advance` begins the first.

        Args:
            request: What is to be segmented.
            submit: Submits a task to the worker thread.
            start: Starts the run of one study.
            is_free: Whether no other run is in progress, which the next study would end.
        """
        super().__init__(submit)
        self.request = request
        self.studies = [Study(node) for node in request.targets]
        self.current: Study | None = None
        self._start, self._is_free = start, is_free
        self._contents: dict[str, Study] = {}
        self._begun, self._computed = time.monotonic(), 0
        for study in self.studies:
            if reason := request.left_out.get(study.identifier):
                study.state, study.reason = StudyState.LEFT_OUT, reason

    def states(self) -> list[StudyState]:
        """See `StudyList.states`."""
        return [study.state for study in self.studies]

    @property
    def written(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The segmentation that is being written into; None before it is made."""
        run = self.current.run if self.current is not None else None
        return run.segmentation if run is not None else None

    def how_far(self) -> HowFar | None:
        """See `StudyList.how_far`."""
        current = self.current
        if current is None:
            return None
        done, slices = (current.run.done, current.run.total) if current.run is not None else (0, 0)
        number = self.studies.index(current) + 1
        return HowFar(number=number, total=len(self.studies), name=current.name, done=done, slices=slices)

    def of(self, identifier: str) -> Study | None:
        """Return the study of a volume, or None."""
        return next((study for study in self.studies if study.identifier == identifier), None)

    # --- for the logic ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Continue once the run of the current study has ended."""
        run = self.current.run if self.current is not None else None
        if run is None or run.ended:
            super().advance()

    def cancel(self) -> None:
        """Stop after the slice that is being computed; what is done is kept, and the others stay open."""
        super().cancel()
        if self.current is not None and self.current.run is not None:
            self.current.run.cancel()

    # --- the steps --------------------------------------------------------------------------------------------

    def _steps(self) -> Chain[None]:
        self.state, self.what, self.total = RunState.RUNNING, _("Reading the supports"), len(self.studies)
        work: Work = yield from outcome_of(WorkTask(request=self.request.base))
        waiting = deque(study for study in self.studies if study.state is StudyState.WAITING)
        self._begun = time.monotonic()
        while waiting and not self._stopping:
            self.done = self.total - len(waiting)
            self._estimate(len(waiting))
            study = waiting.popleft()
            while not self._is_free() and not self._stopping:
                yield None
            if self._stopping:
                return
            yield from self._segment(study, work)
            if study.state is StudyState.WAITING and not self._stopping:  # another run ended it
                waiting.append(study)
        self.done = self.total - len(waiting)

    def _estimate(self, left: int) -> None:
        taken = time.monotonic() - self._begun
        self.seconds_left = taken / self._computed * left if self._computed else None

    def _segment(self, study: Study, work: Work) -> Chain[None]:
        """Segment one study; whatever happens to it does not end the others.

        Raises:
            Exception: What would fail all others as well, see `ends_all`.
        """
        if not in_scene(study.node):
            study.state, study.reason = StudyState.LEFT_OUT, _("it was removed from the scene")
            return
        study.state, self.current = StudyState.RUNNING, study
        try:
            run = study.run = self._start(self._request_of(study), partial(self._judge, study, work))
        except Exception as error:
            study.state, study.reason = StudyState.FAILED, sentence_of(error)
            self.current = None
            return
        run.observe(lambda _run: self._tell())
        while not run.ended:
            yield None
        self.current = None
        self._take(study, run)

    def _request_of(self, study: Study) -> Request:
        """Return the request of a study: its own earlier result is written again, and nothing else."""
        base, scene = self.request.base, study.node.GetScene()
        found = results_of(scene, study.node) if scene is not None else []
        own = found[-1] if found else None
        output = replace(base.output, segmentation=own, reuse=True, history=open_history(own))
        return replace(base, target=study.node, output=output)

    def _judge(self, study: Study, work: Work, content: str) -> tuple[str, Reason | None]:
        """Return the key of a study, and why it is not segmented."""
        key = work.key_of(content)
        if content in work.supports:
            return key, (
                StudyState.LEFT_OUT,
                _("it is the support “{name}”, which is not segmented").format(name=work.supports[content]),
            )
        twin = self._contents.setdefault(content, study)
        if twin is not study and twin.state not in (StudyState.FAILED, StudyState.WAITING):
            return key, (StudyState.LEFT_OUT, _("it is the same image as “{name}”").format(name=twin.name))
        scene = study.node.GetScene()
        if scene is not None and any(work_of(node, study.node) == key for node in results_of(scene, study.node)):
            return key, (StudyState.BEFORE, _("was done before with the same inputs"))
        return key, None

    def _take(self, study: Study, run: StudyRun) -> None:
        """Store how the run of a study has ended.

        Raises:
            Exception: What would fail all others as well.
        """
        study.reason = ""
        if run.left_out is not None:
            study.state, study.reason = run.left_out
        elif run.state is RunState.FAILED:
            study.state, study.reason = StudyState.FAILED, run.error
            if run.fault is not None and ends_all(run.fault):
                study.state, study.reason = StudyState.WAITING, ""
                raise run.fault
        elif run.state is RunState.CANCELLED:
            study.state = StudyState.WAITING
            if not run.destination.valid and not self._stopping:
                study.state, study.reason = StudyState.LEFT_OUT, _("it, or its result, was removed from the scene")
        else:
            self._computed += 1
            found = [bool(row["Voxels"]) for row in run.rows]
            study.state = StudyState.DONE if all(found) else StudyState.INCOMPLETE
            if not any(found):
                study.state = StudyState.EMPTY

    def _tidy(self) -> None:
        if self.current is not None:
            if self.current.run is not None and not self.current.run.ended:
                self.current.run.cancel()
            self.current.state, self.current = StudyState.WAITING, None
