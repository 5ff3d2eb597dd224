"""The studies of a folder, segmented one by one on the worker thread into a folder of results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.cohort.rows import Row, State
from ProxyPromptSegmentLib.worker import events
from ProxyPromptSegmentModule.runs.chain import Chain, outcome_of
from ProxyPromptSegmentModule.runs.chained import Submit
from ProxyPromptSegmentModule.runs.folder_request import FolderProgress, FolderRequest
from ProxyPromptSegmentModule.runs.folder_tasks import SegmentFolderTask
from ProxyPromptSegmentModule.runs.study_list import HowFar, StudyList
from ProxyPromptSegmentModule.states import RunState, StudyState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.cohort.studies import Study

STATES = {
    State.FAILED: StudyState.FAILED,
    State.EMPTY: StudyState.EMPTY,
    State.INCOMPLETE: StudyState.INCOMPLETE,
    State.DONE: StudyState.DONE,
    State.CORRECTED: StudyState.DONE,
    State.SUPPORT: StudyState.LEFT_OUT,
}
"""What became of a study that was looked at."""


class FolderStudies(StudyList):
    """The state of a folder's studies; used from the main thread only.

    Attributes:
        request: What is to be done.
        rows: What is known of each study, by its path.
        current: The study that is being looked at; None before the first and at the end.
    """

    def __init__(self, request: FolderRequest, submit: Submit) -> None:
        """Prepare the studies; `advance` begins the first.

        Args:
            request: What is to be done.
            submit: Submits a task to the worker thread.
        """
        super().__init__(submit)
        self.request = request
        self.rows: dict[Path, Row] = {}
        self.current: Study | None = None
        self._reasons: dict[Path, str] = {}
        self._before: set[Path] = set()
        self._looked_at: set[Path] = set()
        self._begun: float | None = None

    def states(self) -> list[StudyState]:
        """See `StudyList.states`; studies that the user has not ticked do not count."""
        return [self.state_of(row) for path, row in self.rows.items() if path not in self.request.left_out]

    def state_of(self, row: Row) -> StudyState:
        """Return what became of a study."""
        path = row.study.path
        if self.current is not None and path == self.current.path and not self.ended:
            return StudyState.RUNNING
        if path in self._before:
            return StudyState.BEFORE
        if path not in self._looked_at and row.state is State.FAILED and not self.ended:
            return StudyState.WAITING  # it is tried again
        return STATES.get(row.state, StudyState.WAITING)

    def shown_state_of(self, row: Row) -> StudyState:
        """Return what became of a study in the words of the list, which shows also of an earlier one what was found."""
        state = self.state_of(row)
        return STATES.get(row.state, state) if state is StudyState.BEFORE else state

    def reason_of(self, row: Row) -> str:
        """Return why a study failed, or was not segmented."""
        if row.state is State.SUPPORT:
            return _("it is a support, which is not segmented")
        return self._reasons.get(row.study.path, "") or row.reason

    def how_far(self) -> HowFar | None:
        """See `StudyList.how_far`."""
        if self.current is None:
            return None
        wanted = [path for path in self.rows if path not in self.request.left_out]
        number = len(self._looked_at | self._before) + 1
        return HowFar(
            number=min(number, len(wanted)),
            total=len(wanted),
            name=self.current.name,
            done=self.done,
            slices=self.total,
        )

    def receive(self, event: events.Event) -> None:
        """Handle an event of the worker thread."""
        if not self.ended and isinstance(event, events.Advanced) and isinstance(event.how, FolderProgress):
            self._take(event.how)
        super().receive(event)
        if not self.ended:
            self.seconds_left = self._left()  # of all studies, not of the stage that the event is about

    def _left(self) -> float | None:
        """Return the estimated time for the studies that are open; None before the first has ended."""
        if self._begun is None or not self._looked_at:
            return None
        return (time.monotonic() - self._begun) / len(self._looked_at) * self.open

    def _take(self, how: FolderProgress) -> None:
        if how.rows is not None:
            self.rows = {row.study.path: row for row in how.rows}
            self._before = {path for path, row in self.rows.items() if row.state.is_done}
        if how.begins is not None:
            self.current, self.done, self.total = how.begins, 0, 0
            self._begun = self._begun or time.monotonic()
        if how.row is not None:
            path = how.row.study.path
            self.rows[path], self._reasons[path] = how.row, how.reason
            self._looked_at.add(path)

    def _steps(self) -> Chain[None]:
        self.state, self.what = RunState.RUNNING, _("Reading the supports")
        rows: tuple[Row, ...] = yield from outcome_of(SegmentFolderTask(request=self.request))
        self.rows.update({row.study.path: row for row in rows})
        place = self.request.folder.output
        self.sentences.append(_("Results, table and page are in {folder}.").format(folder=place))

    def _tidy(self) -> None:
        self.current = None
