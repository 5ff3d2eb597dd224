"""One process of the subcommand ``cohort``, which segments each study as ``segment`` does."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.cohort.folder import CohortFolder, Files
from ProxyPromptSegmentLib.cohort.process import Process
from ProxyPromptSegmentLib.commands.cohort_supports import read_cases
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_run import Kept, perform
from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.progress import CancelToken

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.cohort.studies import Study
    from ProxyPromptSegmentLib.support.case import SupportCase


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


class StudyWorker(Process):
    """Segments one study after another with the same model and supports, which are loaded and prepared once."""

    def __init__(self, order: Order, token: str = "", cases: list[SupportCase] | None = None) -> None:
        """Prepare for an order.

        Args:
            order: The order.
            token: Name among the processes; by default a new one.
            cases: The supports, if they were read already.
        """
        super().__init__(order.folder, order.supports, order.retry, token)
        self._order, self._kept, self._console = order, Kept(cases=cases), _Silent()

    def segment(self, study: Study, files: Files, cancel: CancelToken) -> Mapping[str, Any] | None:
        """See `Process.segment`."""
        if self._kept.cases is None:
            self._kept.cases = read_cases(self._order.request, self._order.library)
        request = replace(
            self._order.request,
            target=study.path,
            output=files.result,
            report=files.report,
            thumbnail=files.thumbnail,
            force=True,
        )
        return perform(request, self._console, cancel, self._kept, whole=True)

    def words(self, error: ProxyPromptError) -> str:
        """See `Process.words`."""
        return worded(error)


class _Silent(Console):
    """A console that shows nothing: what a segmentation says is in the study's report."""

    def __init__(self) -> None:
        nowhere: Any = io.StringIO()
        super().__init__(quiet=True, progress=False, out=nowhere, err=nowhere)

    def _to_err(self, line: str) -> None:
        """Drop a line."""
