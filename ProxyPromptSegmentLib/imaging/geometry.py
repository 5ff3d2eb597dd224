"""Geometry of voxel grids: the only place that defines axes, units and directions.

Conventions of the whole library:

* Arrays are ``(K, J, I)`` = (slice, row, column), with a last axis of 3 for RGB; tuples of indices
  are ``(i, j, k)``.
* World coordinates are LPS (left, posterior, superior) in millimetres, float64. RAS is used only at the Slicer
  edge.
* A voxel's index refers to its centre; the columns of ``direction`` are the unit vectors of i, j and k.
* A slicing axis is one of ``"k"``, ``"j"``, ``"i"``: the axis across the slices. The other two span the
  slice, in array order: ``"k"`` gives ``(J, I)``, ``"j"`` gives ``(K, I)``, ``"i"`` gives ``(K, J)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError

Axis = Literal["k", "j", "i"]
AXES: tuple[Axis, ...] = ("k", "j", "i")
FloatArray = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

SAME_GRID_VOXELS = 0.05
"""Grids whose corners agree within this fraction of a voxel are the same; float32 headers round by less."""

_ORTHONORMAL_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class VolumeGeometry:
    """The voxel grid of a volume: size, spacing, origin and direction.

    Attributes:
        size_ijk: Number of voxels along i, j and k; each at least 1.
        spacing_mm: Distance between neighbouring voxels along i, j and k in mm; each above 0.
        origin_lps: Centre of voxel (0, 0, 0) in LPS mm.
        direction: Unit vectors of i, j and k in LPS as columns, shape ``(3, 3)``; read-only float64.

    Raises:
        GeometryError: If a value is not finite, a size or spacing is not positive, or the axes are not
            orthogonal (tilted gantry, shear): files and slices could not represent such a grid.
    """

    size_ijk: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin_lps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: FloatArray = None  # type: ignore[assignment]  # None means the identity

    def __post_init__(self) -> None:
        """Validate the values and store them as plain numbers and a read-only array."""
        direction = np.eye(3) if self.direction is None else np.array(self.direction, dtype=np.float64)
        size = tuple(int(n) for n in self.size_ijk)
        spacing = tuple(float(s) for s in self.spacing_mm)
        origin = tuple(float(x) for x in self.origin_lps)
        if direction.size == 9:
            direction = direction.reshape(3, 3)
        if len(size) != 3 or len(spacing) != 3 or len(origin) != 3 or direction.shape != (3, 3):
            raise GeometryError(
                f"size {size}, spacing {spacing}, origin {origin} and direction of shape {direction.shape} do not "
                "describe a volume; three numbers each and a 3x3 direction are required."
            )
        if min(size) < 1:
            raise GeometryError(f"the volume has {size} voxels along i, j, k; each axis needs at least one.")
        if not all(np.isfinite(s) and s > 0 for s in spacing):
            raise GeometryError(f"the voxel spacing is {spacing} mm; each must be finite and above 0.")
        if not np.all(np.isfinite(origin)) or not np.all(np.isfinite(direction)):
            raise GeometryError(
                "the origin or the direction has NaN or infinite values; a volume needs a finite position."
            )
        if np.abs(direction.T @ direction - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE:
            raise GeometryError(
                f"the axes of the volume are not at right angles (direction {np.round(direction, 4).tolist()}); tilted "
                "or sheared grids are not supported. Resample the volume to a regular grid first."
            )
        direction.setflags(write=False)
        object.__setattr__(self, "size_ijk", size)
        object.__setattr__(self, "spacing_mm", spacing)
        object.__setattr__(self, "origin_lps", origin)
        object.__setattr__(self, "direction", direction)

    @classmethod
    def from_affine(cls, affine: npt.ArrayLike, size_ijk: tuple[int, int, int]) -> VolumeGeometry:
        """Build a geometry from a 4x4 matrix that maps ``(i, j, k, 1)`` to LPS mm.

        Raises:
            GeometryError: If the matrix does not describe a regular grid.
        """
        matrix = np.asarray(affine, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise GeometryError(f"an affine has shape (4, 4), not {matrix.shape}.")
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        safe = np.where(spacing > 0, spacing, 1.0)  # a zero column is rejected as a spacing below
        i, j, k = (float(s) for s in spacing)
        x, y, z = (float(v) for v in matrix[:3, 3])
        return cls(size_ijk, (i, j, k), (x, y, z), matrix[:3, :3] / safe)

    @property
    def affine(self) -> FloatArray:
        """The 4x4 matrix that maps ``(i, j, k, 1)`` to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.asarray(self.spacing_mm)
        matrix[:3, 3] = self.origin_lps
        return matrix

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Shape ``(K, J, I)`` of an array on this grid."""
        i, j, k = self.size_ijk
        return k, j, i

    def index_to_lps(self, ijk: npt.ArrayLike) -> FloatArray:
        """Convert indices ``(..., 3)`` in the order i, j, k (fractions allowed) to LPS mm, same shape."""
        matrix = self.affine
        points: FloatArray = np.asarray(ijk, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        return points

    def lps_to_index(self, lps: npt.ArrayLike) -> FloatArray:
        """Convert LPS points in mm ``(..., 3)`` to fractional indices in the order i, j, k, same shape."""
        matrix = self.affine
        centred = np.asarray(lps, dtype=np.float64) - matrix[:3, 3]
        indices: FloatArray = centred @ np.linalg.inv(matrix[:3, :3]).T
        return indices

    def is_close(self, other: VolumeGeometry, tol: float = SAME_GRID_VOXELS) -> bool:
        """Return whether both are the same grid: equal sizes, and corners within ``tol`` of a voxel."""
        if self.size_ijk != other.size_ijk:
            return False
        corners = _corners(self.size_ijk)
        return bool(np.abs(self.lps_to_index(other.index_to_lps(corners)) - corners).max() <= tol)

    def __eq__(self, other: object) -> bool:
        """Compare the numbers exactly; ``is_close`` compares grids within a tolerance."""
        if not isinstance(other, VolumeGeometry):
            return NotImplemented
        return self.size_ijk == other.size_ijk and bool(np.array_equal(self.affine, other.affine))

    def __hash__(self) -> int:
        """Return a hash consistent with ``__eq__``."""
        return hash((self.size_ijk, (self.affine + 0.0).tobytes()))

    def __str__(self) -> str:
        """Return a short description for messages."""
        size = "x".join(str(n) for n in self.size_ijk)
        spacing = "x".join(f"{s:.4g}" for s in self.spacing_mm)
        origin = ", ".join(f"{x:.4g}" for x in self.origin_lps)
        return f"{size} voxels of {spacing} mm at ({origin}) LPS"


def _corners(size_ijk: tuple[int, int, int]) -> FloatArray:
    """Return indices of the eight corner voxels; shape ``(8, 3)``."""
    return np.array(list(product(*((0, n - 1) for n in size_ijk))), dtype=np.float64)


# --- slices -------------------------------------------------------------------------------------------------


def axis_number(axis: str) -> int:
    """Return the array axis (0, 1 or 2) of a slicing axis.

    Raises:
        GeometryError: If the axis is not one of k, j and i.
    """
    if axis not in AXES:
        raise GeometryError(f"the slicing axis is {axis!r}; it must be one of 'k', 'j', 'i'.")
    return AXES.index(axis)  # type: ignore[arg-type]


def take_slices(array_kji: AnyArray, axis: str) -> AnyArray:
    """Return all slices along an axis as a view, ``(S, H, W[, 3])``; writing into it writes into the array."""
    return np.moveaxis(array_kji, axis_number(axis), 0)


def slice_spacing_mm(geometry: VolumeGeometry, axis: str) -> tuple[float, float]:
    """Return the pixel size ``(row, column)`` in mm of the slices along an axis."""
    rest = [s for n, s in enumerate(reversed(geometry.spacing_mm)) if n != axis_number(axis)]
    return rest[0], rest[1]


def auto_axis(geometry: VolumeGeometry) -> Axis:
    """Return the axis that the volume was acquired along.

    An axis with a single sample wins (a picture), then the one with the coarsest spacing; ties (within 0.1 %)
    are broken by the fewest samples, then in favour of k.
    """
    spacing, shape = tuple(reversed(geometry.spacing_mm)), geometry.shape_kji
    flat = [n for n in range(3) if shape[n] == 1]
    candidates = flat or [n for n in range(3) if spacing[n] >= max(spacing) * (1 - 1e-3)]
    return AXES[min(candidates, key=lambda n: (shape[n], n))]


@dataclass(frozen=True)
class SliceView:
    """Slices along an axis in radiological orientation.

    Programs store the same anatomy upside down or mirrored (NIfTI rows often run from
    posterior to anterior, DICOM rows the other way round). Reading support and target through such views
    orients both alike.

    Attributes:
        axis: Slicing axis.
        transpose: Whether rows and columns are swapped, before flipping.
        flip_rows: Whether the rows are reversed.
        flip_columns: Whether the columns are reversed.
        spacing_mm: Pixel size ``(row, column)`` of the turned slice in mm.
    """

    axis: Axis
    transpose: bool
    flip_rows: bool
    flip_columns: bool
    spacing_mm: tuple[float, float]

    def take(self, array_kji: AnyArray) -> AnyArray:
        """Return all slices, oriented, as a view ``(S, H, W[, 3])``; writing into it writes into the array."""
        slices = take_slices(array_kji, self.axis)
        if self.transpose:
            slices = np.swapaxes(slices, 1, 2)
        return slices[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def position(self, kji: tuple[int, int, int], shape_kji: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the slice, row and column of a voxel in the result of `take`.

        Args:
            kji: The voxel's indices.
            shape_kji: Shape of the array.
        """
        number, row, column = self.point(kji, shape_kji)
        return int(number), int(row), int(column)

    def point(self, kji: tuple[float, float, float], shape_kji: tuple[int, int, int]) -> tuple[float, float, float]:
        """Return the slice, row and column of a point in the result of `take`; whole numbers are centres of voxels.

        Args:
            kji: The point's indices, fractions allowed.
            shape_kji: Shape of the array.
        """
        number = axis_number(self.axis)
        rest = [n for n in range(3) if n != number]
        row, column = reversed(rest) if self.transpose else rest
        return (
            kji[number],
            shape_kji[row] - 1 - kji[row] if self.flip_rows else kji[row],
            shape_kji[column] - 1 - kji[column] if self.flip_columns else kji[column],
        )


