"""A lesson: annotated cases are read and checked, and a model learns a structure from them on the worker thread."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.support.case_files import Unusable
from ProxyPromptSegmentLib.training.adapting.places import is_begun
from ProxyPromptSegmentLib.training.adapting.result import AdaptProgress
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.task import AdaptTask
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.runs.chain import Chain, Task, outcome_of
from ProxyPromptSegmentModule.runs.chained import Chained, Submit
from ProxyPromptSegmentModule.runs.lesson_tasks import CheckLessonTask, ReadCase
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.masks import segmentation_of
from ProxyPromptSegmentModule.scene.pairing import doubts_about
from ProxyPromptSegmentModule.scene.volume_reader import VolumeReading
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.library.entry import LibraryEntry
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.training.adapting.cases import CheckedCases
    from ProxyPromptSegmentLib.training.adapting.result import AdaptResult
    from ProxyPromptSegmentLib.worker.thread import Ticket

Said = tuple[str, str]
"""Name of a case, "" for all of them, and what is said about it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LessonCase:
    """An annotated case of the scene or of the library.

    Attributes:
        title: Its name for messages, which stays on this machine.
        volume: Its image; None for a case of the library.
        segmentation: Its annotation; None likewise.
        segment_id: The segment.
        entry: The case of the library; None for one of the scene.
        patient: See `ReadCase`; for a case of the library its token.
    """

    title: str
    volume: slicer.vtkMRMLVolumeNode | None = None
    segmentation: slicer.vtkMRMLSegmentationNode | None = None
    segment_id: str = ""
    entry: LibraryEntry | None = None
    patient: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class LessonRequest:
    """What is to be learned, and from what.

    Attributes:
        cases: The cases.
        structure: Name of the structure.
        name: Name of the new model; "" to check the cases alone.
        settings: The settings of the adaptation.
        device: See `devices.choose_device`.
        library: The support library; None if no case is from it.
        keep_anyway: Whether the model is kept even if it is not better.
        restart: Whether what an earlier lesson of this name left is removed first.
        known: What was said to the user about cases, who agreed to it.
    """

    cases: tuple[LessonCase, ...]
    structure: str
    name: str = ""
    settings: AdaptSettings = field(default_factory=AdaptSettings)
    device: str = "auto"
    library: SupportLibrary | None = None
    keep_anyway: bool = False
    restart: bool = False
    known: frozenset[Said] = frozenset()


