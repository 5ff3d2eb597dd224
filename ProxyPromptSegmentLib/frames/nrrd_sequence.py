"""Slicer sequences and four-dimensional NRRD files, read as far as they are complete."""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.frames.source import Frame, FrameSource, numbers_of
from ProxyPromptSegmentLib.frames.stack import FrameStack, temporary_file
from ProxyPromptSegmentLib.imaging.geometry import FloatArray, VolumeGeometry
from ProxyPromptSegmentLib.imaging.readers.nrrd import signs_to_lps
from ProxyPromptSegmentLib.imaging.readers.nrrd_header import NRRD_TYPES, read_header
from ProxyPromptSegmentLib.imaging.readers.nrrd_voxels import form_of, ordered, read_axes
from ProxyPromptSegmentLib.imaging.readers.voxels import check_exact

_PIECE = 1 << 13  # bytes that are unpacked together, and lost together where the file is damaged


def open_sequence(path: Path) -> FrameSource | None:
    """Open a NRRD sequence as written by Slicer and ITK; return None if the file is a single volume."""
    import nrrd

    with path.open("rb") as file:
        try:
            form_of(read_header(path), path.name)  # pynrrd compares neither numbers nor the header's end
            header: dict[str, Any] = dict(nrrd.read_header(file))
            offset = file.tell()
            sizes = [int(n) for n in header["sizes"]]
            time, colour, space = _axes_of(header, len(sizes), path.name)
            dtype = np.dtype(NRRD_TYPES[str(header["type"]).lower()])
        except InputError:
            raise
        except Exception:  # noqa: BLE001  # a damaged header can fail anywhere in pynrrd; the volume reader reports the reason
            return None
    if time is None or min(sizes) < 1:
        return None
    shape = tuple(sizes[n] for n in reversed(space))
    size = (1,) * (3 - len(shape)) + shape
    if min(size) > 1 and sizes[time] == 1:
        return None
    if min(size) > 1:
        raise InputError(
            f"{path.name} is a sequence of {sizes[time]} volumes of {'x'.join(str(n) for n in reversed(size))} "
            "voxels; a sequence of single slices or one volume is needed. Save the volume of one time in Slicer and "
            "give that."
        )
    raw, damaged = _nrrd_data(path, header, offset, dtype, sizes, time == len(sizes) - 1)
    order = [len(sizes) - 1 - n for n in (time, *reversed(space), *([] if colour is None else [colour]))]
    array = raw.transpose(order)
    if len(shape) == 2:
        array = array[:, None]
    array = array if colour is None else array[..., :3]
    if not array.size:
        how = "damaged" if damaged else "cut short"
        raise InputError(f"{path.name} is {how}: none of its {sizes[time]} frames is complete. Copy it again.")
    geometry, measured = _nrrd_geometry(header, space, size, path)
    source = FrameStack(path, "sequence", array, geometry, sizes[time])
    source.has_spacing, source.index = measured, _nrrd_index(header, time, sizes[time])
    source.times_s = _index_times(source.index)
    missing = f"frames {len(array)} and later are missing" if len(array) < sizes[time] else ""
    if damaged:
        more = f", and {missing}" if missing else ""
        source.notes.append(
            f"{path.name} is damaged: its packed voxels differ from their checksum, or lack it, so that any frame may "
            f"be wrong{more}. Copy it again, or check every frame."
        )
    elif missing:
        source.notes.append(f"{path.name} is cut short: {missing}.")
    return source


def _axes_of(header: dict[str, Any], dimension: int, name: str) -> tuple[int | None, int | None, list[int]]:
    """Return the axes of a NRRD file that are time (None for a volume), colour and space, fastest first."""
    kinds = [str(kind).lower() for kind in header.get("kinds") or ["???"] * dimension]
    directions = header.get("space directions")
    nowhere = [] if directions is None else [n for n, row in enumerate(directions) if not _is_vector(row, name)]
    times = [n for n, kind in enumerate(kinds) if kind in ("list", "time")]
    colours = [n for n, kind in enumerate(kinds) if kind.endswith("-color")]
    if dimension == 5 or times:  # a vector axis next to a time axis contains colours
        colours += [n for n, kind in enumerate(kinds) if kind == "vector"]
    rest = [n for n in range(dimension) if n not in colours]
    if not times and len(rest) == 4:
        vectors = [n for n in rest if kinds[n] == "vector"]
        if vectors and ".seq." not in name.lower():
            return None, None, []  # a volume of vectors
        times = vectors or [n for n in nowhere if n in rest] or rest[-1:]
    space = [n for n in rest if n not in times]
    if len(times) != 1 or len(colours) > 1 or len(space) not in (2, 3):
        return None, None, []
    if colours and int(header["sizes"][colours[0]]) not in (3, 4):
        return None, None, []
    return times[0], colours[0] if colours else None, space


def _is_vector(row: Any, name: str) -> bool:
    """Return whether a row of ``space directions`` is not ``none``.

    Raises:
        InputError: If it holds numbers that are not finite.
    """
    numbers = np.full(1, np.nan) if row is None else np.asarray(row, dtype=float)
    if np.isfinite(numbers).all():
        return True
    if not np.isnan(numbers).all():
        raise InputError(
            f"{name} has a direction or origin that is not finite ({', '.join(f'{x:g}' for x in numbers)}). Export it "
            "again."
        )
    return False


