"""The task that keeps a corrected result of a study in the folder of results; independent of nodes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.cohort.corrections import save_correction
from ProxyPromptSegmentLib.cohort.folder import CohortFolder
from ProxyPromptSegmentLib.cohort.rows import Row, State, done_row
from ProxyPromptSegmentLib.cohort.studies import list_studies, shown, without
from ProxyPromptSegmentLib.cohort.summary import write_summary
from ProxyPromptSegmentLib.errors import OutputError, ProxyPromptError
from ProxyPromptSegmentModule.runs.folder_tasks import supports_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentModule.runs.folder_request import StudyFolder


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectionTask:
    """The task that writes a corrected result beside the program's; returns the study's row.

    Attributes:
        folder: The folders.
        row: What is known of the study, which is done.
        corrected: All segments as they are now, on the study's grid.
    """

    folder: StudyFolder
    row: Row
    corrected: Segmentation

    def __call__(self, engine: object = None, context: Context | None = None) -> Row:
        """Do the work, on any thread; table and page are written again if the studies can still be listed.

        Raises:
            OutputError: If the folder of results is gone, or cannot be written.
            GeometryError: If the program's result lies on another grid.
        """
        existing, study = CohortFolder.existing(self.folder.output), self.row.study
        record = existing[0].record(str(self.row.facts.get("key"))) if existing is not None else None
        if existing is None or record is None:
            told = _(
                "the folder {folder} has no result of {study} any more; segment it again, or choose another folder."
            )
            raise OutputError(told.format(folder=self.folder.output, study=shown(study.name)))
        folder, about = existing
        save_correction(folder, study, record, self.corrected)
        row = done_row(study, folder.record(str(record["key"])) or record)
        with suppress(ProxyPromptError, OSError):  # they cannot be read now: who continues writes both
            studies, supports = without(list_studies(self.folder.place).studies, supports_of(about))
            write_summary(folder, studies, about, [Row(one, State.SUPPORT) for one in supports], last=False)
        return row
