"""NRRD files (Teem): the header's own lines, and where the axes lie."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.readers.stored import Stored, grid_from, too_many_axes, wrong_channels
from ProxyPromptSegmentLib.imaging.readers.voxels import cut_short, declared_bytes, read_voxels

NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": "signed char,int8,int8_t", "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t", "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t", "f4": "float", "f8": "double",
    }.items()
    for name in names.split(",")
}  # fmt: skip
_PACKINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TEXTS = ("txt", "text", "ascii")
_MOST_HEADER, _MOST_LINE, _MOST_LINES = 16 << 20, 4096, 200_000
_SAME = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins"}
_LENGTHS = ("um", "µm", "micron", "microns", "micrometer", "micrometers", "nm", "cm", "m", "in", "inch", "inches")
_SPACES = {
    "right-anterior-superior": (-1, -1), "ras": (-1, -1), "left-anterior-superior": (1, -1), "las": (1, -1),
    "left-posterior-superior": (1, 1), "lps": (1, 1), "scanner-xyz": (1, 1), "3d-right-handed": (1, 1),
    "3d-left-handed": (1, 1), "": (1, 1),
}  # fmt: skip
"""Signs of the first two axes in LPS; those of no body are read as they are."""


@dataclass(frozen=True, kw_only=True)
class NrrdHeader:
    """The header of a NRRD file.

    Attributes:
        fields: Values by their names in lower case.
        pairs: Key/value pairs.
        end: Where the header ends in its file.
    """

    fields: dict[str, str]
    pairs: dict[str, str]
    end: int


def read_header(path: Path) -> NrrdHeader:
    """Read the lines of a header.

    Raises:
        InputError: If it is none, or longer than any.
    """
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    with path.open("rb") as file:
        if not file.readline(16).startswith(b"NRRD000"):
            raise InputError(
                f"{path.name} is not a NRRD file, or is damaged at its beginning. Copy or export it again."
            )
        for _ in range(_MOST_LINES):
            line = file.readline(_MOST_HEADER)
            if file.tell() > _MOST_HEADER:
                break
            text = line.rstrip(b"\r\n").decode("utf-8", "replace")
            if not text:
                return NrrdHeader(fields=fields, pairs=pairs, end=file.tell())
            if text.startswith("#"):
                continue
            name, colon, value = text.partition(":")
            if value.startswith("="):
                pairs[name] = value[1:]
            elif colon and len(text) <= _MOST_LINE:
                key = name.strip().lower()
                fields[_SAME.get(key, key)] = value.strip()
            elif len(text) > _MOST_LINE or not text.isprintable():
                break
            else:
                raise InputError(f"{path.name} has a header line that says nothing ('{text[:40]}'); export it again.")
    raise InputError(
        f"the header of {path.name} is damaged: it has no end, or a line of it is too long. Export it again."
    )


def _numbers(text: str, name: str, what: str) -> list[float]:
    """Return the numbers of a field."""
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        raise InputError(f"{name} has '{text[:40]}' as its {what}, which are not numbers. Export it again.") from None


def _vectors(text: str, name: str) -> list[list[float] | None]:
    """Return the vectors of a field, None for ``none``."""
    found: list[list[float] | None] = []
    for part in text.replace(")", ") ").split():
        if part.lower() == "none":
            found.append(None)
            continue
        if not (part.startswith("(") and part.endswith(")")):
            return [_one(word, name) for word in _split_vectors(text, name)]
        found.append(_one(part, name))
    return found


def _split_vectors(text: str, name: str) -> list[str]:
    """Return the vectors of a field that has blanks inside the brackets."""
    if text.count("(") != text.count(")"):
        raise InputError(f"{name} has '{text[:40]}' as its directions or origin. Export it again.")
    parts, depth, word = [], 0, ""
    for letter in text + " ":
        depth += (letter == "(") - (letter == ")")
        if letter.isspace() and depth == 0:
            parts += [word] if word else []
            word = ""
        elif not letter.isspace():
            word += letter
    return parts


def _one(word: str, name: str) -> list[float] | None:
    """Return one vector."""
    if word.lower() == "none":
        return None
    try:
        numbers = [float(x) for x in word.strip("()").split(",")]
    except ValueError:
        raise InputError(f"{name} has '{word[:40]}' as a direction or origin. Export it again.") from None
    return None if all(math.isnan(x) for x in numbers) else numbers


def read_axes(path: Path) -> tuple[npt.NDArray[Any], NrrdHeader, list[int]]:
    """Return the voxels of a file as they are, slowest axis first, its header and its sizes, fastest axis first.

    Raises:
        InputError: If it is damaged.
    """
    header = read_header(path)
    dtype, sizes = _form(header, path.name)
    return _read(path, header, dtype, sizes), header, sizes


def _form(header: NrrdHeader, name: str) -> tuple[np.dtype[Any], list[int]]:
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


def read_nrrd(path: Path) -> Stored:
    """Read a NRRD file of one volume, attached or with its voxels in one other file.

    Raises:
        InputError: If it is damaged, has several volumes, or a place that is none.
    """
    header, name = read_header(path), path.name
    fields = header.fields
    dtype, sizes = _form(header, name)
    space, channel = _axes(fields, sizes, name)
    if channel is not None and sizes[channel] > 4:
        raise wrong_channels(name, sizes[channel], dtype)
    array = _read(path, header, dtype, sizes)
    order = [len(sizes) - 1 - n for n in reversed(space)]
    array = array.transpose(
        [*order, *([] if channel is None else [len(sizes) - 1 - channel]), *_dropped(space, channel, sizes)]
    )
    shape = [sizes[n] for n in reversed(space)]
    array = array.reshape([1] * (3 - len(space)) + shape + ([] if channel is None else [sizes[channel]]))
    affine, known = _affine(fields, space, name)
    size = (array.shape[2], array.shape[1], array.shape[0])
    notes = () if known else (f"{name} does not say how large its voxels are; results are in voxels, not in mm.",)
    return Stored(array=array, geometry=grid_from(affine, size, name), has_spacing=known, notes=notes)


def _dropped(space: list[int], channel: int | None, sizes: list[int]) -> list[int]:
    """Return the array axes of length 1 that are neither."""
    return [len(sizes) - 1 - n for n in range(len(sizes)) if n not in space and n != channel]


def _axes(fields: dict[str, str], sizes: list[int], name: str) -> tuple[list[int], int | None]:
    """Return the axes in space, fastest first, and the one of several values per voxel, if there is one."""
    kinds = fields.get("kinds", "").lower().split()
    kinds = kinds if len(kinds) == len(sizes) else ["???"] * len(sizes)
    vectors = _vectors(fields["space directions"], name) if "space directions" in fields else [[0.0]] * len(sizes)
    if len(vectors) != len(sizes):
        raise InputError(f"{name} has {len(sizes)} axes and {len(vectors)} directions; export it again.")
    valued = ("color", "vector", "complex", "matrix", "quaternion", "point", "normal", "gradient", "list")
    others = [n for n, kind in enumerate(kinds) if vectors[n] is None or kind.endswith(valued) or kind == "time"]
    space = [n for n in range(len(sizes)) if n not in others]
    while len(space) > 3 and sizes[space[-1]] == 1:
        others.append(space.pop())
    channels = [n for n in others if sizes[n] > 1]
    if len(space) > 3 or len(space) < 2 or len(channels) > 1 or (channels and channels[0] != 0):
        raise too_many_axes(name, sizes)
    if channels and (kinds[channels[0]] in ("list", "time", "???", "none")):
        raise too_many_axes(name, sizes)
    return space, channels[0] if channels else None


def _read(path: Path, header: NrrdHeader, dtype: np.dtype[Any], sizes: list[int]) -> npt.NDArray[Any]:
    """Return the voxels, slowest axis first."""
    fields, name = header.fields, path.name
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in _TEXTS:
        dtype = ordered(dtype, fields, name)
    source, offset = path, header.end
    if "data file" in fields:
        source, offset = _detached(path, fields["data file"]), 0
    lines, skip = (
        int(n[0]) if (n := _numbers(fields.get(key, "0"), name, key)) else 0 for key in ("line skip", "byte skip")
    )
    if lines < 0 or lines > 10_000 or skip < -1 or (skip and encoding in _TEXTS):
        raise InputError(
            f"{name} skips {lines} lines and {skip} bytes; export it again with its voxels at the beginning."
        )
    if lines:
        with source.open("rb") as file:
            file.seek(offset)
            for _ in range(lines):
                file.readline(_MOST_HEADER)
            offset = file.tell()
    if encoding in _TEXTS:
        return _from_text(source, offset, dtype, sizes, name)
    if encoding not in _PACKINGS:
        raise InputError(f"{name} has the encoding '{encoding[:20]}'; allowed are raw, gzip, bzip2 and text.")
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


def signs_to_lps(fields: dict[str, str], name: str) -> tuple[int, int]:
    """Return the signs of the first two axes of a header's space in LPS.

    Raises:
        InputError: If its space is unknown, or in another unit than mm: other programs take those for mm, so that
            results would not fit.
    """
    for unit in re.findall(r'"([^"]*)"', fields.get("space units", "")):
        if unit.strip().lower() in _LENGTHS:
            raise InputError(f"{name} gives lengths in {unit.strip()}; mm are read. Convert its directions to mm.")
    called = fields.get("space", "").lower().removesuffix("-time")
    found = _SPACES.get(called) or _SPACES.get(called.removesuffix("t"))  # RAST and the like have a time
    if found is None:
        raise InputError(f"{name} has '{called[:40]}' as its space, which NRRD does not know. Export it again.")
    return found


def _affine(fields: dict[str, str], space: list[int], name: str) -> tuple[npt.NDArray[np.float64], bool]:
    """Return the matrix from indices to LPS, and whether the header gives the spacing."""
    affine = np.eye(4)
    if "space directions" in fields:
        vectors = _vectors(fields["space directions"], name)
        for column, axis in enumerate(space):
            vector = vectors[axis]
            while vector is not None and len(vector) > 3 and vector[-1] == 0:  # of a space with time
                vector = vector[:-1]
            if vector is None or len(vector) not in (2, 3):
                raise InputError(f"{name} gives no direction for one of its axes in space; export it again.")
            affine[:3, column] = 0
            affine[: len(vector), column] = vector
        signs = signs_to_lps(fields, name)
        origin = _vectors(fields.get("space origin", "none"), name)
        if origin and origin[0] is not None:
            start = origin[0][:3]
            affine[: len(start), 3] = start
        affine[0] *= signs[0]
        affine[1] *= signs[1]
        if len(space) == 2:
            across = np.cross(affine[:3, 0], affine[:3, 1])
            affine[:3, 2] = across / (np.linalg.norm(across) or 1.0)
        return affine, True
    spacings = _numbers(fields.get("spacings", ""), name, "spacings")
    known = bool(spacings) and all(axis < len(spacings) and math.isfinite(spacings[axis]) for axis in space)
    for column, axis in enumerate(space):
        if known:
            affine[column, column] = spacings[axis]
    mins = _numbers(fields.get("axis mins", ""), name, "axis mins")
    if len(mins) > max(space) and all(math.isfinite(mins[axis]) for axis in space):
        affine[: len(space), 3] = [mins[axis] for axis in space]
    return affine, known
