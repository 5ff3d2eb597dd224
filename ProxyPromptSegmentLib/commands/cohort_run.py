"""Runs a cohort in this process, and says what becomes of its studies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.cohort.studies import Study, shown
from ProxyPromptSegmentLib.commands.cohort_worker import Kind, Order, Outcome, StudyWorker
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.wording import duration

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.case import SupportCase

More = Callable[[], list[Study]]
"""Returns further studies that became this process's, when it has no others."""

_STAGE = "segmenting studies"
SUMMARY_SECONDS, LINE_SECONDS, POLL_SECONDS = 120.0, 30.0, 1.0


class Reporter:
    """Counts studies and shows how far they are: a bar on a terminal, otherwise a line from time to time.

    Attributes:
        counts: Studies by how they were left.
        twice: Studies that two processes did.
        failed: Names of the studies that failed.
        seconds: Time since the beginning.
    """

    def __init__(self, console: Console, total: int, write_summary: Callable[[], object]) -> None:
        """Begin to report on so many studies; ``write_summary`` is called from time to time."""
        self._console, self._total, self._write = console, total, write_summary
        self._bar = type(console.progress) is not Progress
        self._later: list[str] = []
        self._begun = self._written = self._said = time.monotonic()
        self.counts: Counter[Kind] = Counter()
        self.twice = 0
        self.failed: set[str] = set()
        if total:
            console.progress.start(total, _STAGE)

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    @property
    def computed(self) -> int:
        """Studies that this process computed."""
        return sum(self.counts[kind] for kind in (Kind.DONE, Kind.EMPTY, Kind.FAILED))

    @property
    def _ended(self) -> int:
        return sum(count for kind, count in self.counts.items() if kind is not Kind.STOPPED)

    def add(self, studies: int) -> None:
        """Report on more studies."""
        if studies:
            self._total += studies
            self._console.progress.start(self._total, _STAGE)
            self._console.progress.step(self._ended)

    def close(self) -> None:
        """Remove the bar and print what it would have been in the way of."""
        self._console.progress.close()
        for line in self._later:
            self._console.warn(line)
        self._later.clear()

    def _warn(self, line: str) -> None:
        """Print a warning: at once, or after the bar, which it would break."""
        if self._bar:
            self._later.append(line)
        else:
            self._console.warn(line)

    def ended(self, study: Study, outcome: Outcome) -> None:
        """Report how a study was left."""
        self.counts[outcome.kind] += 1
        self.twice += outcome.twice
        name = shown(study.name)
        if outcome.kind is Kind.FAILED:
            self.failed.add(study.name)
            self._warn(f"{name} failed: {shown(outcome.reason)}")
        elif outcome.kind is Kind.CHANGED:
            self._warn(f"{name} changed while it was being computed; it is still to be done.")
        elif outcome.kind is Kind.SUPPORT:
            self._warn(f"{name} has the content of a support; it is not segmented.")
        if outcome.kind is Kind.STOPPED:
            return
        self._console.progress.step(1, self._failed)
        now = time.monotonic()
        if now - self._written > SUMMARY_SECONDS:
            self._written = now
            self._write()
        if not self._bar and now - self._said > LINE_SECONDS and self._ended < self._total:
            self._said = now
            self._line()

    @property
    def _failed(self) -> str:
        return f", {self.counts[Kind.FAILED]} failed" if self.counts[Kind.FAILED] else ""

    def _line(self) -> None:
        """Print how far it is, where no bar is shown."""
        left = self.seconds / max(1, self._ended) * (self._total - self._ended)
        self._console.say(f"{self._ended} of {self._total} studies{self._failed}; about {duration(left)} left")


def run_here(
    order: Order,
    studies: Sequence[Study],
    more: More,
    reporter: Reporter,
    cancel: CancelToken,
    cases: list[SupportCase] | None = None,
) -> int:
    """Segment studies in this process.

    Args:
        order: The order.
        studies: The studies, in their order.
        more: See `More`.
        reporter: Informed of each study.
        cancel: Stops between two slices; the study that is not finished is computed again the next time.
        cases: The supports, if they were read already.

    Returns:
        The number of studies that other processes are computing.

    Raises:
        ProxyPromptError: If something is wrong that fails every study, such as a full disk.
    """
    with StudyWorker(order, cases=cases) as worker:
        left = _from_own_place(list(studies), worker)
        while left and not cancel.cancelled:
            held: list[tuple[Study, str]] = []
            for study in left:
                if cancel.cancelled:
                    return len(held)
                outcome = worker.do(study, cancel)
                if outcome.kind is Kind.HELD:
                    held.append((study, outcome.key))
                else:
                    reporter.ended(study, outcome)
            left = more()
            reporter.add(len(left))
            if not left:
                left = _freed(held, worker, cancel)
                if not left:
                    return len(held)
            else:
                left += [study for study, _ in held]
    return 0


def _from_own_place(studies: list[Study], worker: StudyWorker) -> list[Study]:
    """Return the studies from another place on than other processes, so that they meet seldom; alone, as they are."""
    if len(studies) < 2 or not worker.claims.others():
        return studies
    start = int(worker.claims.token, 16) % len(studies)
    return studies[start:] + studies[:start]


def _freed(held: Sequence[tuple[Study, str]], worker: StudyWorker, cancel: CancelToken) -> list[Study]:
    """Return the studies whose process has died; wait as long as it is not clear whether one has.

    What a process that is alive computes is left to it.
    """
    waiting = [study for study, key in held if worker.claims.seems_dead(key)]
    if waiting and not cancel.cancelled:
        time.sleep(POLL_SECONDS)
    return waiting
