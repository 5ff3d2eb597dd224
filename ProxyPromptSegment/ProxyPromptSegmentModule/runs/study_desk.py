"""The studies of a session that are segmented together; one list at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentModule.runs.folder_studies import FolderStudies
from ProxyPromptSegmentModule.runs.request import check_request
from ProxyPromptSegmentModule.runs.studies import Start, Studies, StudiesRequest
from ProxyPromptSegmentModule.runs.study_list import StudyList
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.thread import Ticket
    from ProxyPromptSegmentModule.runs.chain import Task
    from ProxyPromptSegmentModule.runs.chained import Submit
    from ProxyPromptSegmentModule.runs.folder_request import FolderRequest

L = TypeVar("L", bound=StudyList)


class StudyDesk:
    """What the logic needs for many studies.

    Attributes:
        studies: The latest studies; None before, and after a scene was closed.
    """

    def __init__(
        self, submit: Callable[[Task[object], str], Ticket], start: Start, is_free: Callable[[], bool]
    ) -> None:
        """Have no studies.

        Args:
            submit: Submits a task to the worker thread.
            start: Starts the run of one study of the scene.
            is_free: Whether no run is in progress.
        """
        self._submit, self._start, self._is_free = submit, start, is_free
        self._tickets: dict[int, StudyList] = {}
        self.studies: StudyList | None = None

    def begin(self, request: StudiesRequest) -> Studies:
        """Begin with studies of the scene; earlier studies in progress are stopped.

        Raises:
            UsageError: If something is missing; the sentence says what.
        """
        if not request.targets:
            raise UsageError(_("There is no study to segment; load images, and tick them in the list of cases."))
        check_request(replace(request.base, target=request.targets[0]))
        return self._begun(lambda submit: Studies(request, submit, self._start, self._is_free))

    def begin_folder(self, request: FolderRequest) -> FolderStudies:
        """Begin with studies of a folder; earlier studies in progress are stopped."""
        return self._begun(lambda submit: FolderStudies(request, submit))

    def _begun(self, make: Callable[[Submit], L]) -> L:
        if self.studies is not None:
            self.studies.abandon(_("Other studies were begun."))
        studies: L

        def submit(task: Task[object], label: str) -> Ticket:
            ticket = self._submit(task, label)
            self._tickets[ticket.number] = studies
            return ticket

        studies = make(submit)
        self.studies = studies
        return studies

    @property
    def busy(self) -> bool:
        """Whether studies are being segmented."""
        return self.studies is not None and not self.studies.ended

    def advance(self) -> None:
        """Continue with the studies."""
        if self.studies is not None:
            self.studies.advance()

    def receive(self, event: events.Event) -> bool:
        """Pass an event to its studies; return whether there are some."""
        studies = self._tickets.get(event.ticket)
        if studies is None:
            return False
        if isinstance(event, (events.Finished, events.Failed)):
            del self._tickets[event.ticket]
        studies.receive(event)
        return True

    def abandon(self, sentence: str) -> None:
        """End immediately, for example because the scene is closed."""
        if self.studies is not None:
            self.studies.abandon(sentence)
        self.studies = None
        self._tickets.clear()
