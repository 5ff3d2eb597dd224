"""One process of the subcommand ``cohort``: it claims a study, segments it as ``segment`` does, and records the end."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.cohort.claims import Claim, DiedTooOften, Worker
from ProxyPromptSegmentLib.cohort.contents import Inputs, stamp_of
from ProxyPromptSegmentLib.cohort.endings import ends_all
from ProxyPromptSegmentLib.cohort.folder import CLAIMS, INPUTS, CohortFolder, Files
from ProxyPromptSegmentLib.cohort.rows import facts_of
from ProxyPromptSegmentLib.cohort.summary import unreadable_key
from ProxyPromptSegmentLib.commands.cohort_supports import read_cases
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_run import Kept, perform
from ProxyPromptSegmentLib.errors import (
    EXIT_INTERNAL,
    DeviceError,
    InputError,
    as_user_error,
)
from ProxyPromptSegmentLib.progress import CancelToken

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.cohort.studies import Study
    from ProxyPromptSegmentLib.support.case import SupportCase


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


@dataclass(frozen=True)
class Order:
    """What a process needs to know to segment studies of a cohort.

    Attributes:
        request: A request with supports, model and settings, whose target and outputs are replaced.
        folder: The cohort's folder, which was begun.
        supports: Hashes of the contents of the supports' images, which are not segmented.
        library: Whether the supports are cases of the support library.
        retry: Failures to try again: when each was written, by key.
    """

    request: Request
    folder: CohortFolder
    supports: frozenset[str] = frozenset()
    library: bool = False
    retry: Mapping[str, str] | None = None


class StudyWorker:
    """Segments one study after another with the same model and supports, which are loaded and prepared once.

    A context: it is alive for other processes inside.

    Attributes:
        claims: Its claims.
    """

    def __init__(self, order: Order, token: str = "", cases: list[SupportCase] | None = None) -> None:
        """Prepare for an order.

        Args:
            order: The order.
            token: Name among the processes; by default a new one.
            cases: The supports, if they were read already.
        """
        self._order, self._folder = order, order.folder
        self._inputs = Inputs(self._folder.folder(INPUTS))
        self.claims = Worker(self._folder.folder(CLAIMS), token)
        self._kept = Kept(cases=cases)
        self._console = _Silent()

    def __enter__(self) -> StudyWorker:
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
        if content in self._order.supports:
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
        if failure is None or (self._order.retry or {}).get(key) == str(failure.get("created")):
            return None
        return Outcome(Kind.FAILED_BEFORE, str(failure.get("reason", "")), key)

    def _segment(self, study: Study, content: str, claim: Claim, cancel: CancelToken) -> Outcome:
        """Segment a claimed study and record how it ended."""
        key, files = claim.key, self._folder.files_of(study, claim.key)
        stamp = stamp_of(study.path)
        try:
            report = perform(self._request(study, files), self._console, cancel, self._kept, whole=True)
            if report is None:
                return Outcome(Kind.STOPPED, key=key)
        except Exception as error:  # noqa: BLE001  # one study's failure, whatever it is, must not end the others
            _discard(files)
            return self._failed(study, key, error)
        if not self.claims.holds(claim):
            return Outcome(Kind.HELD, key=key)
        if _changed(study, stamp):
            _discard(files)
            return Outcome(Kind.CHANGED, key=key)
        first = self._folder.publish(key, study, files, {"input_sha256": content, **facts_of(report)})
        return Outcome(Kind.EMPTY if report["nothing_found"] else Kind.DONE, key=key, twice=not first)

    def _request(self, study: Study, files: Files) -> Request:
        """Return the request for a study; what a killed process left of its results is replaced."""
        if self._kept.cases is None:
            self._kept.cases = read_cases(self._order.request, self._order.library)
        return replace(
            self._order.request,
            target=study.path,
            output=files.result,
            report=files.report,
            thumbnail=files.thumbnail,
            force=True,
        )

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
            reason, code = worded(known), known.exit_code
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


class _Silent(Console):
    """A console that shows nothing: what a segmentation says is in the study's report."""

    def __init__(self) -> None:
        nowhere: Any = io.StringIO()
        super().__init__(quiet=True, progress=False, out=nowhere, err=nowhere)

    def _to_err(self, line: str) -> None:
        """Drop a line."""
