"""The state of all studies of a cohort, read from its folder, and the summary that is written of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ProxyPromptSegmentLib.cohort.contents import Inputs, place_id
from ProxyPromptSegmentLib.cohort.folder import CORRECTED, INPUTS, PAGE, SUMMARY, CohortFolder
from ProxyPromptSegmentLib.cohort.page import page_of
from ProxyPromptSegmentLib.cohort.rows import Row, State, done_row, in_order, table_of
from ProxyPromptSegmentLib.cohort.studies import RECORDS, Study
from ProxyPromptSegmentLib.cohort.writing import write_text
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.reports.results_table import csv_text

_MOST_TIMES = 20  # where studies end faster than this is written, another process writes it later anyway


def state_of(folder: CohortFolder, study: Study, supports: Collection[str | None] = ()) -> Row:
    """Return what became of a study, as far as it is known without reading its images.

    Args:
        folder: The cohort's folder.
        study: The study.
        supports: Hashes of the contents of the supports' images.
    """
    try:
        content = Inputs(folder.folder(INPUTS)).known(study.path)
    except InputError:
        content = None
    if content in supports:
        return Row(study, State.SUPPORT)
    # A study whose content cannot be read is known by its path.
    key = unreadable_key(folder, study) if content is None else folder.key_of(content)
    record = folder.record(key)
    if record is not None:
        return done_row(study, record)
    failure = folder.failure(key)
    if failure is not None:
        return Row(study, State.FAILED, str(failure.get("reason", "")))
    return Row(study, State.OPEN)


def unreadable_key(folder: CohortFolder, study: Study) -> str:
    """Return the key of a study whose content cannot be read."""
    return folder.key_of(f"unreadable {place_id(study.path)}")


def write_summary(
    folder: CohortFolder,
    studies: Sequence[Study],
    about: Mapping[str, Any],
    known: Iterable[Row] = (),
    last: bool = True,
) -> list[Row]:
    """Write the table and the page; several processes may do so at the same time, the last one writes all.

    Args:
        folder: The cohort's folder.
        studies: All studies.
        about: What made the cohort, see `CohortFolder.begin`.
        known: Rows of further studies, which are not looked for.
        last: Whether it is written again if studies ended meanwhile, whose process may have written theirs before.

    Returns:
        The rows, in the order in which they are shown.

    Raises:
        OutputError: If a file cannot be written.
    """
    supports: set[str | None] = {str(one.get("image_sha256")) for one in about["supports"]}
    known = list(known)
    for _ in range(_MOST_TIMES if last else 1):
        seen = _marks(folder)
        rows = in_order([*known, *(state_of(folder, study, supports) for study in studies)])
        write_text(folder.path / SUMMARY, csv_text(table_of(rows)))
        written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        write_text(folder.path / PAGE, page_of(folder.path.resolve().name, about, rows, written))
        if _marks(folder) == seen:
            break
    return rows


def _marks(folder: CohortFolder) -> set[str]:
    """Return the keys of all records and corrections, and of the failures with their times."""
    return {
        *folder.keys(RECORDS),
        *folder.keys(CORRECTED),
        *(f"{key} {written}" for key, written in folder.open_failures().items()),
    }
