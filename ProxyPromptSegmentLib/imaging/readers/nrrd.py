"""NRRD files of one volume: which axes lie in space, where, and in which unit."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.readers.nrrd_header import numbers_in, read_header, vectors_in
from ProxyPromptSegmentLib.imaging.readers.nrrd_voxels import form_of, voxels_of
from ProxyPromptSegmentLib.imaging.readers.stored import Stored, grid_from, too_many_axes, wrong_channels

_LENGTHS = ("um", "µm", "micron", "microns", "micrometer", "micrometers", "nm", "cm", "m", "in", "inch", "inches")
_SPACES = {
    "right-anterior-superior": (-1, -1), "ras": (-1, -1), "left-anterior-superior": (1, -1), "las": (1, -1),
    "left-posterior-superior": (1, 1), "lps": (1, 1), "scanner-xyz": (1, 1), "3d-right-handed": (1, 1),
    "3d-left-handed": (1, 1), "": (1, 1),
}  # fmt: skip
"""Signs of the first two axes in LPS; those of no body are read as they are."""


def read_nrrd(path: Path) -> Stored:
    """Read a NRRD file of one volume, attached or with its voxels in one other file.

    Raises:
        InputError: If it is damaged, has several volumes, or a place that is none.
    """
    header, name = read_header(path), path.name
    fields = header.fields
    dtype, sizes = form_of(header, name)
    space, channel = _axes(fields, sizes, name)
    if channel is not None and sizes[channel] > 4:
        raise wrong_channels(name, sizes[channel], dtype)
    array = voxels_of(path, header, dtype, sizes)
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
    vectors = vectors_in(fields["space directions"], name) if "space directions" in fields else [[0.0]] * len(sizes)
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
        vectors = vectors_in(fields["space directions"], name)
        for column, axis in enumerate(space):
            vector = vectors[axis]
            while vector is not None and len(vector) > 3 and vector[-1] == 0:  # of a space with time
                vector = vector[:-1]
            if vector is None or len(vector) not in (2, 3):
                raise InputError(f"{name} gives no direction for one of its axes in space; export it again.")
            affine[:3, column] = 0
            affine[: len(vector), column] = vector
        signs = signs_to_lps(fields, name)
        origin = vectors_in(fields.get("space origin", "none"), name)
        if origin and origin[0] is not None:
            start = origin[0][:3]
            affine[: len(start), 3] = start
        affine[0] *= signs[0]
        affine[1] *= signs[1]
        if len(space) == 2:
            across = np.cross(affine[:3, 0], affine[:3, 1])
            affine[:3, 2] = across / (np.linalg.norm(across) or 1.0)
        return affine, True
    spacings = numbers_in(fields.get("spacings", ""), name, "spacings")
    known = bool(spacings) and all(axis < len(spacings) and math.isfinite(spacings[axis]) for axis in space)
    for column, axis in enumerate(space):
        if known:
            affine[column, column] = spacings[axis]
    mins = numbers_in(fields.get("axis mins", ""), name, "axis mins")
    if len(mins) > max(space) and all(math.isfinite(mins[axis]) for axis in space):
        affine[: len(space), 3] = [mins[axis] for axis in space]
    return affine, known
