"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz); https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h.

The matrix of the file is its sform, if it has one, else its qform, as nibabel and FSL take them. Where both are there
and
differ, this is reported.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.readers.stored import Stored, grid_from, too_many_axes, wrong_channels
from ProxyPromptSegmentLib.imaging.readers.voxels import declared_bytes, read_voxels

_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8", 128: "u1",
    2304: "u1",
}  # fmt: skip
_COLOURS = {128: 3, 2304: 4}
_UNITS = {1: 1000.0, 3: 0.001}  # metres and micrometres in mm
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_BESIDE = 0.1  # voxels by which sform and qform may differ unnoticed

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """The fields of a header that count here.

    Attributes:
        dims: ``dim[1]`` to ``dim[dim[0]]``.
        kind: Code of the type.
        offset: Where the voxels begin.
        slope: Scale of the values, and ``intercept``.
        qform_code: 0 if there is no qform; ``sform_code`` the same.
        quaternion: b, c, d, then the offset x, y, z.
        pixdim: ``pixdim[0]`` (the sign of the third axis) to ``pixdim[3]``.
        rows: The sform, ``(3, 4)``.
        unit: Code of the unit of length.
        order: ``<`` or ``>``.
    """

    dims: list[int]
    kind: int
    offset: float
    slope: float
    intercept: float
    qform_code: int
    sform_code: int
    quaternion: Matrix
    pixdim: Matrix
    rows: Matrix
    unit: int
    order: str


def is_nifti(head: bytes) -> bool:
    """Return whether the first bytes of a file, unpacked, are a NIfTI or Analyze header."""
    return any(int.from_bytes(head[:4], order) in (348, 540) for order in ("little", "big"))  # type: ignore[arg-type]


def read_header(path: Path) -> tuple[NiftiHeader, bool]:
    """Return the header of a file and whether it is packed.

    Raises:
        InputError: If it is damaged, or a pair of files.
    """
    name = path.name
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        opened = gzip.open if packed else open
        with opened(path, "rb") as unpacked:  # type: ignore[operator]
            head = unpacked.read(560)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{name} is damaged: it cannot be unpacked. Copy or export it again.") from None
    order = next((o for o, n in (("<", "little"), (">", "big")) if int.from_bytes(head[:4], n) in (348, 540)), "")  # type: ignore[arg-type]
    size = int.from_bytes(head[:4], "little" if order == "<" else "big")
    magic = head[4:7] if size == 540 else head[344:347]
    if not order or len(head) < size:
        raise InputError(f"{name} is no NIfTI file, or is cut short in its header. Copy or export it again.")
    if magic not in (b"n+1", b"n+2"):
        pair = magic[:2] == b"ni"
        kind = "half of a pair of .hdr and .img files" if pair else "an Analyze file, whose orientation is not known"
        raise InputError(f"{name} is {kind}; convert it to a single .nii or .nii.gz file.")

    def read(form: str, at: int, count: int = 1) -> Matrix:
        return np.frombuffer(head, order + form, count, at).astype(np.float64)

    if size == 348:
        dims = read("i2", 40, 8)
        found = NiftiHeader(
            dims=_axes(dims, name), kind=int(read("i2", 70)[0]), offset=float(read("f4", 108)[0]),
            slope=float(read("f4", 112)[0]), intercept=float(read("f4", 116)[0]), qform_code=int(read("i2", 252)[0]),
            sform_code=int(read("i2", 254)[0]), quaternion=read("f4", 256, 6), pixdim=read("f4", 76, 4),
            rows=read("f4", 280, 12).reshape(3, 4), unit=head[123] & 7, order=order,
        )  # fmt: skip
    else:
        dims = read("i8", 16, 8)
        found = NiftiHeader(
            dims=_axes(dims, name), kind=int(read("i2", 12)[0]), offset=float(read("i8", 168)[0]),
            slope=float(read("f8", 176)[0]), intercept=float(read("f8", 184)[0]), qform_code=int(read("i4", 344)[0]),
            sform_code=int(read("i4", 348)[0]), quaternion=read("f8", 352, 6), pixdim=read("f8", 104, 4),
            rows=read("f8", 400, 12).reshape(3, 4), unit=int(read("i4", 500)[0]) & 7, order=order,
        )  # fmt: skip
    least = 352 if size == 348 else 544
    if not math.isfinite(found.offset) or not least - 4 <= found.offset < 1 << 40 or found.offset != int(found.offset):
        raise InputError(
            f"{name} says that its voxels begin at byte {found.offset:g}; its header ends at {least}. It is damaged; "
            "export it again."
        )
    return found, packed


