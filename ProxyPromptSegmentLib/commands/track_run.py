"""One run of ``track`` from files to files: check, read, compute and write, in this order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.commands.checks import check_inputs, check_outputs
from ProxyPromptSegmentLib.commands.class_options import asked_by_name
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.hand_options import said_by_hand
from ProxyPromptSegmentLib.commands.remedies import in_words
from ProxyPromptSegmentLib.commands.requests import TrackRequest
from ProxyPromptSegmentLib.commands.run_task import run_task
from ProxyPromptSegmentLib.commands.track_files import read_inputs, write_results
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.frames.mask_files import TRACKED_SUFFIXES
from ProxyPromptSegmentLib.frames.timing import time_of
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.frame_table import TrackTable, write_rows
from ProxyPromptSegmentLib.reports.overlay import OVERLAY_SUFFIXES
from ProxyPromptSegmentLib.reports.report import write_report
from ProxyPromptSegmentLib.reports.track_report import build_track_report, notes_on
from ProxyPromptSegmentLib.tracking.result import FramesResult, frames_of_volume
from ProxyPromptSegmentLib.weights.registry import resolve
from ProxyPromptSegmentLib.worker.events import Event, FrameLookedAt
from ProxyPromptSegmentLib.worker.tasks import FramesTask, SegmentTask

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.frames import FrameSource
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


class _NothingDone(Exception):  # noqa: N818 - not an error: it leaves the block of the table, so that no table is kept
    pass


def perform(request: TrackRequest, console: Console, cancel: CancelToken, written: list[Path]) -> dict[str, Any] | None:
    """Carry out a request and write its files; wrong options and inputs raise before torch is loaded.

    Args:
        request: The options.
        console: Where warnings and progress go.
        cancel: Stops between two frames; finished frames are then written.
        written: Gets each file as soon as it is complete.

    Returns:
        The report; None if the run was cancelled before the first frame, in which case nothing is written.

    Raises:
        ProxyPromptError: As the library's errors say.
    """
    with console.listening() as heard:
        begun = time.perf_counter()
        classes = _check(request)
        source, cases, job = read_inputs(request, classes)
        said = [*map(in_words, job.notes), *map(Note, source.notes)]
        for note in said:
            console.note(note)
        read = time.perf_counter()
        if cancel.cancelled:
            return None
        try:
            with _table(request, source, written) as table:
                found = _follow(request, source, job, table, console, cancel)
                if not found.done:
                    raise _NothingDone
        except _NothingDone:
            return None
        followed = time.perf_counter()
        known = (*said, *map(Note, found.rungs))
        seen = (*map(Note, source.notes), *map(in_words, notes_on(source, found, job)))
        every = (*map(in_words, found.notes), *seen)
        notes = [note for note in every if note not in known]
        notes += map(Note, write_results(request, source, found, written))
        for note in notes:
            console.note(note)
        now = time.perf_counter()
        seconds = {
            "reading": read - begun,
            "model": found.seconds["model"],
            "support": found.seconds["support"],
            "tracking": found.seconds["segmentation"],
            "writing": now - followed,
            "total": now - begun,
        }
        everything = [*known, *notes, *map(Note, heard)]
        report = build_track_report(source, job, found, cases, request.settings, seconds, everything)
        if request.report:
            write_report(request.report, report, replace=request.force)
            written.append(request.report)
        if table and table.failed:
            raise table.failed
        return report


def _check(request: TrackRequest) -> tuple[PromptClass, ...]:
    """Validate everything that can be checked without reading the inputs; return the classes that are asked for."""
    FrameChoice.parse(request.slices, "--frames")
    request.support_choices()
    said_by_hand(request.points, request.boxes)
    check_inputs(request.inputs, request.target)
    outputs = (
        ("--output", request.output, (*TRACKED_SUFFIXES, "")),  # a name without suffix is a folder of masks
        ("--table", request.table, (".csv",)),
        ("--overlay", request.overlay, OVERLAY_SUFFIXES),
        ("--report", request.report, (".json",)),
    )
    check_outputs(outputs, request.inputs, request.force)
    resolve(request.model)
    return asked_by_name(request)


@contextmanager
def _table(request: TrackRequest, source: FrameSource, written: list[Path]) -> Iterator[_Table | None]:
    """Open the table if one is requested; rows reach the disk one by one, so an aborted run keeps them."""
    if request.table is None:
        yield None
        return
    table = _Table(request.table, source.spacing_mm if source.has_spacing else None, replace=request.force)
    followed = False
    try:
        with table:
            yield table
            followed = True
            if table.failed:
                raise table.failed  # removes what was written of it
    except KeyboardInterrupt:
        written.append(request.table)
        raise
    except OutputError as error:
        if not followed:
            raise
        table.failed = error
        return
    written.append(request.table)


class _Table(TrackTable):
    """A table whose disk may fill up without the masks being lost, which come after it.

    Attributes:
        failed: The first error; reported after everything else was written.
    """

    failed: OutputError | None = None

    def add(self, *row: Any, **more: Any) -> None:
        """Write a row, unless one before could not be written."""
        if self.failed is None:
            try:
                super().add(*row, **more)
            except OutputError as error:
                self.failed = error


def _follow(
    request: TrackRequest,
    source: FrameSource,
    job: Job,
    table: TrackTable | None,
    console: Console,
    cancel: CancelToken,
) -> FramesResult:
    """Track through the target and write the table's rows: of a clip frame by frame, of a volume at the end."""
    options: dict[str, Any] = {
        "model": request.model,
        "device": request.device,
        "precision": request.precision,
        "threshold": request.threshold,
        "mode": request.mode,
        "most_read": request.most_read,
    }
    if source.kind == "volume":
        volume = run_task(
            SegmentTask(job, follow=True, keep=False, fill_gaps=request.fill_gaps, **options),
            console,
            cancel,
            base=request.base,
        )
        found = frames_of_volume(volume, job.slices, job.window)
        if table:
            for index in found.seen:
                write_rows(table, found.objects, index, None, found.done.get(index), found.skipped.get(index, ""))
        return found
    choice = FrameChoice.parse(request.slices, "--frames")

    def on_event(event: Event) -> None:
        if table and isinstance(event, FrameLookedAt):
            time_s = time_of(source, event.index)
            write_rows(table, job.support.objects, event.index, time_s, event.found, event.reason)

    options["ruled_out"], options["by_hand"] = job.ruled_out, job.by_hand
    task = FramesTask(source, job.support, choice=choice, **options)
    return run_task(task, console, cancel, on_event=on_event, base=request.base)
