"""Cases of the library in a zip file, for exchange with others; imported files are not trusted.

The file contains one folder ``cases/NAME/`` per case. An imported case is read, verified by its hashes and saved
again, so that nothing else from the file enters the library.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path, PurePosixPath
from typing import IO

from ProxyPromptSegmentLib.errors import InputError, OutputError, ProxyPromptError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.imaging.paths import not_there
from ProxyPromptSegmentLib.library.entry import (
    CASE_FILE,
    IMAGE_FILE,
    MASKS_FILE,
    MOST_JSON_BYTES,
    THUMBNAIL_FILE,
    LibraryEntry,
    distinct_title,
    read_entry,
    to_json,
)
from ProxyPromptSegmentLib.library.files import load_files
from ProxyPromptSegmentLib.library.header_check import check_nrrd
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.progress import CancelToken, Progress

MOST_CASES = 10_000
MOST_FILE_BYTES = 8 << 30
"""Largest size of an image in bytes, compressed or not."""

_ROOT = "cases"
_MOST = {CASE_FILE: MOST_JSON_BYTES, IMAGE_FILE: MOST_FILE_BYTES, MASKS_FILE: MOST_FILE_BYTES}
_BLOCK = 1 << 20
_RESERVE = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)  # a file's date would reveal when a patient was annotated


@dataclass(frozen=True)
class ImportedCase:
    """The outcome of importing one case from a zip file.

    Attributes:
        title: The case's title in the file, or the name of its folder.
        entry: The case in the library, where its title may have got a number; None if it was rejected.
        refusal: The reason for the rejection, as a sentence; otherwise empty.
        already_there: Whether the case was already in the library.
    """

    title: str
    entry: LibraryEntry | None
    refusal: str = ""
    already_there: bool = False


def export_zip(
    library: SupportLibrary,
    entries: Sequence[LibraryEntry],
    path: Path | str,
    with_identifying: bool = False,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    replace: bool = True,
) -> Path | None:
    """Write cases into a zip file.

    Args:
        library: The library that contains the cases.
        entries: The cases to export; each is read and verified first.
        path: Output file, ending in ``.zip``.
        with_identifying: Whether to keep identifying data, if a case has any.
        progress: Receives one step per case.
        cancel: Checked between cases; if cancelled, no file is left.
        replace: Whether a file of this name may be replaced.

    Returns:
        The path; None if the export was cancelled.

    Raises:
        UsageError: If no case was given.
        InputError: If a case is damaged.
        OutputError: If the file cannot be written; no partial file is left.
    """
    path, progress, cancel = Path(path), progress or Progress(), cancel or CancelToken()
    if not entries:
        raise UsageError("No case was selected; select at least one to export.")
    check_output_path(path, (".zip",))
    progress.start(len(entries), "exporting")
    try:
        with safe_output(path, replace) as partial:
            with zipfile.ZipFile(partial, "w") as target:
                for number, entry in enumerate(entries):
                    if cancel.cancelled:
                        break
                    library.load(entry)
                    _export_case(target, f"{_ROOT}/case-{number + 1:04d}", read_entry(entry.folder), with_identifying)
                    progress.step(1, entry.title)
            if cancel.cancelled:
                raise _CancelledError
    except _CancelledError:
        return None
    finally:
        progress.close()
    return path


class _CancelledError(Exception):
    """Cancellation, raised to leave `safe_output` without a file."""


def _export_case(target: zipfile.ZipFile, folder: str, entry: LibraryEntry, with_identifying: bool) -> None:
    """Add one case; its image and masks are already compressed."""
    text = to_json(entry, with_identifying).encode("utf-8")
    target.writestr(zipfile.ZipInfo(f"{folder}/{CASE_FILE}", _DATE), text, zipfile.ZIP_DEFLATED)
    for name in (IMAGE_FILE, MASKS_FILE, THUMBNAIL_FILE):
        source = entry.folder / name
        if not source.is_file():
            continue
        info = zipfile.ZipInfo(f"{folder}/{name}", _DATE)
        info.file_size = source.stat().st_size
        with source.open("rb") as file, target.open(info, "w") as member:
            shutil.copyfileobj(file, member, _BLOCK)


def import_zip(
    library: SupportLibrary,
    path: Path | str,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[ImportedCase]:
    """Import the cases of a zip file into the library; each one completely or not at all.

    A case that the library has already is skipped; a title that another case has gets a number. Files that belong to no
    case are ignored.

    Args:
        library: The library to import into.
        path: A file made by `export_zip`.
        progress: Receives one step per case.
        cancel: Checked between cases; those already imported are kept.

    Returns:
        One outcome per case, in the order of the file: imported, already there, or rejected and why.

    Raises:
        InputError: If the file is not a zip file, has no case, contains paths outside of it, or is far larger than
            cases can be; nothing is imported then.
        OutputError: If the library cannot be written; cases imported before are kept.
    """
    path, progress, cancel = Path(path), progress or Progress(), cancel or CancelToken()
    answers: list[ImportedCase] = []
    with _opened(path) as source:
        cases = _cases_in(source, path)
        progress.start(len(cases), "importing")
        try:
            for name, members in cases.items():
                if cancel.cancelled:
                    break
                answers.append(_import_case(library, source, name, members))
                progress.step(1, answers[-1].title)
        finally:
            progress.close()
    return answers


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file.

    Raises:
        InputError: If it is missing or not a zip file.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no ordinary file; give a zip file of support cases.")
    try:
        source = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(not_there(path, "a zip file of support cases")) from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise InputError(f"{path.name} is not a zip file, or was not copied completely; export it again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); change its permissions.") from None
    with source:
        yield source


def _cases_in(source: zipfile.ZipFile, path: Path) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Return the members of each case in the file, by file name.

    Raises:
        InputError: If a member's path leaves the file's folder, is a link or a duplicate, or a size is absurd.
    """
    cases: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in source.infolist():
        parts = PurePosixPath(info.filename).parts
        raw = info.orig_filename  # zipfile itself cuts names at a zero byte and turns separators
        unsafe = raw.startswith("/") or "\\" in raw or "\0" in raw or ":" in raw or ".." in parts
        if unsafe or stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(
                f"{path.name} was rejected: its member {raw[:80]!r} leads outside the file's own folder. Nothing was "
                "imported; it was not made by this program, ask where it comes from."
            )
        if len(parts) != 3 or parts[0] != _ROOT or parts[2] not in _MOST or info.is_dir():
            continue
        members = cases.setdefault(parts[1], {})
        if parts[2] in members:
            raise InputError(
                f"{path.name} was rejected: it contains {info.filename[:80]!r} twice. Nothing was imported."
            )
        if info.file_size > _MOST[parts[2]]:
            raise InputError(
                f"{path.name} was rejected: {info.filename[:80]!r} would have {info.file_size / 2**30:.1f} GiB, more "
                f"than the {_MOST[parts[2]] / 2**30:.3g} GiB that are allowed. Nothing was imported."
            )
        members[parts[2]] = info
    if not cases or len(cases) > MOST_CASES:
        raise InputError(f"{path.name} contains {len(cases)} support cases; allowed are 1 to {MOST_CASES}.")
    return cases


