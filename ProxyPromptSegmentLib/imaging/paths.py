"""File names and their suffixes, including double ones such as .nii.gz."""

from __future__ import annotations

import os
from pathlib import Path

_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".nii.gz")


def stem_of(path: Path) -> str:
    """Return the file name without its suffix, a double one such as ``.nii.gz`` included."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case; double ones such as ``.nii.gz`` and ``.seg.nrrd`` in full."""
    lower = path.name.lower()
    return next((s for s in _SUFFIXES if lower.endswith(s)), path.suffix.lower())


def is_utf8(path: Path) -> bool:
    """Return whether a path's name is UTF-8, as libraries in C++ want it; on old file servers, some are Latin-1."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def one_line(name: str) -> str:
    """Return a name for messages and pictures: line breaks and what cannot be shown become question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def shortened(name: str, most_bytes: int) -> str:
    """Return the beginning of a name in at most so many bytes of UTF-8; what is not UTF-8 is left out."""
    return name.encode("utf-8", "ignore")[:most_bytes].decode("utf-8", "ignore")


def same_place(path: Path) -> Path:
    """Return a path without links, as far as they lead anywhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return Path(os.path.abspath(path))
