"""File names and their suffixes, including double ones such as .nii.gz."""

from __future__ import annotations

from pathlib import Path

_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".nii.gz")


def stem_of(path: Path) -> str:
    """Return the file name without its suffix, a double one such as ``.nii.gz`` included."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case; double ones such as ``.nii.gz`` and ``.seg.nrrd`` in full."""
    lower = path.name.lower()
    return next((s for s in _SUFFIXES if lower.endswith(s)), path.suffix.lower())
