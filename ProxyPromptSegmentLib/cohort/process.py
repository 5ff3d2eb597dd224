"""One process that segments studies of a cohort: it claims a study, segments it, and records the end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from ProxyPromptSegmentLib.cohort.claims import Claim, DiedTooOften, Worker
from ProxyPromptSegmentLib.cohort.contents import Inputs, stamp_of
from ProxyPromptSegmentLib.cohort.endings import ends_all
from ProxyPromptSegmentLib.cohort.folder import CLAIMS, INPUTS, CohortFolder, Files
from ProxyPromptSegmentLib.cohort.rows import facts_of
from ProxyPromptSegmentLib.cohort.summary import unreadable_key
from ProxyPromptSegmentLib.errors import EXIT_INTERNAL, DeviceError, InputError, ProxyPromptError, as_user_error

if TYPE_CHECKING:
    from typing_extensions import Self

    from ProxyPromptSegmentLib.cohort.studies import Study
    from ProxyPromptSegmentLib.progress import CancelToken

POLL_SECONDS = 1.0


class Kind(Enum):
    """How a process left a study."""

    DONE = "done"
    EMPTY = "empty"
    FAILED = "failed"
    BEFORE = "done before"
    FAILED_BEFORE = "failed before"
    SUPPORT = "support"
    HELD = "held"
    CHANGED = "changed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Outcome:
    """How a process left a study.

    Attributes:
        kind: How.
        reason: Why it failed.
        key: Its key, if it was reached.
        twice: Whether another process had done it meanwhile, which claims prevent.
    """

    kind: Kind
    reason: str = ""
    key: str = ""
    twice: bool = False


class Process(ABC):
    """Segments one study after another; a face says how one is segmented, and in which words errors are reported.

    A context: it is alive for other processes inside.

    Attributes:
        claims: Its claims.
    """

    def __init__(
        self,
        folder: CohortFolder,
        supports: Collection[str] = (),
        retry: Mapping[str, str] | None = None,
        token: str = "",
    ) -> None:
        """Prepare for a cohort.

        Args:
            folder: The cohort's folder, which was begun.
            supports: Hashes of the contents of the supports' images, which are not segmented.
            retry: Failures to try again: when each was written, by key.
            token: Name among the processes; by default a new one.
        """
        self._folder, self._supports, self._retry = folder, supports, retry or {}
        self._inputs = Inputs(folder.folder(INPUTS))
        self.claims = Worker(folder.folder(CLAIMS), token)

    @abstractmethod
    def segment(self, study: Study, files: Files, cancel: CancelToken) -> Mapping[str, Any] | None:
        """Segment a study and write its files, in place of what a killed process left of them.

        Returns:
            The report; None if it was cancelled before the last slice.
        """

    @abstractmethod
    def words(self, error: ProxyPromptError) -> str:
        """Return an error in the words of the face."""

    def __enter__(self) -> Self:
        """Begin."""
        self.claims.__enter__()
        self._sweep()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._sweep()
        self.claims.__exit__()

    def _sweep(self) -> None:
        """Remove what killed processes were writing, if nobody else works here."""
        partials = self._folder.partials()  # seen before the others are counted: their writers are among them or dead
        if not self.claims.others():
            for path in partials:
                with suppress(OSError):
                    path.unlink()

    def do(self, study: Study, cancel: CancelToken) -> Outcome:
        """Segment a study unless it is done, failed before or is in other hands.

        Raises:
            ProxyPromptError: If something is wrong that would fail every other study as well, such as a full disk.
        """
        try:
            if study.problem:
                raise InputError(study.problem)
            content = self._inputs.of(study.path)
        except InputError as error:
            return self._unreadable(study, error)
        if content in self._supports:
            return Outcome(Kind.SUPPORT)
        key = self._folder.key_of(content)
        if ended := self._ended(key):
            return ended
        try:
            claim = self.claims.claim(key)
        except DiedTooOften:
            return self._died(study, key)
        if claim is None:
            return Outcome(Kind.HELD, key=key)
        over = False
        try:
            outcome = self._ended(key) or self._segment(study, content, claim, cancel)  # it may just have been done
            over = outcome.kind is not Kind.STOPPED
            return outcome
        finally:
            self.claims.release(claim, over)

    def _ended(self, key: str) -> Outcome | None:
        """Return how a study ended already; None if it is open."""
        if self._folder.record(key) is not None:
            return Outcome(Kind.BEFORE, key=key)
        failure = self._folder.failure(key)
        if failure is None or self._retry.get(key) == str(failure.get("created")):
            return None
        return Outcome(Kind.FAILED_BEFORE, str(failure.get("reason", "")), key)

    def _segment(self, study: Study, content: str, claim: Claim, cancel: CancelToken) -> Outcome:
        """Segment a claimed study and record how it ended."""
        key, files = claim.key, self._folder.files_of(study, claim.key)
        try:
            stamp = stamp_of(study.path)
        except InputError:  # it was there a moment ago
            return Outcome(Kind.CHANGED, key=key)
        if not self._inputs.agree(study.path, stamp, content):  # replaced since it was hashed, or meanwhile
            return Outcome(Kind.CHANGED, key=key)
        try:
            report = self.segment(study, files, cancel)
            if report is None:
                return Outcome(Kind.STOPPED, key=key)
        except Exception as error:  # noqa: BLE001  # one study's failure, whatever it is, must not end the others
            if not self.claims.holds(claim) and not ends_all(error):
                return Outcome(Kind.HELD, key=key)  # the files are those of whoever took it over
            if self.claims.holds(claim):
                _discard(files)
            return self._failed(study, key, error)
        if not self.claims.holds(claim):
            return Outcome(Kind.HELD, key=key)
        if _changed(study, stamp):
            _discard(files)
            return Outcome(Kind.CHANGED, key=key)
        first = self._folder.publish(key, study, files, {"input_sha256": content, **facts_of(report)})
        return Outcome(Kind.EMPTY if report["nothing_found"] else Kind.DONE, key=key, twice=not first)

    def _failed(self, study: Study, key: str, error: Exception) -> Outcome:
        """Record a failure.

        Raises:
            ProxyPromptError: If the others would fail as well.
        """
        known = as_user_error(error)
        if ends_all(error):
            assert known is not None
            raise known from error
        if known is None:
            reason, code = (
                f"internal error ({type(error).__name__}: {str(error)[:300]}); please report it.",
                EXIT_INTERNAL,
            )
        else:
            reason, code = self.words(known), known.exit_code
        self._folder.fail(key, study, reason, code)
        return Outcome(Kind.FAILED, reason, key)

    def _unreadable(self, study: Study, error: InputError) -> Outcome:
        """Record a study whose content cannot be read."""
        key = unreadable_key(self._folder, study)
        if ended := self._ended(key):
            return ended
        return self._failed(study, key, error)

    def _died(self, study: Study, key: str) -> Outcome:
        """Record a study at which too many processes died."""
        reason = (
            "every process that computed it was killed or crashed; most often memory runs out, or the time of a batch "
            "system ends."
        )
        self._folder.fail(key, study, reason, DeviceError.exit_code)
        self.claims.forget(key)
        return Outcome(Kind.FAILED, reason, key)


def _changed(study: Study, stamp: str) -> bool:
    """Return whether a study's files are no longer as they were."""
    try:
        return stamp_of(study.path) != stamp
    except InputError:
        return True