def _axes(dims: Matrix, name: str) -> list[int]:
    """Return the sizes of the axes, without those of length 1 behind the third."""
    count = int(dims[0])
    if not 1 <= count <= 7:
        raise InputError(f"{name} has {count} dimensions; it is damaged. Copy or export it again.")
    sizes = [int(n) for n in dims[1 : count + 1]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    return sizes + [1] * (3 - len(sizes))


def read_nifti(path: Path) -> Stored:
    """Read a file of one volume.

    Raises:
        InputError: If it is damaged, has several volumes or values, or a place that is none.
    """
    header, packed = read_header(path)
    name, sizes = path.name, header.dims
    if header.kind not in _TYPES:
        raise InputError(
            f"{name} has voxels of the NIfTI type {header.kind}; whole numbers, floats and colours are read."
        )
    dtype = np.dtype(header.order + _TYPES[header.kind])
    if len(sizes) == 5 and sizes[3] == 1:
        raise wrong_channels(name, sizes[4], dtype)
    if len(sizes) > 3:
        raise too_many_axes(name, sizes)
    channels = _COLOURS.get(header.kind)
    stored = [channels, *sizes] if channels else sizes
    declared_bytes(stored, dtype, name)
    if packed:
        array = _gunzipped(path, int(header.offset), dtype, stored, name)
    else:
        array = read_voxels(path, int(header.offset), "raw", dtype, stored, name, exact=False)
        _check_surplus(path.stat().st_size - int(header.offset) - array.nbytes, array, name)
    slope, intercept = header.slope, header.intercept
    usable = slope != 0 and math.isfinite(slope) and math.isfinite(intercept)
    if usable and (slope, intercept) != (1.0, 0.0) and not channels:  # the standard does not scale colours
        array = array * slope + intercept
    affine, notes = matrix_of(header, name)
    size = (sizes[0], sizes[1], sizes[2])
    geometry = grid_from(_LPS @ affine, size, name)
    return Stored(array=array, geometry=geometry, has_spacing=True, notes=notes)


def _gunzipped(path: Path, offset: int, dtype: np.dtype, sizes: list[int], name: str) -> npt.NDArray:
    """Return the voxels of a packed file, its checksum compared."""
    total = declared_bytes(sizes, dtype, name)
    try:
        with gzip.open(path) as file:
            if len(file.read(offset)) < offset:
                raise EOFError
            whole = file.read(total)
            surplus = 0
            while more := file.read(1 << 20):  # to the end, where the checksum is
                surplus += len(more)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(
            f"{name} is cut short or damaged: voxels are missing at its end, or its checksum is wrong. Copy or export "
            "it again."
        ) from None
    if len(whole) < total:
        raise InputError(f"{name} is cut short: voxels are missing at its end. Copy or export it again.")
    array = np.frombuffer(whole, dtype).reshape(sizes[::-1])
    _check_surplus(surplus, array, name)
    return array


def _check_surplus(surplus: int, array: npt.NDArray, name: str) -> None:
    """Refuse a file with so much behind its voxels that its header may be that of another image.

    Raises:
        InputError: If it is another slice at least.
    """
    if surplus >= array.nbytes // len(array):
        raise InputError(
            f"{name} declares {array.nbytes} bytes of voxels and has {array.nbytes + surplus}; header and voxels do "
            "not belong together. Export it again."
        )


def matrix_of(header: NiftiHeader, name: str) -> tuple[Matrix, tuple[str, ...]]:
    """Return the matrix from indices to RAS in mm, and notes.

    Raises:
        InputError: If the header gives lengths that are none.
    """
    scale = _UNITS.get(header.unit, 1.0)
    sform, qform = np.eye(4), None
    sform[:3] = header.rows
    lengths = header.pixdim[1:4].copy()
    for axis, n in enumerate(header.dims[:3]):
        if n == 1 and not (math.isfinite(lengths[axis]) and lengths[axis] > 0):
            lengths[axis] = 1.0  # a single slice: its thickness may be missing
    usable = bool(np.isfinite(lengths).all() and (lengths > 0).all())
    if header.qform_code > 0 and usable:
        qform = _from_quaternion(header, lengths)
    notes: tuple[str, ...] = ()
    if header.sform_code > 0:
        matrix = sform
        if qform is not None:
            corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
            corners[:, :3] *= np.array(header.dims[:3]) - 1
            beside = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
            if beside > _BESIDE * float(lengths.min()):
                notes = (
                    f"{name} has two matrices that differ by up to {beside * scale:.3g} mm (sform and qform); the "
                    "sform is used, as by most programs.",
                )
    elif qform is not None:
        matrix = qform
    elif not usable:
        raise InputError(
            f"{name} gives voxels of {' x '.join(f'{x:g}' for x in header.pixdim[1:4])} mm and no matrix; lengths "
            "above 0 are needed. Correct it, or export the image again."
        )
    else:
        matrix = np.diag([*lengths, 1.0])
        notes = (
            f"{name} does not say how it lies in the patient (sform and qform are 0); left and right are not known.",
        )
    matrix = matrix.copy()
    matrix[:3] *= scale
    return matrix, notes


def _from_quaternion(header: NiftiHeader, lengths: Matrix) -> Matrix:
    """Return the qform."""
    b, c, d = header.quaternion[:3]
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:
        norm = math.sqrt(b * b + c * c + d * d) or 1.0
        a, b, c, d = 0.0, b / norm, c / norm, d / norm
    else:
        a = math.sqrt(rest)
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
        ]
    )
    sign = -1.0 if header.pixdim[0] < 0 else 1.0
    matrix = np.eye(4)
    matrix[:3, :3] = turn * (lengths * np.array([1.0, 1.0, sign]))
    matrix[:3, 3] = header.quaternion[3:]
    return matrix