def _nrrd_data(
    path: Path, header: dict[str, Any], offset: int, dtype: np.dtype[Any], sizes: list[int], time_last: bool
) -> tuple[Frame, bool]:
    """Return the voxels, slowest axis first, mapped from a file, and whether what packs them is damaged.

    A file with time last that is cut short or damaged has as many frames as could be unpacked.

    Raises:
        InputError: If a damaged file has another axis last, so that the damage may be in every frame.
    """
    encoding = str(header.get("encoding", "raw")).lower()
    elsewhere = {"data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip"}
    if elsewhere & header.keys() or encoding not in ("raw", "gzip", "gz"):
        return read_axes(path)[0], False
    dtype = ordered(dtype, read_header(path).fields, path.name)
    whole = math.prod(sizes) * dtype.itemsize
    part = whole // sizes[-1] if time_last else whole
    if encoding == "raw":
        left = path.stat().st_size - offset
        check_exact(path, offset, whole, path.name)
        usable = min(whole, left) // part * part
        return _mapped(path.open("rb"), dtype, usable, offset, sizes), False
    with temporary_file(path) as file:
        done, damaged = _gunzip(path, offset, file, whole)
        if damaged and not time_last:
            raise InputError(
                f"{path.name} is damaged: its packed voxels differ from their checksum, and each frame has some of "
                "them. Copy it again."
            )
        return _mapped(file, dtype, done // part * part, 0, sizes), damaged


def _mapped(file: IO[bytes], dtype: np.dtype[Any], usable: int, offset: int, sizes: list[int]) -> Frame:
    """Map ``usable`` bytes of a file as an array whose slowest axis may be shorter; close the file."""
    row = math.prod(sizes[:-1]) * dtype.itemsize
    shape = (usable // row, *reversed(sizes[:-1]))
    with file:
        file.flush()
        return np.memmap(file, dtype, "r", offset, shape) if usable else np.empty(shape, dtype)


def _gunzip(path: Path, offset: int, target: IO[bytes], most: int) -> tuple[int, bool]:
    """Decompress up to ``most`` bytes; return how many, and whether they are damaged (not: cut short)."""
    unpacker, done = zlib.decompressobj(31), 0
    with path.open("rb") as packed:
        packed.seek(offset)
        while not unpacker.eof:
            block = unpacker.unconsumed_tail or packed.read(_PIECE)
            if not block:
                break
            try:
                plain = unpacker.decompress(block, max(1, min(most - done, 1 << 24)))  # 0 would have no limit
            except zlib.error:
                return done, True
            if done + len(plain) > most:
                raise InputError(
                    f"{path.name} declares {most} bytes of voxels and holds more; header and voxels do not belong "
                    "together. Export it again."
                )
            target.write(plain)
            done += len(plain)
    return done, done == most and not unpacker.eof  # complete, and nothing to compare it with


def _nrrd_geometry(
    header: dict[str, Any], space: list[int], size: tuple[int, ...], path: Path
) -> tuple[VolumeGeometry, bool]:
    """Return the LPS geometry of one frame of ``(K, J, I)`` voxels, and whether the file gives its spacing."""
    signs = np.array([*signs_to_lps(read_header(path).fields, path.name), 1])
    rows, spacings = header.get("space directions"), header.get("spacings")
    columns = [np.zeros(3)] * 3
    measured = False
    for n, axis in enumerate(space):
        if rows is not None and _is_vector(rows[axis], path.name):
            vector: FloatArray = np.zeros(3)
            vector[: min(3, len(rows[axis]))] = np.asarray(rows[axis], dtype=float)[:3]
            columns[n] = vector * signs
            measured = True
        elif spacings is not None and np.isfinite(float(spacings[axis])):
            columns[n] = np.eye(3)[n] * float(spacings[axis])
            measured = True
    flat = 2 - size.index(1)
    others = [n for n in range(3) if n != flat]
    for n in others:
        if not columns[n].any():
            columns[n] = np.eye(3)[n]
    if not columns[flat].any():  # a single slice: its thickness may be missing
        normal = np.cross(columns[others[0]], columns[others[1]])
        columns[flat] = normal / (np.linalg.norm(normal) or 1) * (-1 if flat == 1 else 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    origin = header.get("space origin")
    if origin is not None and _is_vector(origin, path.name):
        affine[: min(3, len(origin)), 3] = np.asarray(origin, dtype=float)[:3]
        affine[:3, 3] *= signs
    try:
        return VolumeGeometry.from_affine(affine, (size[2], size[1], size[0])), measured
    except GeometryError as error:
        raise InputError(f"{path.name}: {error}") from None


def _nrrd_index(header: dict[str, Any], time: int, count: int) -> tuple[str, str, list[str]] | None:
    """Return name, unit and values of the time axis as Slicer stores them; None if there are none."""
    found = [str(v).split() for k, v in header.items() if re.fullmatch(r"axis \d+ index values", str(k))]
    if not found or len(found[0]) != count:
        return None
    name, unit = (str((header.get(key) or [""] * 9)[time] or "") for key in ("labels", "units"))
    return name, unit, found[0]


def _index_times(index: tuple[str, str, list[str]] | None) -> list[float] | None:
    """Return the index values in seconds, if the time axis is in seconds or milliseconds."""
    numbers = numbers_of(" ".join(index[2])) if index else None
    if index is None or numbers is None or index[1] not in ("s", "ms", "") or (not index[1] and index[0] != "time"):
        return None
    return [t / 1000 for t in numbers] if index[1] == "ms" else numbers
