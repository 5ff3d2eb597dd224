"""MetaImage files (.mha, .mhd): lines ``Key = Value``, then the voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.readers.stored import Stored, grid_from, too_many_axes
from ProxyPromptSegmentLib.imaging.readers.voxels import declared_bytes, read_voxels

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_MOST_LINES, _MOST_LINE = 1000, 1 << 16
_TRUE = ("true", "1", "t", "yes")


def read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header by their names in lower case, and where it ends.

    Raises:
        InputError: If it is damaged.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_MOST_LINES):
            line = file.readline(_MOST_LINE)
            name, equals, value = line.decode("utf-8", "replace").partition("=")
            if not equals or not line.endswith(b"\n") and name.strip().lower() != "elementdatafile":
                break
            key = name.strip().lower()
            if fields.setdefault(key, value.strip()) != value.strip():
                raise InputError(f"the header of {path.name} says '{name.strip()}' twice, not alike. Export it again.")
            if key == "elementdatafile":
                return fields, file.tell()
    raise InputError(f"the header of {path.name} is damaged: it does not say where its voxels are. Export it again.")


def read_meta(path: Path) -> Stored:
    """Read a MetaImage of one volume.

    Raises:
        InputError: If it is damaged, has several volumes, or a place that is none.
    """
    fields, end = read_fields(path)
    name = path.name

    def words(*keys: str) -> list[str]:
        return next((fields[key].split() for key in keys if fields.get(key)), [])

    try:
        sizes = [int(word) for word in words("dimsize")]
        dtype = np.dtype(_TYPES[fields.get("elementtype", "").upper()])
        channels = int(fields.get("elementnumberofchannels") or 1)
        n = int(fields.get("ndims") or 0)
        matrix = [float(word) for word in words("transformmatrix", "rotation", "orientation")]
        offset = [float(word) for word in words("offset", "position", "origin")]
        spacing = [float(word) for word in words("elementspacing", "elementsize")]
        skip = int(fields.get("headersize") or 0)
        if n != len(sizes) or channels < 1 or (matrix and len(matrix) != n * n) or len(offset) not in (0, n):
            raise ValueError
        if len(spacing) not in (0, n):
            raise ValueError
    except (KeyError, ValueError):
        raise InputError(
            f"the header of {name} gives no sizes, type and place that fit together; allowed types are "
            f"{', '.join(sorted(set(_TYPES)))}. Export it again."
        ) from None
    declared_bytes([channels, *sizes], dtype, name)
    while n > 3 and sizes[-1] == 1:
        n -= 1
        matrix = [x for row in range(n) for x in matrix[row * (n + 1) : row * (n + 1) + n]] if matrix else []
        sizes, offset, spacing = sizes[:n], offset[:n], spacing[:n]
    if n not in (2, 3):
        raise too_many_axes(name, sizes)
    if fields.get("binarydata", "true").lower() not in _TRUE:
        raise InputError(f"{name} has its voxels as text; save it again as binary data.")
    if fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "false")).lower() in _TRUE:
        dtype = dtype.newbyteorder(">")
    source, end = _voxel_file(path, fields["elementdatafile"], end)
    if skip == -1:
        end = source.stat().st_size - declared_bytes([channels, *sizes], dtype, name)
    elif skip > 0:
        end += skip
    elif skip < -1 or end < 0:
        raise InputError(f"{name} has a header of {skip} bytes; export it again.")
    packing = "zlib" if fields.get("compresseddata", "false").lower() in _TRUE else "raw"
    array = read_voxels(source, max(0, end), packing, dtype, [channels, *sizes] if channels > 1 else sizes, name)
    affine = np.eye(4)
    directions = np.array(matrix).reshape(n, n).T if matrix else np.eye(n)
    affine[:n, :n] = directions * np.array(spacing or [1.0] * n)
    affine[:n, 3] = offset or 0.0
    shape = (sizes[0], sizes[1], sizes[2] if n == 3 else 1)
    array = array.reshape((*shape[::-1], *([channels] if channels > 1 else [])))
    notes = () if spacing else (f"{name} does not say how large its voxels are; results are in voxels, not in mm.",)
    return Stored(array=array, geometry=grid_from(affine, shape, name), has_spacing=bool(spacing), notes=notes)


def _voxel_file(path: Path, text: str, end: int) -> tuple[Path, int]:
    """Return the file with the voxels, and where they begin in it."""
    if text.upper() == "LOCAL":
        return path, end
    if text.upper().startswith("LIST") or "%" in text or "\0" in text or len(text) > 500:
        raise InputError(f"{path.name} has its voxels in several files; save it as one .mha file.")
    source = path.parent / text
    try:
        there = source.is_file()
    except OSError:
        there = False
    if not there:
        raise InputError(
            f"the voxels of {path.name} should be in {text[:100]}, which is no file; copy it to the same place."
        )
    return source, 0
