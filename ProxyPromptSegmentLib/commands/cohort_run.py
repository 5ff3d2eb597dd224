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
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.progress import CancelToken

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.case import SupportCase

_STAGE = "segmenting studies"
SUMMARY_SECONDS = 120.0


class Reporter:
    """Counts studies and shows how far they are.

    Attributes:
        counts: Studies by how they were left.
        twice: Studies that two processes did.
        failed: Names of the studies that failed.
        seconds: Time since the beginning.
    """

    def __init__(self, console: Console, total: int, write_summary: Callable[[], object]) -> None:
        """Begin to report on so many studies; ``write_summary`` is called from time to time."""
        self._console, self._total, self._write = console, total, write_summary
        self._begun = self._written = time.monotonic()
        self.counts: Counter[Kind] = Counter()
        self.twice = 0
        self.failed: set[str] = set()
        self._stages = Stages(console.progress)
        if total:
            self._stages.show(_STAGE, 0, total)

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
            self._stages.show(_STAGE, self._ended, self._total)

    def close(self) -> None:
        """Report that all have ended."""
        self._console.progress.close()

    def ended(self, study: Study, outcome: Outcome) -> None:
        """Report how a study was left."""
        self.counts[outcome.kind] += 1
        self.twice += outcome.twice
        name = shown(study.name)
        if outcome.kind is Kind.FAILED:
            self.failed.add(study.name)
            self._console.warn(f"{name} failed: {shown(outcome.reason)}")
        elif outcome.kind is Kind.CHANGED:
            self._console.warn(f"{name} changed while it was being computed; it is still to be done.")
        elif outcome.kind is Kind.SUPPORT:
            self._console.warn(f"{name} has the content of a support; it is not segmented.")
        if outcome.kind is Kind.STOPPED:
            return
        self._stages.show(_STAGE, self._ended, self._total, self._failed)
        now = time.monotonic()
        if now - self._written > SUMMARY_SECONDS:
            self._written = now
            self._write()

    @property
    def _failed(self) -> str:
        return f"{self.counts[Kind.FAILED]} failed" if self.counts[Kind.FAILED] else ""

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
