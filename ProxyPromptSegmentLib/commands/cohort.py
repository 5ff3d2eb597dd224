"""The subcommand ``cohort``: many studies segmented alike, resumable, by one process or many."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.cohort.contents import place_id
from ProxyPromptSegmentLib.cohort.folder import PAGE, SHARDS, SUMMARY, CohortFolder
from ProxyPromptSegmentLib.cohort.process import Kind
from ProxyPromptSegmentLib.cohort.rows import Row, State
from ProxyPromptSegmentLib.cohort.shards import Shards
from ProxyPromptSegmentLib.cohort.studies import Listed, Study, list_studies, shown, without
from ProxyPromptSegmentLib.cohort.summary import state_of, write_summary
from ProxyPromptSegmentLib.commands.checks import count_of
from ProxyPromptSegmentLib.commands.cohort_ray import check_ray, run_with_ray
from ProxyPromptSegmentLib.commands.cohort_run import Reporter, run_here
from ProxyPromptSegmentLib.commands.cohort_supports import prepare
from ProxyPromptSegmentLib.commands.cohort_worker import Order
from ProxyPromptSegmentLib.commands.common_options import add_display
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.segment_options import (
    add_computing,
    add_library,
    add_objects,
    add_prompts,
    add_slicing,
)
from ProxyPromptSegmentLib.errors import (
    EXIT_INTERRUPTED,
    EXIT_NOTHING_FOUND,
    EXIT_OK,
    EXIT_SOME_FAILED,
    OutputError,
    ProxyPromptError,
)
from ProxyPromptSegmentLib.wording import duration

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.progress import CancelToken
    from ProxyPromptSegmentLib.support.case import SupportCase

DESCRIPTION = """\
Segment many studies alike: with the same supports (or classes), the same model and the same settings.

For each study, the output folder receives a result (.seg.nrrd), a report (.json) and a record; for all of
them, a table (summary.csv) and a page (index.html) that shows first what a human should look at first. The
same command resumes: what is done is not done again, also after a crash or a power cut, and several
processes may work on the same output folder.
"""
EXAMPLES = """\
examples:
  all images and DICOM folders below a folder
    proxyprompt cohort archive --support old.nrrd old.seg.nrrd --output results
  the studies of a table: a CSV file with the column path and, if wanted, id
    proxyprompt cohort studies.csv --support old.nrrd old.seg.nrrd --object prostate --output results
  with the cases of the support library, or without a support
    proxyprompt cohort archive --library --object prostate --output results
    proxyprompt cohort archive --class prostate --output results
  try again what failed
    proxyprompt cohort archive --support old.nrrd old.seg.nrrd --output results --retry
  the third of ten tasks that share the work, e.g. --shard $SLURM_ARRAY_TASK_ID/10
    proxyprompt cohort archive --support old.nrrd old.seg.nrrd --output results --shard 3/10
  on all GPUs (or cores) of this machine, or of a Ray cluster that runs
    proxyprompt cohort archive --support old.nrrd old.seg.nrrd --output results --ray
    proxyprompt cohort archive --support old.nrrd old.seg.nrrd --output results --ray auto

Ctrl-C stops after the current slice and keeps the studies that are done.
Review every result and correct it where needed. Research use only. Not for diagnosis.
"""
_MOST_LISTED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    cases = parser.add_argument_group("cases")
    cases.add_argument(
        "studies", type=Path, metavar="STUDIES",
        help="folder: each image and each DICOM folder in it or below it is a study; or a table (.csv) with a column "
        "'path' and, if wanted, 'id'",
    )  # fmt: skip
    add_prompts(cases)
    add_library(cases)
    add_objects(cases)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="new folder, or one of the same cohort to resume"
    )
    results.add_argument("--retry", action="store_true", help="try again the studies that failed before")
    add_display(results)
    several = parser.add_argument_group("several processes")
    several.add_argument(
        "--shard", type=shard_of, metavar="I/N",
        help="compute share I (from 1) of N of what is still open, for tasks that start independently",
    )  # fmt: skip
    several.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="compute with Ray (needs `pip install ray`): on the cluster at ADDRESS or, with 'auto', one that runs "
        "here; without ADDRESS on the one of RAY_ADDRESS, or else on this machine",
    )  # fmt: skip
    several.add_argument(
        "--actors", type=count_of, metavar="N", help="with --ray: number of actors (default: one for each GPU or core)"
    )
    add_slicing(parser.add_argument_group("slices"))
    add_computing(parser.add_argument_group("computing"))


def shard_of(text: str) -> tuple[int, int]:
    """Convert an option's text to a share and their number, for argparse."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError
    return int(found[1]), int(found[2])