def view_directions(geometry: VolumeGeometry, view: SliceView) -> tuple[FloatArray, FloatArray]:
    """Return the directions in LPS in which rows and columns of a view's slices grow: unit vectors ``(3,)``."""
    row, column = (geometry.direction[:, 2 - n] for n in range(3) if n != axis_number(view.axis))
    if view.transpose:
        row, column = column, row
    return (-row if view.flip_rows else row), (-column if view.flip_columns else column)


def slice_view_along(geometry: VolumeGeometry, axis: str, down: FloatArray, right: FloatArray) -> SliceView:
    """Return the view of the slices along an axis whose rows and columns are closest to two directions.

    Args:
        geometry: The volume's lattice.
        axis: Slicing axis.
        down: Direction in LPS of the rows, unit vector ``(3,)``.
        right: Direction in LPS of the columns.
    """
    number = axis_number(axis)
    rows_mm, columns_mm = slice_spacing_mm(geometry, axis)
    row, column = (geometry.direction[:, 2 - n] for n in range(3) if n != number)
    straight = abs(row @ down) + abs(column @ right)
    crossed = abs(row @ right) + abs(column @ down)
    transpose = bool(crossed > straight)
    if transpose:
        row, column, rows_mm, columns_mm = column, row, columns_mm, rows_mm
    return SliceView(AXES[number], transpose, bool(row @ down < 0), bool(column @ right < 0), (rows_mm, columns_mm))


