"""Voxels of NRRD files: attached or in one other file, packed or as text, in the byte order that the header says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.readers.nrrd_header import (
    MOST_HEADER,
    NRRD_TYPES,
    NrrdHeader,
    numbers_in,
    read_header,
)
from ProxyPromptSegmentLib.imaging.readers.voxels import cut_short, declared_bytes, read_voxels

_PACKINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TEXTS = ("txt", "text", "ascii")


def read_axes(path: Path) -> tuple[npt.NDArray[Any], NrrdHeader, list[int]]:
    """Return the voxels of a file as they are, slowest axis first, its header and its sizes, fastest axis first.

    Raises:
        InputError: If it is damaged.
    """
    header = read_header(path)
    dtype, sizes = form_of(header, path.name)
    return voxels_of(path, header, dtype, sizes), header, sizes


def form_of(header: NrrdHeader, name: str) -> tuple[np.dtype[Any], list[int]]:
    """Return type and sizes of the voxels."""
    fields = header.fields
    try:
        sizes = [int(word) for word in fields["sizes"].split()]
        dtype = np.dtype(NRRD_TYPES[" ".join(fields["type"].lower().split())])
        if int(fields["dimension"]) != len(sizes):
            raise ValueError
    except (KeyError, ValueError):
        given = f"{fields.get('sizes', 'no sizes')[:40]}, {fields.get('type', 'no type')[:20]}"
        raise InputError(
            f"the header of {name} gives no dimension, sizes and type that fit together ({given}). Export it again."
        ) from None
    declared_bytes(sizes, dtype, name)
    return dtype, sizes


def voxels_of(path: Path, header: NrrdHeader, dtype: np.dtype[Any], sizes: list[int]) -> npt.NDArray[Any]:
    """Return the voxels, slowest axis first."""
    fields, name = header.fields, path.name
    encoding = fields.get("encoding", "").lower()
    if encoding not in _TEXTS:
        dtype = ordered(dtype, fields, name)
    source, offset = path, header.end
    if "data file" in fields:
        source, offset = _detached(path, fields["data file"]), 0
    lines, skip = (
        int(n[0]) if (n := numbers_in(fields.get(key, "0"), name, key)) else 0 for key in ("line skip", "byte skip")
    )
    if lines < 0 or lines > 10_000 or skip < -1 or (skip and encoding in _TEXTS):
        raise InputError(
            f"{name} skips {lines} lines and {skip} bytes; export it again with its voxels at the beginning."
        )
    if lines:
        with source.open("rb") as file:
            file.seek(offset)
            for _ in range(lines):
                file.readline(MOST_HEADER)
            offset = file.tell()
    if encoding in _TEXTS:
        return _from_text(source, offset, dtype, sizes, name)
    if encoding not in _PACKINGS:
        raise InputError(f"{name} has the encoding '{encoding[:20] or 'none'}'; allowed are raw, gzip, bzip2 and text.")
    packing = _PACKINGS[encoding]
    if skip and packing != "raw":
        raise InputError(f"{name} skips {skip} bytes of packed voxels; export it again without that.")
    total = declared_bytes(sizes, dtype, name)
    if skip == -1:
        offset = source.stat().st_size - total
        if offset < 0:
            raise cut_short(name, total, source.stat().st_size)
    return read_voxels(source, offset + max(0, skip), packing, dtype, sizes, name)


def ordered(dtype: np.dtype[Any], fields: dict[str, str], name: str) -> np.dtype[Any]:
    """Return a type of voxels in the byte order of a header.

    Raises:
        InputError: If it gives none, and values have several bytes.
    """
    if dtype.itemsize > 1 and "endian" not in fields:
        raise InputError(
            f"{name} does not say in which order the bytes of its values lie (endian); save it again with a program "
            "that writes it."
        )
    return dtype.newbyteorder(">") if fields.get("endian", "little").lower() == "big" else dtype


def _from_text(source: Path, offset: int, dtype: np.dtype[Any], sizes: list[int], name: str) -> npt.NDArray[Any]:
    """Return voxels that are written as numbers."""
    most = math.prod(sizes) * 32 + 1024
    with source.open("rb") as file:
        file.seek(offset)
        text = file.read(most)
    try:
        numbers = [float(word) for word in text.replace(b",", b" ").split()]
        found = np.array(numbers, np.float64)
    except (ValueError, OverflowError):
        raise InputError(f"{name} is damaged: what should be numbers are none. Copy or export it again.") from None
    if found.size != math.prod(sizes) or (dtype.kind in "iu" and not np.array_equal(found.astype(dtype), found)):
        raise InputError(
            f"{name} declares {math.prod(sizes)} voxels and has {found.size} numbers, or some do not fit their type. "
            "Export it again."
        )
    return found.astype(dtype).reshape(sizes[::-1])


def _detached(path: Path, text: str) -> Path:
    """Return the file that holds the voxels of a header."""
    words = text.split()
    if not text or words[0].upper() == "LIST" or "%" in text or "\0" in text:
        raise InputError(f"{path.name} has its voxels in several files; save it as one .nrrd file.")
    try:
        source = path.parent / text
        there = source.is_file()
    except (OSError, ValueError):
        there = False
    if not there:
        raise InputError(
            f"the voxels of {path.name} should be in {text[:100]}, which is no file; copy it to the same place."
        )
    return source