shard_of.__name__ = "share (allowed: I/N with I from 1 to N, such as 3/10)"


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    if args.ray is not None:
        check_ray()
    with console.listening():
        request, about, cases = prepare(args, console)
        listed = list_studies(args.studies)
    folder = CohortFolder.begin(args.output, about)
    studies, supports = without(listed.studies, [image for image, _ in request.supports])
    cohort = _Cohort(folder, about, studies, [_support_row(study) for study in supports])
    rows = [state_of(folder, study, cohort.support_hashes) for study in studies]
    retry = folder.open_failures() if args.retry else None
    wanted = {State.OPEN, State.FAILED} if args.retry else {State.OPEN}
    still_open = [row.study for row in rows if row.state in wanted]
    _say_begin(console, listed, rows, len(supports), len(still_open), args)
    more: Callable[[], list[Study]] = lambda: []  # noqa: E731
    if args.shard:
        still_open, more = _shared(folder, args.shard, still_open, cohort)
        console.say(f"share {args.shard[0]} of {args.shard[1]}: {len(still_open)} to do")
    order = Order(request, folder, cohort.support_hashes, args.library, retry)
    reporter = Reporter(console, len(still_open), lambda: cohort.write(last=False))
    with stop_on_signals(console.status, "the slice" if args.ray is None else "the studies") as cancel:
        try:
            held = _compute(args, console, order, still_open, more, reporter, cancel, cases) if still_open else 0
        except ProxyPromptError:
            reporter.close()
            with suppress(OutputError):
                cohort.write()
            _say_kept(console, reporter)
            raise
        finally:
            reporter.close()
        rows = cohort.write()
    _say_end(console, reporter, rows, held, args)
    return _exit_code(rows, cancel.cancelled)


@dataclass(frozen=True)
class _Cohort:
    """A cohort with its studies, for the summary."""

    folder: CohortFolder
    about: dict[str, Any]
    studies: Sequence[Study]
    supports: Sequence[Row]

    @property
    def support_hashes(self) -> frozenset[str]:
        """Hashes of the supports' images."""
        return frozenset(str(one["image_sha256"]) for one in self.about["supports"])

    def write(self, last: bool = True) -> list[Row]:
        """Write table and page; return the rows."""
        return write_summary(self.folder, self.studies, self.about, self.supports, last)

    def still_open(self) -> list[Study]:
        """Return the studies that are open now."""
        rows = (state_of(self.folder, study, self.support_hashes) for study in self.studies)
        return [row.study for row in rows if row.state is State.OPEN]


def _compute(
    args: argparse.Namespace,
    console: Console,
    order: Order,
    studies: list[Study],
    more: Callable[[], list[Study]],
    reporter: Reporter,
    cancel: CancelToken,
    cases: list[SupportCase],
) -> int:
    """Compute studies; return the number of those that other processes are computing."""
    if args.ray is None:
        return run_here(order, studies, more, reporter, cancel, cases)
    return run_with_ray(order, studies, more, reporter, cancel, console, args.ray, args.actors)


def _shared(
    folder: CohortFolder, shard: tuple[int, int], still_open: list[Study], cohort: _Cohort
) -> tuple[list[Study], Callable[[], list[Study]]]:
    """Return the own share of the open studies, and what returns shares that are added later."""
    plans = Shards(folder.folder(SHARDS), *shard)
    own = plans.first([place_id(study.path) for study in still_open])

    def later() -> list[Study]:
        now = cohort.still_open()
        added = plans.next(place_id(study.path) for study in now)
        return [study for study in now if place_id(study.path) in added]

    return [study for study in still_open if place_id(study.path) in own], later