def slice_view(geometry: VolumeGeometry, axis: str, oriented: bool = True) -> SliceView:
    """Return the view of the slices along an axis.

    Args:
        geometry: The volume's lattice.
        axis: Slicing axis.
        oriented: Whether to orient the slices: rows run to posterior (in sagittal and coronal planes to
            inferior), columns to the left (in sagittal planes to posterior). Otherwise slices keep the orientation
            in which they are stored.
    """
    number = axis_number(axis)
    rows_mm, columns_mm = slice_spacing_mm(geometry, axis)
    if not oriented:
        return SliceView(AXES[number], False, False, False, (rows_mm, columns_mm))
    row, column = (geometry.direction[:, 2 - n] for n in range(3) if n != number)
    normal = int(np.argmax(np.abs(np.cross(column, row))))  # the world axis (L, P, S) that the slices are stacked along
    down, right = {2: (1, 0), 1: (2, 0), 0: (2, 1)}[normal]  # world axes of rows and columns
    down_sign = -1.0 if down == 2 else 1.0  # superior is at the top
    straight = abs(row[down]) + abs(column[right])
    crossed = abs(row[right]) + abs(column[down])
    transpose = bool(crossed > straight)
    if transpose:
        row, column, rows_mm, columns_mm = column, row, columns_mm, rows_mm
    return SliceView(
        AXES[number],
        transpose,
        bool(row[down] * down_sign < 0),
        bool(column[right] < 0),
        (rows_mm, columns_mm),
    )


