"""Tasks for the studies of a folder: list them, segment those that are open, read one; independent of nodes."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.cohort.about import about_of, describe_files
from ProxyPromptSegmentLib.cohort.folder import SUPPORTS, CohortFolder, file_name
from ProxyPromptSegmentLib.cohort.process import Kind, run_all
from ProxyPromptSegmentLib.cohort.rows import Row, State
from ProxyPromptSegmentLib.cohort.studies import Study, list_studies, without
from ProxyPromptSegmentLib.cohort.summary import state_of, write_summary
from ProxyPromptSegmentLib.cohort.writing import readable_folder
from ProxyPromptSegmentLib.imaging.segmentations import write_segmentation
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice
from ProxyPromptSegmentLib.imaging.volumes import write_volume
from ProxyPromptSegmentLib.support.case import read_support_case
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import resolve
from ProxyPromptSegmentModule.runs.folder_process import FolderProcess
from ProxyPromptSegmentModule.runs.folder_request import FolderProgress, FolderRequest, Listing, StudyFolder
from ProxyPromptSegmentModule.runs.study_tasks import content_of, masks_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from ProxyPromptSegmentLib.cohort.process import Outcome
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine
    from ProxyPromptSegmentModule.runs.folder_request import SupportFiles

    Look = Callable[[Study], Row]
    Write = Callable[[], list[Row]]

_SUMMARY_SECONDS = 60.0
"""Time after which table and page are written again while studies are segmented."""


@dataclass(frozen=True, kw_only=True)
class ListTask:
    """The task that lists the studies of a folder with what became of them; returns a `Listing`.

    Attributes:
        folder: The folders; that of the results need not exist.
    """

    folder: StudyFolder

    def __call__(self, engine: object = None, context: Context | None = None) -> Listing:
        """Do the work, on any thread: neither torch nor an image is read.

        Raises:
            InputError: If the folder does not exist, cannot be read, or has no study.
        """
        listed = list_studies(self.folder.place)
        existing = CohortFolder.existing(self.folder.output)
        if existing is None:
            rows = [Row(study, State.OPEN) for study in listed.studies]
            return Listing(rows=tuple(rows), about={}, annotations=len(listed.annotations))
        folder, about = existing
        hashes = {str(one.get("image_sha256")) for one in about["supports"]}
        studies, supports = without(listed.studies, supports_of(about))
        rows = [state_of(folder, study, hashes) for study in studies]
        rows += [Row(study, State.SUPPORT) for study in supports]
        return Listing(rows=tuple(rows), about=about, annotations=len(listed.annotations))


def supports_of(about: Mapping[str, object]) -> list[Path]:
    """Return the images of the supports that made the results of a folder."""
    supports = about.get("supports")
    return [Path(str(one.get("image"))) for one in supports] if isinstance(supports, list) else []


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentFolderTask:
    """The task that segments the open studies of a folder; returns their rows, see `Row`.

    What failed before is tried again. Another process may work on the same folder at the same time.

    Attributes:
        request: What is to be done.
    """

    request: FolderRequest

    def __call__(self, engine: Engine, context: Context) -> tuple[Row, ...]:
        """Do the work on the worker thread.

        Raises:
            ProxyPromptError: If a support or the model cannot be used, the folder holds results of other supports or
                settings, or something is wrong that fails every study, such as a full disk.
        """
        request = self.request
        context.progress.start(1, "reading the supports")
        listed = list_studies(request.folder.place)
        weights, expected = resolve(request.settings.model)
        with _Supports(request.supports, request.folder.output) as files:
            about = about_of(
                files.described(), request.settings.model, expected or weights_sha256(weights), None, request.named()
            )
            folder = CohortFolder.begin(request.folder.output, about)
            files.keep()
        pairs = files.pairs
        choices = [SliceChoice.parse(one.slices, _("Slices")) for one in request.supports]
        cases = [read_support_case(image, mask, slices) for (image, mask), slices in zip(pairs, choices, strict=True)]
        hashes = frozenset(str(one["image_sha256"]) for one in about["supports"])
        studies, supports = without(listed.studies, [image for image, _mask in pairs])
        known = [Row(study, State.SUPPORT) for study in supports]
        rows = [state_of(folder, study, hashes) for study in studies]
        context.advanced(FolderProgress(rows=(*rows, *known)))
        wanted = (State.OPEN, State.FAILED)
        still_open = [row.study for row in rows if row.state in wanted and row.study.path not in request.left_out]

        def write(last: bool = False) -> list[Row]:
            return write_summary(folder, studies, about, known, last)

        try:
            with FolderProcess(folder, hashes, request, cases, engine, context) as process:
                reports = _Reports(context, lambda study: state_of(folder, study, hashes), write)
                run_all(process, still_open, list, reports, context.cancel)
        finally:
            rows = write(last=True)
        return tuple(rows)


class _Supports:
    """The files of supports: those of the scene that has them as they are, and others, which are written."""

    def __init__(self, supports: Sequence[SupportFiles], output: Path) -> None:
        self._supports, self._place = supports, output / SUPPORTS
        self._made: list[tuple[Path, Path]] = []
        self.pairs: list[tuple[Path, Path]] = []

    def __enter__(self) -> _Supports:
        """Write what is not there yet beside the results: the folder is only known to be usable later."""
        self._temporary = tempfile.TemporaryDirectory(prefix="proxyprompt")
        for one in self._supports:
            self.pairs.append(one.files if one.files is not None else self._written(one))
        return self

    def _written(self, one: SupportFiles) -> tuple[Path, Path]:
        volume, marks = one.case.volume, one.case.segmentation
        digest = content_of(volume.array, volume.geometry)[:8] + masks_of(marks)[:8]
        name = f"{file_name(Study(Path(one.title or 'support'), one.title or 'support'))}-{digest}"
        image, mask = self._place / f"{name}.nrrd", self._place / f"{name}.seg.nrrd"
        if not (image.is_file() and mask.is_file()):
            folder = Path(self._temporary.name)
            write_volume(folder / image.name, volume)
            write_segmentation(folder / mask.name, marks)
            self._made += [(folder / path.name, path) for path in (image, mask)]
        return image, mask

    def described(self) -> list[dict[str, object]]:
        """Describe the files as a cohort does, with the places where they will lie."""
        here = {there: made for made, there in self._made}
        found = describe_files([(here.get(image, image), here.get(mask, mask)) for image, mask in self.pairs])
        return [
            {**one, "image": str(image), "segmentation": str(mask)}
            for one, (image, mask) in zip(found, self.pairs, strict=True)
        ]

    def keep(self) -> None:
        """Put what was written where it belongs; another process may have done so.

        Raises:
            OutputError: If it cannot be written.
        """
        with readable_folder(self._place):
            for made, there in self._made:
                there.parent.mkdir(exist_ok=True)
                if not there.is_file():
                    shutil.move(made, there)

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()


class _Reports:
    """Reports what becomes of studies as events, and writes table and page from time to time."""

    def __init__(self, context: Context, look: Look, write: Write) -> None:
        self._context, self._look, self._write = context, look, write
        self._written = time.monotonic()

    def add(self, studies: int) -> None:
        """Do nothing: there are no shares."""

    def begins(self, study: Study) -> None:
        """See `process.Reports`."""
        self._context.advanced(FolderProgress(begins=study))

    def ended(self, study: Study, outcome: Outcome) -> None:
        """See `process.Reports`."""
        reason = _("its files were changed meanwhile") if outcome.kind is Kind.CHANGED else ""
        self._context.advanced(FolderProgress(row=self._look(study), reason=reason))
        if time.monotonic() - self._written > _SUMMARY_SECONDS:
            self._written = time.monotonic()
            self._write()
