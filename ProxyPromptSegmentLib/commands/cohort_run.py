"""Runs a cohort in this process, and says what becomes of its studies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.cohort.process import Kind, More, Outcome, run_all
from ProxyPromptSegmentLib.cohort.studies import Study, shown
from ProxyPromptSegmentLib.commands.cohort_worker import Order, StudyWorker
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.wording import duration

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.case import SupportCase

_STAGE = "segmenting studies"
SUMMARY_SECONDS, LINE_SECONDS = 120.0, 30.0


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

    def begins(self, study: Study) -> None:
        """Do nothing: the bar shows how many have ended."""


def run_here(
    order: Order,
    studies: Sequence[Study],
    more: More,
    reporter: Reporter,
    cancel: CancelToken,
    cases: list[SupportCase] | None = None,
) -> int:
    """Segment studies in this process; see `process.run_all`.

    Args:
        order: The order.
        studies: The studies, in their order.
        more: See `More`.
        reporter: Informed of each study.
        cancel: Stops between two slices.
        cases: The supports, if they were read already.
    """
    with StudyWorker(order, cases=cases) as worker:
        return run_all(worker, studies, more, reporter, cancel)
