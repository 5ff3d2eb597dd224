"""Slicer-side logic: runs jobs on the worker thread and writes the results into segments. Fully scriptable.

Everything here runs on the main thread, the only one that accesses the scene; the worker thread receives and returns
arrays. During a run, the pump handles the worker's events for a few milliseconds at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import slicer

from ProxyPromptSegmentLib.cohort.rows import Row
from ProxyPromptSegmentLib.package_loading import threads_sleep
from ProxyPromptSegmentLib.worker.events import Failed, Finished
from ProxyPromptSegmentLib.worker.thread import Worker
from ProxyPromptSegmentModule.runs.beside import Answer, Beside
from ProxyPromptSegmentModule.runs.chain import Task
from ProxyPromptSegmentModule.runs.chained import Submit
from ProxyPromptSegmentModule.runs.correction_task import CorrectionTask
from ProxyPromptSegmentModule.runs.estimates import EstimateAnswer, Estimates
from ProxyPromptSegmentModule.runs.everything_run import EverythingRun
from ProxyPromptSegmentModule.runs.folder_request import FolderRequest, Listing, StudyFolder
from ProxyPromptSegmentModule.runs.folder_studies import FolderStudies
from ProxyPromptSegmentModule.runs.folder_tasks import ListTask
from ProxyPromptSegmentModule.runs.for_scripts import ForScripts
from ProxyPromptSegmentModule.runs.hand_run import HandRun, Said
from ProxyPromptSegmentModule.runs.lesson import Lesson, LessonRequest, Teacher
from ProxyPromptSegmentModule.runs.live_run import LiveRun
from ProxyPromptSegmentModule.runs.pump import Pump, rest_timer
from ProxyPromptSegmentModule.runs.questions import CheckAnswer, Questions, SuggestAnswer, WhyAnswer
from ProxyPromptSegmentModule.runs.request import Request, Settings, check_request
from ProxyPromptSegmentModule.runs.run import Run, VolumeRun
from ProxyPromptSegmentModule.runs.sequence_run import SequenceRun
from ProxyPromptSegmentModule.runs.stored import store, store_unfinished, take_back
from ProxyPromptSegmentModule.runs.studies import Studies, StudiesRequest
from ProxyPromptSegmentModule.runs.study_desk import StudyDesk
from ProxyPromptSegmentModule.runs.study_reading import ReadStudyTask
from ProxyPromptSegmentModule.runs.study_run import Judge, StudyRun
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.scene.pieces import WaitingWork
from ProxyPromptSegmentModule.scene.read_study import ReadStudy
from ProxyPromptSegmentModule.scene.result_watch import ResultWatch
from ProxyPromptSegmentModule.scene.scene_watch import SceneWatch
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.worker.estimate import Estimate
    from ProxyPromptSegmentLib.worker.thread import Ticket
    from ProxyPromptSegmentModule.scene.pieces import DrawnPieces

    Support = SupportCase | tuple[slicer.vtkMRMLVolumeNode, slicer.vtkMRMLSegmentationNode]

R = TypeVar("R", bound=Run)

_MOST_UNDO = 8
"""Number of segmentations whose last run can be undone: a writer stores every slice that it has replaced."""

TICK_SECONDS = 0.020
"""Time per tick for writing slices; even if the last slice exceeds it, a tick takes less than 50 ms."""


class SegmentationLogic(ForScripts):
    """Logic that runs jobs on the worker thread and writes their results into the scene.

    Attributes:
        worker: The GPU worker thread.
        pump: The timer that handles events and gives the worker thread time to run.
        questions: Questions that are not runs: why, check, suggest.
        estimates: Estimates of time and memory.
        files: Folders and studies that are read beside the main thread.
        saves: Corrections that are written beside it, without waiting for what is read.
        teacher: The lessons, in which a model learns a structure.
        desk: The studies that are segmented together.
        results: The tables of results, which follow what is in the segments.
    """

    def __init__(self) -> None:
        """Prepare worker and pump; the thread starts with the first job."""
        threads_sleep()  # here, because only the main thread may change the environment
        self.worker = Worker()
        self.pump = Pump(self._work)
        self.questions = Questions(self._submit)
        self.estimates = Estimates()
        self.files = Beside("ProxyPromptFiles")
        self.saves = Beside("ProxyPromptSaves")
        self.teacher = Teacher(lambda task, label: self._submit(task, label))
        self.desk = StudyDesk(self._submit, self._start_study, lambda: all(run.ended for run in self._runs))
        self._runs: list[Run] = []
        self._by_ticket: dict[int, Run] = {}
        self._pieces = WaitingWork()
        self._learned: Run | None = None
        self.results = ResultWatch(slicer.mrmlScene, self._is_written, rest_timer, lambda: self._pieces.waits)
        self._scene = SceneWatch(slicer.mrmlScene, self._on_scene_closes, self._on_scene_saves)

    # --- runs ---------------------------------------------------------------------------------------------------

    @property
    def run(self) -> Run | None:
        """The latest run."""
        return self._runs[-1] if self._runs else None

    def start(self, request: Request) -> Run:
        """Start a run; the pump writes its slices as they arrive. A run in progress is cancelled first.

        Raises:
            UsageError: If something is missing; the sentence says what.
        """
        kind: Callable[[Request, Submit], Run] = SequenceRun
        if request.browser is None:
            kind = partial(VolumeRun, states=self.results.states)
        run = self._begin(kind, request)
        run.observe(self._when_ended)
        return run

    def hand(self, request: Request, said: Said) -> HandRun:
        """Start to answer marks by hand, as corrections if the request has supports or classes; `look` after changes.

        Args:
            request: The description of the run.
            said: Returns what the marks say now.

        Raises:
            UsageError: If the target is missing.
        """
        run = self._begin(partial(HandRun, said=said), request, alone=True)
        run.observe(self._when_ended)
        return run

    def look(self, run: HandRun) -> None:
        """Answer marks that were made, moved or removed."""
        run.look()
        self.pump.start()

    def everything(self, request: Request, choice: EverythingChoice | None = None) -> EverythingRun:
        """Start to look for everything that the slices of a request show."""
        return self._begin(partial(EverythingRun, choice=choice), request, alone=True)

    def live(self, request: Request) -> LiveRun:
        """Start a live preview of the slice on screen; `show` requests another slice, and the latest request wins."""
        return self._begin(LiveRun, request)

    def show(self, run: LiveRun, index: int) -> None:
        """Segment another slice in a live preview."""
        run.show(index)
        self.pump.start()

    def segment_all(self, request: StudiesRequest) -> Studies:
        """Start to segment many studies of the scene alike; a run in progress is cancelled first.

        Raises:
            UsageError: If something is missing; the sentence says what.
        """
        self.cancel()
        studies = self.desk.begin(request)
        self.pump.start()
        return studies

    def segment_folder(self, request: FolderRequest) -> FolderStudies:
        """Start to segment the studies of a folder into a folder of results; a run in progress is cancelled first."""
        self.cancel()
        studies = self.desk.begin_folder(request)
        self.pump.start()
        return studies

    def list_studies(self, folder: StudyFolder, on_answer: Answer[Listing]) -> None:
        """List the studies of a folder beside the main thread; calls ``on_answer(listing, error)``."""
        self.files.put(ListTask(folder=folder), _("Studies"), "list", on_answer)
        self.pump.start()

    def read_study(self, task: ReadStudyTask, on_answer: Answer[ReadStudy]) -> None:
        """Read a study with its result beside the main thread; calls ``on_answer(study, error)``."""
        self.files.put(task, _("Study"), "read", on_answer)
        self.pump.start()

    def save_correction(self, task: CorrectionTask, on_answer: Answer[Row]) -> None:
        """Write a corrected study of a folder beside the main thread; calls ``on_answer(row, error)``."""
        self.saves.put(task, _("Corrections"), f"correct {task.row.study.path}", on_answer)
        self.pump.start()

    def _start_study(self, request: Request, judge: Judge) -> StudyRun:
        run = self._begin(partial(StudyRun, states=self.results.states, judge=judge), request)
        run.observe(self._when_ended)
        run.observe(self._forget_left_out)
        return run

    def _forget_left_out(self, run: StudyRun) -> None:
        """Forget a run that has written nothing, so that the run before it on this result can still be undone."""
        if run.ended and run.left_out is not None and run in self._runs:
            self._runs.remove(run)

    def _begin(self, kind: Callable[[Request, Submit], R], request: Request, alone: bool = False) -> R:
        check_request(request, alone)
        for other in self._runs:
            if not other.ended:
                other.cancel()
        self._forget_old_runs()
        run: R = kind(request, lambda task, label: self._submit_for(run, task, label))
        self._runs.append(run)
        self.pump.start()
        return run

    def _forget_old_runs(self) -> None:
        """Keep the last run of each segmentation, whose undo needs little memory, and the arrays of the last run."""
        ended = [run for run in self._runs if run.ended]
        latest = {id(run.segmentation): run for run in ended if run.destination.valid}
        kept = list(latest.values())[-_MOST_UNDO:]
        for run in ended:
            if run not in kept:
                run.destination.close()
                self._runs.remove(run)
            elif run is not ended[-1]:
                run.release()

    def cancel(self) -> None:
        """Cancel the run in progress, between two slices."""
        for run in self._runs:
            if not run.ended:
                run.cancel()

    # --- questions ----------------------------------------------------------------------------------------------

    def warm_up(self, settings: Settings | None = None) -> None:
        """Load torch and the model in the background, so that the first Apply does not have to wait."""
        self.questions.warm_up(settings or Settings())

    def prepare_ahead(self, request: Request) -> None:
        """Prepare supports in the background, so that the first Apply finds them on disk; every other task ends it."""
        self.questions.prepare_ahead(request)

    def why(self, run: Run, ras: Sequence[float], name: str, on_answer: WhyAnswer) -> None:
        """Ask which support patches drove the prediction of object ``name`` at a world position.

        ``on_answer(why, sentence)``: an `attribution.Why`, or None with the reason.
        """
        self.questions.why(run, ras, name, on_answer)
        self.pump.start()

    def check(
        self,
        cases: Sequence[SupportCase],
        on_answer: CheckAnswer,
        leave_one_out: bool = False,
        settings: Settings | None = None,
    ) -> None:
        """Check supports; calls ``on_answer(findings, error)`` with a list of `Finding`."""
        self.questions.check(cases, settings or Settings(), leave_one_out, on_answer)
        self.pump.start()

    def suggest(
        self,
        target: slicer.vtkMRMLVolumeNode,
        library: SupportLibrary,
        on_answer: SuggestAnswer,
        settings: Settings | None = None,
    ) -> None:
        """Rank a library by likeness; calls ``on_answer(suggestions, sentence)``, where the sentence is a warning."""
        self.questions.suggest(target, library, settings or Settings(), on_answer)
        self.pump.start()

    def estimate(self, request: Request) -> Estimate:
        """Estimate time and memory of a run in advance and wait for it; does not import torch."""
        return self.estimates.task(request)()

    def estimate_later(self, request: Request, on_answer: EstimateAnswer) -> None:
        """Estimate beside the main thread; calls ``on_answer(estimate, error)`` unless a newer question is asked."""
        self.estimates.ask(request, on_answer)
        self.pump.start()

    def teach(self, request: LessonRequest) -> Lesson:
        """Let a model learn a structure from annotated cases; scripts call `pump.turn` until the lesson has ended."""
        lesson = self.teacher.start(request)
        self.pump.start()
        return lesson

    def in_pieces(self, work: DrawnPieces[None], promised: bool = False) -> None:
        """Do work on the main thread a few milliseconds at a time.

        When the scene or the module is closed, so is the work; promised work is done to its end before.
        """
        self._pieces.add(work, promised)
        self.pump.start()

    def _is_written(self, segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
        """Return whether a run is writing into a segmentation."""
        return any(not run.ended and run.segmentation is segmentation for run in self._runs)

    # --- the pump -----------------------------------------------------------------------------------------------

    def _submit(self, task: Task[object], label: str, replaces: str | None = None, *, yields: bool = False) -> Ticket:
        ticket = self.worker.submit(task, label, replaces, yields)
        self.pump.start()
        return ticket

    def _submit_for(self, run: Run, task: Task[object], label: str) -> Ticket:
        ticket = self._submit(task, label)
        self._by_ticket[ticket.number] = run
        return ticket

    def _work(self) -> bool:
        """Handle events, write slices and advance the runs; return whether more work is expected."""
        deadline = time.perf_counter() + TICK_SECONDS
        for event in self.worker.drain():
            run = self._by_ticket.get(event.ticket)
            if run is not None:
                run.receive(event)
                if isinstance(event, (Finished, Failed)):
                    del self._by_ticket[event.ticket]
            elif not (self.teacher.receive(event) or self.desk.receive(event)):
                self.questions.receive(event)
        for run in list(self._runs):
            run.flush(deadline)
            run.advance()
        self.teacher.advance()
        self.desk.advance()
        self.estimates.receive()
        self.files.receive()
        self.saves.receive()
        left = self._pieces.do_some(deadline)
        self.results.tick()
        working = left or self.worker.busy or self.teacher.busy or self.desk.busy or self.estimates.busy
        working = working or self.files.busy or self.saves.busy
        return working or not all(run.idle and not run.pending for run in self._runs)

    def _when_ended(self, run: Run) -> None:
        """Store what a finished run has found out in the scene; restore what was there before if it was undone."""
        node = run.segmentation
        if not run.ended or not run.destination.valid or slicer.mrmlScene.IsClosing():
            return
        if run.table is None:
            if run.request.browser is None and run.written and node is not None:
                store_unfinished(run, node)
                self.results.update(node)
            return
        assert node is not None  # it has a table
        if run.request.browser is not None:
            if run.undone:
                result_nodes.remove(node)
            else:
                result_nodes.write(node, run.table, run.record_text)
        elif run.undone:
            take_back(run, node)
        else:
            store(run, node, self.results.states)
        self.results.update(node)
        if not run.undone and self._learned is not run:  # not again after a redo
            self._learned = run
            self.estimates.learn(run)

    # --- the scene ----------------------------------------------------------------------------------------------

    def _on_scene_closes(self) -> None:
        """Stop writing before the nodes are removed."""
        self.abandon(_("The scene was closed, so this was stopped."))
        self.results.forget()  # also what was read to finish a save

    def _on_scene_saves(self) -> None:
        """Sign what runs have written so far, so that it is known as theirs when it is loaded."""
        for run in self._runs:
            if not run.ended and run.destination.valid:
                run.destination.sign()
                if run.segmentation is not None:  # an acceptance of what was there before would be saved
                    self.results.update(run.segmentation)
        self.results.refresh()

    def abandon(self, sentence: str) -> None:
        """End all runs immediately; later events of the worker about them are ignored."""
        self._pieces.close()
        self.desk.abandon(sentence)
        for run in self._runs:
            run.abandon(sentence)
            run.destination.close()
        self._runs.clear()
        self._by_ticket.clear()
        self.teacher.abandon(sentence)
        self.worker.cancel_all()
        self.questions.forget(sentence)
        self.estimates.forget()
        self.files.forget()

    def shutdown(self, timeout: float = 10.0) -> bool:
        """Cancel all runs, end the worker thread, stop observing the scene; return whether the thread has ended."""
        self.abandon(_("The module was closed, so this was stopped."))
        self.pump.close()
        self.results.close()
        self._scene.close()
        self.saves.finish(timeout)
        beside = [one.stop(timeout) for one in (self.estimates, self.files, self.saves)]
        return self.worker.stop(timeout) and all(beside)