def _discard(files: Files) -> None:
    """Remove what was written of a study that is not done."""
    for path in (files.result, files.report, files.thumbnail):
        with suppress(OSError):
            path.unlink(missing_ok=True)


More = Callable[[], "list[Study]"]
"""Returns further studies that became this process's, when it has no others."""


class Reports(Protocol):
    """Is informed of what becomes of studies."""

    def add(self, studies: int) -> None:
        """Report on more studies."""

    def begins(self, study: Study) -> None:
        """Report that a study is being looked at, and segmented if it is open."""

    def ended(self, study: Study, outcome: Outcome) -> None:
        """Report how a study was left."""


def run_all(process: Process, studies: Sequence[Study], more: More, reports: Reports, cancel: CancelToken) -> int:
    """Segment studies in a process that is alive.

    Args:
        process: The process.
        studies: The studies, in their order.
        more: See `More`.
        reports: Informed of each study.
        cancel: Stops between two slices; the study that is not finished is computed again the next time.

    Returns:
        The number of studies that other processes are computing.

    Raises:
        ProxyPromptError: If something is wrong that fails every study, such as a full disk.
    """
    left = _from_own_place(list(studies), process)
    while left and not cancel.cancelled:
        held: list[tuple[Study, str]] = []
        for study in left:
            if cancel.cancelled:
                return len(held)
            reports.begins(study)
            outcome = process.do(study, cancel)
            if outcome.kind is Kind.HELD:
                held.append((study, outcome.key))
            else:
                reports.ended(study, outcome)
        left = more()
        reports.add(len(left))
        if not left:
            left = _freed(held, process, cancel)
            if not left:
                return len(held)
        else:
            left += [study for study, _ in held]
    return 0


def _from_own_place(studies: list[Study], process: Process) -> list[Study]:
    """Return the studies from another place on than other processes, so that they meet seldom; alone, as they are."""
    if len(studies) < 2 or not process.claims.others():
        return studies
    start = int(process.claims.token, 16) % len(studies)
    return studies[start:] + studies[:start]


def _freed(held: Sequence[tuple[Study, str]], process: Process, cancel: CancelToken) -> list[Study]:
    """Return the studies whose process has died; wait as long as it is not clear whether one has.

    What a process that is alive computes is left to it.
    """
    waiting = [study for study, key in held if process.claims.seems_dead(key)]
    if waiting and not cancel.cancelled:
        time.sleep(POLL_SECONDS)
    return waiting