class Lesson(Chained):
    """The state and result of a lesson; used from the main thread only.

    Attributes:
        request: The description of the lesson.
        progress: The latest progress of the adaptation; None before it begins.
        losses: Loss after each step of each training, by its stage.
        said: What was found out about cases: those that are left out, and doubts about others.
        asks: Whether it ended before the training because some of that was not reported to the user yet.
        abandoned: Whether it was ended by something else than the user's cancel, such as a scene that was closed.
        usable: Names of the cases that are learned from; empty before the check.
        patients: Number of their patients.
        result: The outcome; None before the end, and where nothing was trained.
    """

    def __init__(self, request: LessonRequest, submit: Submit) -> None:
        """Prepare the lesson; `advance` begins it."""
        super().__init__(submit)
        self.request = request
        self.progress: AdaptProgress | None = None
        self.losses: dict[str, list[float]] = {}
        self.said: list[Said] = []
        self.asks = self.abandoned = False
        self.usable: tuple[str, ...] = ()
        self.patients = 0
        self.result: AdaptResult | None = None

    @property
    def folds(self) -> int:
        """Number of trainings that leave cases out."""
        return min(self.request.settings.folds, self.patients) if self.patients > 1 else 0

    @property
    def stored(self) -> bool:
        """Whether something of it is stored, where the same request continues; nothing is before it was planned."""
        return bool(self.request.name) and is_begun(self.request.name)

    def abandon(self, sentence: str) -> None:
        """End immediately for this thread; the worker stops after its step and stores its state."""
        if not self.ended:
            self.cancel()
            self.sentences.append(sentence)
            self.abandoned = True
            self._end(RunState.CANCELLED)

    def receive(self, event: events.Event) -> None:
        """Handle an event of the worker thread."""
        if not self.ended and isinstance(event, events.Advanced) and isinstance(event.how, AdaptProgress):
            self._take(event.how)
        super().receive(event)

    def _take(self, how: AdaptProgress) -> None:
        self.progress, self.what, self.done, self.total = how, how.stage, how.done, how.total
        if how.loss is not None:
            self.losses.setdefault(how.stage, []).append(how.loss)

    # --- the steps ------------------------------------------------------------------------------------------------

    def _steps(self) -> Chain[None]:
        request = self.request
        self.state, self.what, self.total = RunState.READING, _("Reading the cases"), len(request.cases)
        read: list[ReadCase] = []
        unusable: list[Unusable] = []
        for number, case in enumerate(request.cases):
            self.done = number
            if case.entry is None:
                yield None
                try:
                    read.append((yield from self._read(case)))
                except ProxyPromptError as error:
                    unusable.append(Unusable(case.title, worded(error)))
        self.state = RunState.RUNNING
        check = CheckLessonTask(
            cases=read,
            entries=[(case.title, case.entry) for case in request.cases if case.entry is not None],
            library=request.library,
            structure=request.structure,
            unusable=unusable,
            name=request.name,
            model=request.settings.model,
        )
        checked: CheckedCases | None = yield from outcome_of(check)
        del check, read
        if checked is None:
            return
        self.said += [(one.name, one.reason) for one in checked.unusable]
        self.usable, self.patients = tuple(case.name for case in checked.cases), checked.patients
        if checked.patients < 2:
            told = _("All of it is of one patient, so that nothing can be tested: the model may be worse than before.")
            self.said.append(("", told))
        self.asks = bool(request.name) and not set(self.said) <= request.known
        if not request.name or self.asks or self._stopping:
            return
        task = AdaptTask(
            checked,
            request.name,
            settings=replace(request.settings, allow_single=True),  # the user was asked
            device=request.device,
            keep_anyway=request.keep_anyway,
            restart=request.restart,
        )
        self.what, self.done, self.total = _("Waiting"), 0, 0
        self.result = yield from outcome_of(task)

    def _read(self, case: LessonCase) -> Chain[ReadCase]:
        """Copy a case from the scene, in pieces.

        Raises:
            ProxyPromptError: If it cannot be read, or is removed meanwhile.
        """
        _check_there(case)
        assert case.volume is not None and case.segmentation is not None
        reading = VolumeReading(case.volume)
        while not reading.step():
            yield None
            _check_there(case)
        annotation, notes = segmentation_of(case.segmentation, case.volume, [case.segment_id])
        doubts = doubts_about(case.volume, case.segmentation) or list(notes)
        self.said += [(case.title, one) for one in (*reading.notes, *doubts)]
        return ReadCase(
            title=case.title,
            voxels=reading.voxels,
            geometry=reading.geometry,
            annotation=annotation,
            patient=case.patient,
        )

    def _was_cancelled(self) -> bool:
        return self._stopping and (self.result is None or self.result.cancelled)

    def _tidy(self) -> None:
        pass  # nothing was changed in the scene, and the worker stores its own state


def _check_there(case: LessonCase) -> None:
    """Reject a case whose nodes were removed.

    Raises:
        ProxyPromptError: If one was.
    """
    if not (nodes.in_scene(case.volume) and nodes.in_scene(case.segmentation)):
        raise ProxyPromptError(_("it was removed from the scene"))


class Teacher:
    """The lessons of a session; one at a time."""

    def __init__(self, submit: Submit) -> None:
        """Submit tasks through ``submit``."""
        self._submit = submit
        self._tickets: dict[int, Lesson] = {}
        self.lesson: Lesson | None = None

    def start(self, request: LessonRequest) -> Lesson:
        """Begin a lesson; an earlier one in progress is cancelled."""
        if self.lesson is not None and not self.lesson.ended:
            self.lesson.cancel()
        lesson: Lesson

        def submit(task: Task[object], label: str) -> Ticket:
            ticket = self._submit(task, label)
            self._tickets[ticket.number] = lesson
            return ticket

        lesson = self.lesson = Lesson(request, submit)
        return lesson

    @property
    def busy(self) -> bool:
        """Whether a lesson is in progress."""
        return self.lesson is not None and not self.lesson.ended

    def advance(self) -> None:
        """Continue with the lesson."""
        if self.lesson is not None:
            self.lesson.advance()

    def receive(self, event: events.Event) -> bool:
        """Pass an event to its lesson; return whether there is one."""
        lesson = self._tickets.get(event.ticket)
        if lesson is None:
            return False
        if isinstance(event, (events.Finished, events.Failed)):
            del self._tickets[event.ticket]
        lesson.receive(event)
        return True

    def abandon(self, sentence: str) -> None:
        """End the lesson immediately, for example because the scene is closed."""
        if self.lesson is not None:
            self.lesson.abandon(sentence)
        self.lesson = None
        self._tickets.clear()
