"""File names and their suffixes, including double ones such as .nii.gz."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".nii.gz")
_MOST_MEANT = 3  # names that a message offers
_LEAST_ALIKE = 0.8  # of `difflib`, from which a name may be a misspelt one


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


def not_there(path: Path, wanted: str) -> str:
    """Return a sentence about a path that does not exist: which names like it do, or else what is wanted.

    Args:
        path: The path.
        wanted: What to give, such as "an image file".
    """
    if path.is_symlink():
        return f"{path} is a link to {os.readlink(path)}, which does not exist; give {wanted}."
    meant = _names_like(path)
    if meant:
        return f"{path} does not exist; did you mean {' or '.join(meant)}?"
    lost = next((folder for folder in reversed(path.parents) if not folder.exists()), None)
    where = "" if lost is None else f", because there is no folder {lost}"
    return f"{path} does not exist{where}; give {wanted}."


def _names_like(path: Path) -> list[str]:
    """Return names in a path's folder that differ in suffix, capitals or few letters, the likeliest first.

    Those with other numbers are not among them: they are of other patients, visits or series.
    """
    try:
        names = sorted(name for name in os.listdir(path.parent) if not name.startswith("."))
    except OSError:
        return []
    wanted = path.name.casefold()
    same = [name for name in names if wanted in (name.casefold(), stem_of(Path(name)).casefold())]
    stem = stem_of(path).casefold()
    other = [name for name in names if stem and stem_of(Path(name)).casefold() == stem]
    lower = {name.casefold(): name for name in names if _numbers_in(name) == _numbers_in(path.name)}
    spelt = [lower[name] for name in difflib.get_close_matches(wanted, lower, _MOST_MEANT, _LEAST_ALIKE)]
    return list(map(one_line, (same or other or spelt)[:_MOST_MEANT]))


def _numbers_in(name: str) -> list[str]:
    return re.findall(r"[0-9]+", stem_of(Path(name)))