def _support_row(study: Study) -> Row:
    return Row(study, State.SUPPORT)


def _say_begin(
    console: Console, listed: Listed, rows: Sequence[Row], supports: int, to_do: int, args: argparse.Namespace
) -> None:
    """Say what there is and what is to be done."""
    counts = {state: sum(row.state is state for row in rows) for state in State}
    done = sum(row.state.is_done for row in rows)
    supports += counts[State.SUPPORT]
    failed = counts[State.FAILED]
    parts = [f"{to_do} to do"]
    if done:
        parts.append(f"{done} done before")
    if failed and not args.retry:
        parts.append(f"{failed} failed before (--retry tries them again)")
    if supports:
        parts.append(f"{supports} {'is a support itself' if supports == 1 else 'are supports themselves'}")
    console.say(f"{_count(len(listed.studies))} in {shown(str(args.studies))}: {', '.join(parts)}")
    if listed.annotations:
        names = ", ".join(shown(path.name) for path in listed.annotations[:3])
        more = ", ..." if len(listed.annotations) > 3 else ""
        console.say(f"{len(listed.annotations)} files are taken for annotations and not for studies ({names}{more})")
    if listed.repeated:
        console.warn(f"{listed.repeated} rows of the table name a study again; each is segmented once.")


def _say_kept(console: Console, reporter: Reporter) -> None:
    """Say what an error that ends all leaves."""
    done = reporter.counts[Kind.DONE] + reporter.counts[Kind.EMPTY]
    console.status(f"stopped by an error after {_count(done)}, which are kept; the same command resumes there.")


def _say_end(console: Console, reporter: Reporter, rows: Sequence[Row], held: int, args: argparse.Namespace) -> None:
    """Say what was done, what failed, and where to look."""
    counts = reporter.counts
    if reporter.computed:
        empty = f", in {counts[Kind.EMPTY]} of them nothing was found" if counts[Kind.EMPTY] else ""
        failed = f"; {counts[Kind.FAILED]} failed" if counts[Kind.FAILED] else ""
        segmented = counts[Kind.DONE] + counts[Kind.EMPTY]
        console.say(f"{_count(segmented)} segmented in {duration(reporter.seconds)}{empty}{failed}")
    if reporter.twice:
        console.warn(f"{_count(reporter.twice)} computed by two processes at once; the first result was kept.")
    if held:
        console.say(f"{_count(held)} being computed by other processes that use this folder")
    before = [row for row in rows if row.state is State.FAILED and row.study.name not in reporter.failed]
    for row in before[:_MOST_LISTED]:
        console.status(f"failed before: {shown(row.study.name)}: {shown(row.reason)}")
    if len(before) > _MOST_LISTED:
        console.status(f"and {len(before) - _MOST_LISTED} more, see {SUMMARY}")
    left = sum(row.state is State.OPEN for row in rows)
    if left:
        console.say(f"{_count(left)} not done yet; the same command resumes there")
    console.say(
        f"open {args.output / PAGE}: what to look at first is at its top; the numbers are in {args.output / SUMMARY}"
    )
    console.say("Research use only. Not for diagnosis.")


def _exit_code(rows: Sequence[Row], cancelled: bool) -> int:
    """Return the exit code: what counts is the whole cohort, also what was done before."""
    if cancelled and any(row.state is State.OPEN for row in rows):
        return EXIT_INTERRUPTED
    if any(row.state is State.FAILED for row in rows):
        return EXIT_SOME_FAILED
    done = [row.state for row in rows if row.state not in (State.OPEN, State.SUPPORT)]
    return EXIT_NOTHING_FOUND if done and all(state is State.EMPTY for state in done) else EXIT_OK


def _count(studies: int) -> str:
    return f"{studies} {'study' if studies == 1 else 'studies'}"