def copy_forms(result: Path, like: Path, geometry: VolumeGeometry) -> None:
    """Give a NIfTI-1 file that was just written the sform and qform of another one on the same grid, with their codes.

    Nothing happens if the other is no NIfTI file, lies elsewhere, or gives lengths in another unit than mm.
    """
    try:
        header, _ = read_header(like)
        matrix, _ = matrix_of(header, like.name)
        size = (header.dims[0], header.dims[1], header.dims[2])
        if not VolumeGeometry.from_affine(_LPS @ matrix, size).is_close(geometry) or header.unit not in (0, 2):
            return
    except (InputError, GeometryError, OSError, IndexError):
        return
    packed = result.read_bytes()[:2] == b"\x1f\x8b"
    data = bytearray(gzip.decompress(result.read_bytes()) if packed else result.read_bytes())
    order = "<" if int.from_bytes(data[:4], "little") == 348 else ">"
    struct.pack_into(f"{order}4f", data, 76, *header.pixdim)
    struct.pack_into(f"{order}hh", data, 252, header.qform_code, header.sform_code)
    struct.pack_into(f"{order}6f", data, 256, *header.quaternion)
    struct.pack_into(f"{order}12f", data, 280, *header.rows.ravel())
    result.write_bytes(gzip.compress(bytes(data), 6, mtime=0) if packed else bytes(data))
