"""One study of a folder, segmented and written as the command line does it, on the worker thread of the module."""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.cohort.process import Process
from ProxyPromptSegmentLib.imaging.segmentations import write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.inference.classes import plan_classes
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.reports.report import build_report, write_report
from ProxyPromptSegmentLib.reports.thumbnail import write_thumbnail
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.tasks import SegmentTask
from ProxyPromptSegmentModule.remedies import worded

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.cohort.folder import CohortFolder, Files
    from ProxyPromptSegmentLib.cohort.studies import Study
    from ProxyPromptSegmentLib.errors import ProxyPromptError
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.progress import CancelToken
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.worker.engine import Engine
    from ProxyPromptSegmentModule.runs.folder_request import FolderRequest


class FolderProcess(Process):
    """Segments one study of a folder after another with the engine of the worker thread."""

    def __init__(
        self,
        folder: CohortFolder,
        hashes: Collection[str],
        request: FolderRequest,
        cases: list[SupportCase],
        engine: Engine,
        context: Context,
    ) -> None:
        """Prepare.

        Args:
            folder: The folder of the results, which was begun; what failed there is tried again.
            hashes: Hashes of the contents of the supports' images, which are not segmented.
            request: What the studies are segmented with.
            cases: The supports, as they are in their files.
            engine: The engine.
            context: Where the progress goes.
        """
        super().__init__(folder, hashes, retry=folder.open_failures())
        self._request, self._cases, self._engine = request, cases, engine
        # the slices stay on this thread: nobody looks at a study while it is computed
        self._context = Context(context.ticket, context.cancel, lambda event: None, progress=context.progress)

    def segment(self, study: Study, files: Files, cancel: CancelToken) -> Mapping[str, object] | None:
        """See `Process.segment`."""
        request, settings = self._request, self._request.settings
        with _heard() as heard:
            begun = time.perf_counter()
            job = self._planned(study, cancel)
            read = time.perf_counter()
            task = SegmentTask(
                job,
                model=settings.model,
                keep=False,  # no other run looks at this study
                **settings.computing(),
            )
            found = task(self._engine, self._context)
            if found.cancelled or not found.result.done.any():
                return None
            computed = time.perf_counter()
            heard += write_segmentation(files.result, found.segmentation, study.path)
            if importlib.util.find_spec("PIL") is not None:
                write_thumbnail(files.thumbnail, job, found)
            now = time.perf_counter()
        seconds = {"reading": read - begun, **found.seconds, "writing": now - computed, "total": now - begun}
        notes = [*(Note(worded(note), severity=note.severity) for note in found.notes), *map(Note, heard)]
        report = build_report(job, found, self._cases, request.named(files.result), seconds, notes=notes)
        write_report(files.report, report)
        return report

    def _planned(self, study: Study, cancel: CancelToken) -> Job:
        request, target = self._request, read_volume(study.path)
        settings = request.settings
        if request.classes:
            return plan_classes(request.classes, target, settings.axis, None, False)
        register = settings.register
        return plan(self._cases, target, request.objects, settings.axis, None, register=register, cancel=cancel)

    def words(self, error: ProxyPromptError) -> str:
        """See `Process.words`."""
        return worded(error)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect the warnings that the library logs on this thread while the block runs."""
    heard, here = list[str](), threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here:
                heard.append(record.getMessage())

    listener, logger = Listener(logging.WARNING), logging.getLogger("ProxyPromptSegmentLib")
    logger.addHandler(listener)
    try:
        yield heard
    finally:
        logger.removeHandler(listener)
