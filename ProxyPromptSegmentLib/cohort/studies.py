"""The studies of a cohort: the images and DICOM folders below a folder, or the rows of a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ProxyPromptSegmentLib.cohort.writing import read_json
from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.imaging.dicom.header import SUFFIXES as DICOM_SUFFIXES
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom
from ProxyPromptSegmentLib.imaging.itk_images import PICTURE_SUFFIXES
from ProxyPromptSegmentLib.imaging.paths import not_there, same_place, suffix_of
from ProxyPromptSegmentLib.support.case_files import VOLUME_SUFFIXES
from ProxyPromptSegmentLib.support.case_lists import csv_rows
from ProxyPromptSegmentLib.support.name_pairing import is_annotation

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
PATH_COLUMNS = ("path", "image", "study", "file", "target")
ID_COLUMN = "id"
FORMAT = "ProxyPromptSegment cohort"
MARK, RECORDS = "cohort.json", "records"
"""The file by which a folder is known to hold a cohort, and the folder beside it; see `holds_cohort`."""
_DIRECTORY = "dicomdir"


@dataclass(frozen=True)
class Study:
    """One image to segment.

    Attributes:
        path: Its file, or the folder with its DICOM series.
        name: Its name in tables and messages: its path below the folder of the studies, or the id of the table.
        problem: Why it cannot be read, if that is known already.
    """

    path: Path
    name: str
    problem: str = ""


@dataclass
class Listed:
    """The studies that were found.

    Attributes:
        studies: In the order of their paths, or of the table.
        annotations: Files that look like annotations of images and are not studies.
        repeated: Rows of the table that name a study again.
    """

    studies: list[Study] = field(default_factory=list)
    annotations: list[Path] = field(default_factory=list)
    repeated: int = 0


def holds_cohort(folder: Path) -> bool:
    """Return whether a folder holds a cohort, which is never searched for studies; other programs' files do not count.

    A file that is damaged counts if records lie beside it.
    """
    content = read_json(folder / MARK)
    if content is None:
        return (folder / MARK).exists() and (folder / RECORDS).is_dir()
    return content.get("format") == FORMAT


def list_studies(place: Path) -> Listed:
    """List the studies of a folder or a table.

    Raises:
        InputError: If it does not exist or cannot be read, or has no study.
        UsageError: If two rows of a table have the same id.
    """
    if not place.exists():
        raise InputError(not_there(place, "a folder with studies, or a table (CSV) of their paths"))
    if holds_cohort(place):
        raise InputError(f"{place} holds the results of a cohort; give the folder that holds its studies.")
    if place.is_dir():
        listed = _in_folder(place)
        if not listed.studies:
            left = f" ({len(listed.annotations)} files look like annotations)" if listed.annotations else ""
            raise InputError(
                f"no study was found in {place}{left}; a study is a NRRD, NIfTI, MHA or picture file, or a folder that "
                "directly contains a DICOM series."
            )
        return listed
    if suffix_of(place) not in TABLE_SUFFIXES:
        raise InputError(
            f"{place.name} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)}); give the folder that holds "
            "the studies, or a table with a column of their paths."
        )
    return _in_table(place)


def _in_folder(root: Path) -> Listed:
    """Search a folder and all below it."""
    listed = Listed()
    for folder, files in _walk(root, listed):
        has_series = False
        for file in files:
            suffix = suffix_of(file)
            if suffix in (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES):
                if is_annotation(file):
                    listed.annotations.append(file)
                else:
                    listed.studies.append(Study(file, _below(root, file)))
            elif not has_series and file.name.lower() != _DIRECTORY:
                has_series = suffix in DICOM_SUFFIXES or (_says_nothing(suffix) and is_dicom(file))
        if has_series:
            listed.studies.append(Study(folder, _below(root, folder)))
    listed.studies.sort(key=lambda study: os.fsencode(study.path))
    return listed


def _says_nothing(suffix: str) -> bool:
    """Return whether a file's name says nothing of its kind, as many DICOM files' do: IM0001, or an instance's UID."""
    return suffix in ("", ".dicom", ".dic") or suffix[1:].isdigit()