def _import_case(
    library: SupportLibrary, source: zipfile.ZipFile, name: str, members: dict[str, zipfile.ZipInfo]
) -> ImportedCase:
    """Unpack one case into a hidden folder, verify it and save it as a new case.

    Raises:
        OutputError: If the library cannot be written.
    """
    title = name
    with library.partial_folder() as partial:
        try:
            need, free = sum(info.file_size for info in members.values()), shutil.disk_usage(partial).free
            if need + _RESERVE > free:
                raise OutputError(
                    f"{need / 2**20:.0f} MiB are needed in {library.folder}, {free / 2**20:.0f} MiB are free; free up "
                    "space and import again."
                )
            for info in members.values():
                _unpack(source, info, partial / PurePosixPath(info.filename).name)
            entry = read_entry(partial)
            if entry.problem:
                raise InputError(entry.problem)
            title = entry.title
            for file in (IMAGE_FILE, MASKS_FILE):
                check_nrrd(partial / file, entry.size_ijk, MOST_FILE_BYTES)

            case = load_files(entry)
            saved = library.save(
                case.volume,
                case.segmentation,
                distinct_title(entry.title, (other.title for other in library.entries())),
                entry.annotator,
                entry.modality,
                entry.notes,
                entry.slices,
                identifying=entry.identifying,
                patient=entry.patient,
            )
        except OutputError:
            raise
        except ProxyPromptError as error:
            said = str(error).replace(str(partial), name)
            return ImportedCase(title, None, f"The case '{title}' was not imported: {said}")
        except MemoryError:
            return ImportedCase(title, None, f"The case '{title}' was not imported: it does not fit into memory.")
    return ImportedCase(title, changed(saved, already_there=False), already_there=saved.already_there)


def _unpack(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpack one member, never more bytes than its directory entry states.

    Raises:
        InputError: If it is damaged, encrypted or longer than stated.
    """
    try:
        with source.open(info) as member, target.open("wb") as file:
            _copy(member, file, info)
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{target.name} cannot be unpacked (it is damaged); export or copy the file again.") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        reason = "it is encrypted" if info.flag_bits & 1 else str(error).split("'")[0].strip() or "it is cut short"
        raise InputError(f"{target.name} cannot be unpacked ({reason}); export or copy the file again.") from None


def _copy(member: IO[bytes], file: IO[bytes], info: zipfile.ZipInfo) -> None:
    left = info.file_size
    while block := member.read(_BLOCK):
        left -= len(block)
        if left < 0:
            raise ValueError("it is longer than the zip file states")
        file.write(block)
    with suppress(OSError):
        file.flush()
