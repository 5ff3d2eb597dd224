"""Cases of the library as one zip file, to be given to somebody else; what comes back is distrusted.

The file has ``cases/NAME/`` with the files of a case for each. What is imported is read, checked by its hashes and
saved anew, so that nothing else of the file gets into the library.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from ProxyPromptSegmentLib.errors import InputError, OutputError, ProxyPromptError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.library.entry import (
    CASE_FILE,
    IMAGE_FILE,
    MASKS_FILE,
    MOST_JSON_BYTES,
    THUMBNAIL_FILE,
    LibraryEntry,
    read_entry,
    to_json,
)
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.progress import CancelToken, Progress

MOST_CASES = 10_000
MOST_FILE_BYTES = 8 << 30
"""An image may have so many bytes, packed or unpacked."""

_ROOT = "cases"
_MOST = {CASE_FILE: MOST_JSON_BYTES, IMAGE_FILE: MOST_FILE_BYTES, MASKS_FILE: MOST_FILE_BYTES}
_BLOCK = 1 << 20
_RESERVE = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)  # the date of a file says when a patient was marked


@dataclass(frozen=True)
class ImportedCase:
    """What became of one case of a zip file.

    Attributes:
        title: The case's title in the file, or the name of its folder.
        entry: The case in the library; None if it was refused.
        refusal: Why it was refused, as a sentence; empty if it was not.
        already_there: Whether the library had it before.
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
) -> Path | None:
    """Writes cases into a zip file.

    Args:
        library: Where the cases are.
        entries: Which of them; each is read and checked before.
        path: Name of the file, ending in ``.zip``.
        with_identifying: Whether to keep what names the patient, where a case has it.
        progress: Told of each case.
        cancel: Looked at between cases; no file is left then.

    Returns:
        The path; None if it was cancelled.

    Raises:
        UsageError: If no case was given.
        InputError: If a case is damaged.
        OutputError: If the file cannot be written; nothing half-written is left.
    """
    path, progress, cancel = Path(path), progress or Progress(), cancel or CancelToken()
    if not entries:
        raise UsageError("No case was chosen; name at least one to export.")
    check_output_path(path, (".zip",))
    progress.start(len(entries), "exporting")
    try:
        with safe_output(path) as partial:
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
    """Leaves `safe_output` without a file."""


def _export_case(target: zipfile.ZipFile, folder: str, entry: LibraryEntry, with_identifying: bool) -> None:
    """Adds one case. Image and masks are packed already."""
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
    """Takes the cases of a zip file into the library; each one whole or not at all.

    Files that are none of a case's are left alone.

    Args:
        library: Where to put them.
        path: A file of `export_zip`.
        progress: Told of each case.
        cancel: Looked at between cases; those that are done stay.

    Returns:
        One answer per case, in the order of the file: what was taken, was there before, or was refused and why.

    Raises:
        InputError: If the file is no zip file, has no case, names places outside of it, or is far larger than cases
            can be; nothing was taken then.
        OutputError: If the library cannot be written; cases that were taken before stay.
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
    """The file as a zip file.

    Raises:
        InputError: If it is missing or none.
    """
    try:
        source = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a zip file of support cases.") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise InputError(f"{path.name} is no zip file, or was not copied completely; export it again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); change its permissions.") from None
    with source:
        yield source


def _cases_in(source: zipfile.ZipFile, path: Path) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """For each case in the file its members by the name of the file.

    Raises:
        InputError: If a member's name leads elsewhere, is a link, is there twice, or the sizes are absurd.
    """
    cases: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in source.infolist():
        parts = PurePosixPath(info.filename).parts
        raw = info.orig_filename  # zipfile itself cuts names at a zero byte and turns separators
        unsafe = raw.startswith("/") or "\\" in raw or "\0" in raw or ":" in raw or ".." in parts
        if unsafe or stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(
                f"{path.name} was refused: its member {raw[:80]!r} leads outside of the file's own folder. Nothing was "
                "imported; it was not made by this program, ask where it comes from."
            )
        if len(parts) != 3 or parts[0] != _ROOT or parts[2] not in _MOST or info.is_dir():
            continue
        members = cases.setdefault(parts[1], {})
        if parts[2] in members:
            raise InputError(f"{path.name} was refused: it has {info.filename[:80]!r} twice. Nothing was imported.")
        if info.file_size > _MOST[parts[2]]:
            raise InputError(
                f"{path.name} was refused: {info.filename[:80]!r} would have {info.file_size / 2**30:.1f} GiB, more "
                f"than the {_MOST[parts[2]] / 2**30:.3g} GiB that are allowed. Nothing was imported."
            )
        members[parts[2]] = info
    if not cases or len(cases) > MOST_CASES:
        raise InputError(f"{path.name} has {len(cases)} support cases; a file has 1 to {MOST_CASES}.")
    return cases


def _import_case(
    library: SupportLibrary, source: zipfile.ZipFile, name: str, members: dict[str, zipfile.ZipInfo]
) -> ImportedCase:
    """Unpacks one case into a hidden folder, checks it and saves it anew.

    Raises:
        OutputError: If the library cannot be written.
    """
    from ProxyPromptSegmentLib.library.header_check import check_nrrd

    title = name
    with library.partial_folder() as partial:
        try:
            need, free = sum(info.file_size for info in members.values()), shutil.disk_usage(partial).free
            if need + _RESERVE > free:
                raise OutputError(
                    f"{need / 2**20:.0f} MiB are needed in {library.folder}, {free / 2**20:.0f} MiB are free; free "
                    "some space and import again."
                )
            for info in members.values():
                _unpack(source, info, partial / PurePosixPath(info.filename).name)
            entry = read_entry(partial)
            if entry.problem:
                raise InputError(entry.problem)
            title = entry.title
            for file in (IMAGE_FILE, MASKS_FILE):
                check_nrrd(partial / file, entry.size_ijk, MOST_FILE_BYTES)
            from ProxyPromptSegmentLib.library.files import load_files

            case = load_files(entry)
            saved = library.save(
                case.volume,
                case.segmentation,
                entry.title,
                entry.annotator,
                entry.modality,
                entry.notes,
                entry.slices,
                identifying=entry.identifying,
            )
        except OutputError:
            raise
        except ProxyPromptError as error:
            said = str(error).replace(str(partial), name)
            return ImportedCase(title, None, f"The case '{title}' was not imported: {said}")
        except MemoryError:
            return ImportedCase(title, None, f"The case '{title}' was not imported: it does not fit into the memory.")
    return ImportedCase(title, replace(saved, already_there=False), already_there=saved.already_there)


def _unpack(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpacks one member, not one byte more than its directory promised.

    Raises:
        InputError: If it is damaged, encrypted or longer than promised.
    """
    try:
        with source.open(info) as member, target.open("wb") as file:
            _copy(member, file, info)
    except OSError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        reason = "it is encrypted" if info.flag_bits & 1 else str(error).split("'")[0].strip() or "it is cut short"
        raise InputError(f"{target.name} cannot be unpacked ({reason}); export or copy the file again.") from None


def _copy(member: IO[bytes], file: IO[bytes], info: zipfile.ZipInfo) -> None:
    left = info.file_size
    while block := member.read(_BLOCK):
        left -= len(block)
        if left < 0:
            raise ValueError("it is longer than the zip file says")
        file.write(block)
    with suppress(OSError):
        file.flush()
