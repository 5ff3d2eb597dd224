"""Names of files: suffixes, double ones such as .nii.gz among them."""

from __future__ import annotations

from pathlib import Path

_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".nii.gz")


def stem_of(path: Path) -> str:
    """The file's name without ``.nii.gz``, ``.seg.nrrd`` or its one suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def suffix_of(path: Path) -> str:
    """The suffix in lower case, with double ones such as ``.nii.gz`` and ``.seg.nrrd`` kept whole."""
    lower = path.name.lower()
    return next((s for s in _SUFFIXES if lower.endswith(s)), path.suffix.lower())