def _walk(root: Path, listed: Listed) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder with its files, without hidden ones and folders of cohorts; no folder twice, despite links.

    A folder that cannot be read is a study with a problem, so that it is reported.
    """
    seen: set[Path] = set()

    def unreadable(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename))
        reason = f"the folder cannot be read ({error.strerror}); change its permissions."
        listed.studies.append(Study(path, _below(root, path), reason))

    for folder, inner, names in os.walk(root, onerror=unreadable, followlinks=True):
        here = Path(folder)
        place = same_place(here)
        if place in seen or (MARK in names and holds_cohort(here)):
            inner.clear()
            continue
        seen.add(place)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield here, [here / name for name in sorted(names) if not name.startswith(".")]


def _below(root: Path, path: Path) -> str:
    """Return a path below the root as a name with slashes; the root itself by its own name."""
    inside = path.relative_to(root).as_posix()
    return same_place(root).name if inside == "." else inside


def _in_table(place: Path) -> Listed:
    """Read a table; paths in it are relative to its folder."""
    try:
        text = place.read_text(encoding="utf-8-sig", errors="surrogateescape")
        rows = csv_rows(text)
    except (OSError, ValueError) as error:
        raise InputError(f"the table {place} cannot be read: {error}") from None
    if not rows:
        raise InputError(
            f"the table {place} has no rows; it needs a header with the column path, and a row each study."
        )
    column = _path_column(place, list(rows[0]))
    listed, seen, ids = Listed(), set[Path](), dict[str, int]()
    for number, row in enumerate(rows, 1):
        value, name = row.get(column, "").strip(), row.get(ID_COLUMN, "").strip()
        if not value:
            if not any(cell.strip() for cell in row.values()):
                continue
            raise InputError(f"row {number} of {place} has nothing in the column '{column}'; give the study's path.")
        path = _as_opened(place.parent / value)
        own = Path(os.path.abspath(path))
        if own in seen:
            listed.repeated += 1
            continue
        seen.add(own)
        if name and name in ids:
            raise UsageError(
                f"rows {ids[name]} and {number} of {place} have the same id '{name}'; give each study its own."
            )
        ids[name] = number
        listed.studies.append(Study(path, name or value))
    return listed


def _as_opened(path: Path) -> Path:
    """Return a path without ``..``, which leads above the folder that a link leads to, and not above the link."""
    if ".." not in path.parts:
        return path
    return same_place(path) if path.name == ".." else same_place(path.parent) / path.name


def _path_column(place: Path, columns: list[str]) -> str:
    """Return the column with the paths."""
    found = next((name for name in PATH_COLUMNS if name in columns), None)
    if found is None and len([name for name in columns if name != ID_COLUMN]) == 1:
        found = next(name for name in columns if name != ID_COLUMN)
        if suffix_of(Path(found)) or "/" in found:
            raise InputError(f"the table {place} has no header; its first row must name the columns, such as: path")
    if found is None:
        raise InputError(
            f"the table {place} has the columns {', '.join(columns) or '(none)'}; it needs one of "
            f"{', '.join(PATH_COLUMNS)} with the studies' paths, and may have id."
        )
    return found


def shown(name: str) -> str:
    r"""Return a name in one line of UTF-8: line breaks and bytes that are not UTF-8 as ``\\n`` and ``\\xff``."""
    return "".join(_shown(letter) for letter in name)


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    if 0xDC80 <= ord(letter) <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def without(studies: Iterable[Study], paths: Iterable[Path]) -> tuple[list[Study], list[Study]]:
    """Split studies into those that are not among some paths, and those that are."""
    places = {same_place(path) for path in paths}
    apart: tuple[list[Study], list[Study]] = ([], [])
    for study in studies:
        apart[same_place(study.path) in places].append(study)
    return apart