# --- one lattice on another ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LatticeMap:
    """A mapping of arrays from one grid onto a reference grid of the same lattice, without interpolation.

    Attributes:
        order: Array axes of the source in the order of the reference's array axes.
        flips: Whether each axis is reversed after reordering.
        start: Index ``(k, j, i)`` on the reference of the first voxel of the reordered source; may be
            negative.
        shape: Shape of the reference arrays.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    def apply(self, array_kji: AnyArray) -> AnyArray:
        """Map an array onto the reference grid: crop voxels outside it, fill missing ones with 0."""
        source = np.transpose(array_kji, self.order)[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]
        result = np.zeros(self.shape, dtype=array_kji.dtype)
        inside = [(max(s, 0), min(s + n, t)) for s, n, t in zip(self.start, source.shape, self.shape, strict=True)]
        if all(low < high for low, high in inside):
            there = tuple(slice(low, high) for low, high in inside)
            here = tuple(slice(low - s, high - s) for (low, high), s in zip(inside, self.start, strict=True))
            result[there] = source[here]
        return result


def match_lattice(
    source: VolumeGeometry,
    reference: VolumeGeometry,
    what: str = "The segmentation",
    tol: float = SAME_GRID_VOXELS,
) -> LatticeMap:
    """Return the mapping of a grid onto a reference grid: permuted, flipped, cropped or extended, never resampled.

    Args:
        source: Grid of the arrays to map.
        reference: Grid to map them onto.
        what: Subject of the error message.
        tol: Largest distance from the lattice, in voxels of the reference.

    Raises:
        GeometryError: If the source's voxel centres are not voxel centres of the reference's lattice.
    """
    relation = np.linalg.inv(reference.affine) @ source.affine  # source ijk -> reference ijk
    turn = np.round(relation[:3, :3])
    signed_permutation = np.array_equal(np.abs(turn).sum(axis=0), np.ones(3)) and np.array_equal(
        np.abs(turn).sum(axis=1), np.ones(3)
    )
    offset = np.round(relation[:3, 3])
    corners = _corners(source.size_ijk)
    exact = corners @ relation[:3, :3].T + relation[:3, 3]
    if not signed_permutation or np.abs(corners @ turn.T + offset - exact).max() > tol:
        raise GeometryError(
            f"{what} lies on another grid ({source}) than the volume ({reference}); both must share the voxel lattice "
            "(flipped, permuted or cropped is fine). Export it in the volume's geometry or resample it first."
        )
    first = (corners @ turn.T + offset).min(axis=0).astype(int)
    turn_kji = turn[::-1, ::-1]  # rows: reference axes k, j, i; columns: source axes k, j, i
    order = np.abs(turn_kji).argmax(axis=1)
    flips = turn_kji.sum(axis=1) < 0
    a, b, c = (int(n) for n in order)
    f, g, h = (bool(x) for x in flips)
    return LatticeMap((a, b, c), (f, g, h), (int(first[2]), int(first[1]), int(first[0])), reference.shape_kji)
