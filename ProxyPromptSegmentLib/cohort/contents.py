"""Hashes of what studies and supports contain, kept as long as files look the same, so that an archive is read once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ProxyPromptSegmentLib.cohort.writing import read_json, write_json
from ProxyPromptSegmentLib.errors import InputError, ProxyPromptError
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom
from ProxyPromptSegmentLib.imaging.dicom.series import files_of, series_of
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.readers.detached import files_of_header
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.weights.hashing import sha256

_DETACHED = (".nhdr", ".seg.nhdr", ".mhd")
"""Suffixes of headers whose voxels lie in other files; those of whole files may do so as well."""


def content_sha256(path: Path) -> str:
    """Return the SHA-256 of a study's content.

    Of a file it is that of its bytes; of several files (a DICOM folder, the series of a DICOM file) that of their names
    and hashes in order; of a header whose voxels lie in another file that of header and voxels.

    Raises:
        InputError: If it cannot be read.
    """
    if path.exists() and not (path.is_dir() or path.is_file()):  # a pipe, which would be waited for
        raise InputError(f"{path.name} is no ordinary file; give an image file or a folder with a DICOM series.")
    try:
        files = _files(path)
        if len(files) == 1 and not path.is_dir():
            own, detached = sha256(path), suffix_of(path) in _DETACHED or len(files_of_header(path)) > 1
            return _joined([own, _voxels(path)]) if detached else own
        return _joined([f"{os.fsencode(file.name)!r}\t{sha256(file)}" for file in files])
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read ({error.strerror or error}); check that it exists, and its permissions."
        ) from None


def _files(path: Path) -> list[Path]:
    """Return the files of a study."""
    if path.is_dir():
        return files_of(path)
    if is_dicom(path):
        try:
            return sorted(series_of(path).files)
        except ProxyPromptError:
            return [path]  # reading it says what is wrong
    return [path]


def _voxels(path: Path) -> str:
    try:
        return hashlib.sha256(read_stored(path).array.tobytes()).hexdigest()
    except ProxyPromptError:
        return "unreadable"  # reading it says why


def _joined(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def stamp_of(path: Path) -> str:
    """Return sizes and times of a study's files, which change if it is changed; reads no voxels.

    Raises:
        InputError: If it does not exist or may not be read.
    """
    try:
        # What lies beside a DICOM file may belong to it: the other slices of a series.
        several = path.is_dir() or is_dicom(path)
        files = files_of(path if path.is_dir() else path.parent) if several else files_of_header(path)
        facts = [(os.fsencode(file.name), file.stat()) for file in files if file == path or file.exists()]
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read ({error.strerror or error}); check that it exists, and its permissions."
        ) from None
    lines = [f"{name!r} {one.st_size} {one.st_mtime_ns} {one.st_ctime_ns}" for name, one in facts]
    return _joined(lines)


def place_id(path: Path) -> str:
    """Return a hash of a study's path, by which what is known of it is found."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:32]


class Inputs:
    """The hashes of the studies' contents that are known, one small file each."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which exists."""
        self._folder = folder

    def known(self, path: Path) -> str | None:
        """Return the hash of a study whose files look as they did when it was computed; None otherwise.

        Raises:
            InputError: As `stamp_of`.
        """
        return self._known(path, stamp_of(path))

    def agree(self, path: Path, stamp: str, digest: str) -> bool:
        """Return whether a study's files had a stamp when their hash was computed, and this hash."""
        return self._known(path, stamp) == digest

    def _known(self, path: Path, stamp: str) -> str | None:
        found = read_json(self._file(path))
        if found is None or found.get("stamp") != stamp:
            return None
        digest = found.get("sha256")
        return digest if isinstance(digest, str) else None

    def of(self, path: Path) -> str:
        """Return the hash of a study, computed and kept if it is not known.

        Raises:
            InputError: If it cannot be read.
            OutputError: If the hash cannot be written.
        """
        known = self.known(path)
        if known is not None:
            return known
        stamp = stamp_of(path)  # before it is read: what changes meanwhile differs from it
        digest = content_sha256(path)
        write_json(self._file(path), {"path": str(path), "stamp": stamp, "sha256": digest})
        return digest

    def _file(self, path: Path) -> Path:
        return self._folder / f"{place_id(path)}.json"
