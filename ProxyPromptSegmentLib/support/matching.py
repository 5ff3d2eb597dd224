"""Matching of supports and target: slices in the same plane, and notes on notable differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.geometry import (
    AXES,
    Axis,
    SliceView,
    VolumeGeometry,
    auto_axis,
    slice_spacing_mm,
    slice_view,
    slice_view_along,
    take_slices,
    view_directions,
)
from ProxyPromptSegmentLib.imaging.itk_images import PICTURE_SUFFIXES
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind

MOST_PIXEL_ASPECT = 2.0
"""Reformatted slices are used up to this pixel aspect ratio; beyond it they show stair steps."""

NOTABLE_RATIO = 2.0
"""Differences in pixel size or field of view beyond this factor are reported to the user."""

MOST_TILT = 85.0
"""In degrees; slices that are tilted more against those of the supports are taken to be at right angles to them."""

SMALLEST_SLICE = 8
_PLANES = ("sagittal", "coronal", "axial")  # by the world axis (L, P, S) along which the slices are stacked


def has_place(volume: Volume) -> bool:
    """Return whether a volume's spacing and directions are meaningful; those of a picture are not."""
    return volume.has_spacing and (volume.source is None or suffix_of(volume.source) not in PICTURE_SUFFIXES)


def slice_names(volume: Volume, axis: str) -> SliceNames:
    """Return the names of a volume's slices along an axis; those of a picture have no position."""
    return SliceNames.of(volume.geometry if has_place(volume) else None, axis)


def plane_of(geometry: VolumeGeometry, axis: Axis) -> str:
    """Return the plane nearest to the slices along an axis: ``axial``, ``coronal`` or ``sagittal``."""
    return _PLANES[int(np.argmax(np.abs(geometry.direction[:, 2 - AXES.index(axis)])))]


def is_stacked_backwards(geometry: VolumeGeometry, axis: Axis) -> bool:
    """Return whether slices run against the body's axis, that is to the right, to anterior or to inferior."""
    along = geometry.direction[:, 2 - AXES.index(axis)]
    return bool(along[int(np.argmax(np.abs(along)))] < 0)


def slice_depths(volume: Volume, axis: Axis, backwards: bool | None = None) -> npt.NDArray[np.float32] | None:
    """Return the relative position of each slice along its volume, -1 to 1, float32 ``(S,)``.

    It grows to the left, to posterior or to superior, whatever the order of the slices in the file. Volumes of the same
    organ that show more or less of its surroundings differ in it.

    Args:
        volume: The volume.
        axis: Its slicing axis.
        backwards: Whether its slices run against the body's axis; by default as its directions tell.

    Returns:
        None for a single slice.
    """
    count = volume.geometry.shape_kji[AXES.index(axis)]
    if count < 2:
        return None
    depths = np.linspace(-1.0, 1.0, count, dtype=np.float32)
    if backwards is None:
        backwards = is_stacked_backwards(volume.geometry, axis)
    return -depths if has_place(volume) and backwards else depths


def stack_direction(geometry: VolumeGeometry, axis: Axis) -> npt.NDArray[np.float64]:
    """Return the direction in LPS along which slices lie, towards left, posterior or superior: unit vector ``(3,)``."""
    along = geometry.direction[:, 2 - AXES.index(axis)]
    return -along if is_stacked_backwards(geometry, axis) else along


def tilt_degrees(geometry: VolumeGeometry, axis: Axis, other: VolumeGeometry, other_axis: Axis) -> float:
    """Return the angle between the slices of two volumes, 0 to 90 degrees."""
    cosine = abs(float(stack_direction(geometry, axis) @ stack_direction(other, other_axis)))
    return math.degrees(math.acos(min(1.0, cosine)))


def view_like(
    geometry: VolumeGeometry, axis: Axis, others: Sequence[tuple[VolumeGeometry, Axis]]
) -> tuple[SliceView, bool]:
    """Return the view of a target's slices that shows the anatomy as its supports do.

    The slices are turned, flipped and ordered like those of the support that is closest to parallel, so that tilting
    the target changes nothing. Only slices at right angles to all supports are oriented by the body's own planes: the
    directions do not tell which way round they resemble the supports.

    Args:
        geometry: The target.
        axis: Its slicing axis.
        others: The supports with their slicing axes.

    Returns:
        The view, and whether the slices run against the order of the support's, see `slice_depths`.
    """
    nearest = min(others, key=lambda one: tilt_degrees(geometry, axis, *one), default=None)
    if nearest is None or tilt_degrees(geometry, axis, *nearest) > MOST_TILT:
        return slice_view(geometry, axis), is_stacked_backwards(geometry, axis)
    other, other_axis = nearest
    down, right = view_directions(other, slice_view(other, other_axis))
    along = geometry.direction[:, 2 - AXES.index(axis)]
    return slice_view_along(geometry, axis, down, right), bool(along @ stack_direction(other, other_axis) < 0)


def parallel_axis(geometry: VolumeGeometry, other: VolumeGeometry, axis: Axis) -> Axis:
    """Return the axis of ``geometry`` whose slices are closest to parallel to those of ``other`` along ``axis``."""
    along = np.abs(geometry.direction.T @ other.direction[:, 2 - AXES.index(axis)])  # cosines for i, j, k
    return AXES[2 - int(np.argmax(along))]


def is_sliceable(geometry: VolumeGeometry, axis: Axis) -> bool:
    """Return whether slices along an axis have nearly square pixels and enough of them."""
    rows_mm, columns_mm = slice_spacing_mm(geometry, axis)
    ratio = max(rows_mm, columns_mm) / min(rows_mm, columns_mm)
    return ratio <= MOST_PIXEL_ASPECT and min(_slice_shape(geometry, axis)) >= SMALLEST_SLICE


def _slice_shape(geometry: VolumeGeometry, axis: Axis) -> tuple[int, int]:
    """Return the numbers of rows and columns of the slices along an axis."""
    rows, columns = (n for n, name in zip(geometry.shape_kji, AXES, strict=True) if name != axis)
    return rows, columns


def annotated_axis(volume: Volume, segmentation: Segmentation) -> Axis:
    """Return the axis along which a case was annotated.

    This is the acquired axis; but if only a few slices of a volume with cubic voxels are annotated, it is the
    axis along which they are few slices instead of stripes on all.
    """
    inside = np.any([segment.mask > 0 for segment in segmentation.segments], axis=0)
    counts = {axis: int(take_slices(inside, axis).any(axis=(1, 2)).sum()) for axis in AXES}
    return axis_of_counts(volume.geometry, counts)


def axis_of_counts(geometry: VolumeGeometry, counts: Mapping[Axis, int]) -> Axis:
    """Return the axis along which a case was annotated, see `annotated_axis`.

    Args:
        geometry: Its lattice.
        counts: How many slices along each axis show an object.
    """
    best = auto_axis(geometry)
    sparse = [axis for axis in AXES if is_sliceable(geometry, axis) and 3 * counts[axis] <= counts[best]]
    return min(sparse, key=lambda axis: counts[axis], default=best)


def choose_axes(
    cases: Sequence[tuple[Volume, Segmentation]], target: Volume, wanted: str = "auto"
) -> tuple[Axis, list[Axis], list[Note]]:
    """Choose slicing axes of target and supports so that their slices show the body in the same plane.

    Args:
        cases: Images and annotations of the supports.
        target: The volume to be segmented.
        wanted: Axis of the target, ``k``, ``j`` or ``i``; ``auto`` takes the acquired slices, or for nearly
            cubic voxels those in the plane of the supports.

    Returns:
        The target's axis, the axis of each support, and notes for the user.

    Raises:
        UsageError: If the axis is unknown or its slices are only a few pixels wide.
    """
    if wanted not in ("auto", *AXES):
        raise UsageError(f"the axis is '{wanted}'; choose auto, k (slices), j (rows) or i (columns).")
    natural = [annotated_axis(volume, segmentation) for volume, segmentation in cases]
    axis: Axis = auto_axis(target.geometry) if wanted == "auto" else wanted  # type: ignore[assignment]
    placed = [n for n, (volume, _) in enumerate(cases) if has_place(volume)] if has_place(target) else []
    if wanted == "auto" and placed:
        first = placed[0]
        alike = parallel_axis(target.geometry, cases[first][0].geometry, natural[first])
        axis = alike if is_sliceable(target.geometry, alike) else axis
    rows, columns = _slice_shape(target.geometry, axis)
    if wanted != "auto" and min(rows, columns) < SMALLEST_SLICE:
        raise UsageError(
            f"the slices of {target.name} along {axis} have only {rows}x{columns} pixels, too few to segment",
            Remedy(kind=RemedyKind.CHOOSE_AXIS),
        )
    axes, notes = list(natural), []
    for n in placed:
        volume, alike = cases[n][0], parallel_axis(cases[n][0].geometry, target.geometry, axis)
        if alike != natural[n] and is_sliceable(volume.geometry, alike):
            axes[n] = alike
        seen, needed = plane_of(volume.geometry, axes[n]), plane_of(target.geometry, axis)
        if seen != needed and axes[n] != alike:
            text = (
                f"The slices of the support {volume.name} are {seen}, those of the target {target.name} are "
                f"{needed}: the same organ looks different in them. A support in the plane of the target fits better."
            )
            notes.append(Note(text, Remedy(kind=RemedyKind.CHOOSE_AXIS)))
    return axis, axes, notes


def differences(supports: Sequence[tuple[Volume, Axis]], target: Volume, axis: Axis) -> list[Note]:
    """Describe differences between supports and target that may impair the result."""
    notes = []
    for volume, own in supports:
        if volume.source is not None and target.source is not None and _same_image(volume, target):
            notes.append(
                f"The target {target.name} is the support itself; the result does not show how well other cases work."
            )
        if volume.is_rgb != target.is_rgb:
            kinds = ("in colour", "grey") if volume.is_rgb else ("grey", "in colour")
            notes.append(
                f"The support {volume.name} is {kinds[0]}, the target {target.name} {kinds[1]}: they are hardly of "
                "the same kind. Choose a support of the same modality."
            )
        if has_place(volume) != has_place(target):
            kinds = ("a volume", "a picture") if has_place(volume) else ("a picture", "a volume")
            notes.append(
                f"The support {volume.name} is {kinds[0]}, the target {target.name} {kinds[1]}: how large things are "
                "in them cannot be compared. Check that both show the same organ in the same modality."
            )
        if has_place(volume) and has_place(target):
            notes += _size_notes(volume, own, target, axis)
        else:
            shapes = [_slice_shape(v.geometry, a) for v, a in ((volume, own), (target, axis))]
            sides = [rows / columns for rows, columns in shapes]
            if max(sides) / min(sides) > NOTABLE_RATIO:
                notes.append(
                    f"The slices of the support {volume.name} ({shapes[0][1]}x{shapes[0][0]} pixels) and of the "
                    f"target ({shapes[1][1]}x{shapes[1][0]}) have very different shapes. Choose a support that is "
                    "framed alike."
                )
    return [Note(text) for text in dict.fromkeys(notes)]


def _same_image(volume: Volume, target: Volume) -> bool:
    """Return whether two volumes have the same voxels: a file and its copy, also the one in the library."""
    one, other = volume.array, target.array
    if one.shape != other.shape or not np.array_equal(one[len(one) // 2], other[len(other) // 2]):
        return False  # nearly always decided by a single slice
    return np.array_equal(one, other)


def _size_notes(volume: Volume, own: Axis, target: Volume, axis: Axis) -> list[str]:
    """Describe notable differences in pixel size and field of view, as sentences."""
    notes = []
    pixels = [
        math.sqrt(math.prod(slice_spacing_mm(g, a))) for g, a in ((volume.geometry, own), (target.geometry, axis))
    ]
    if max(pixels) / min(pixels) > NOTABLE_RATIO:
        notes.append(
            f"The support {volume.name} has pixels of {pixels[0]:.2g} mm, the target {target.name} of {pixels[1]:.2g} "
            "mm, more than a factor of 2 apart. Choose a support of similar resolution."
        )
    fields = []
    for g, a in ((volume.geometry, own), (target.geometry, axis)):
        extent = [n * mm for n, mm in zip(_slice_shape(g, a), slice_spacing_mm(g, a), strict=True)]
        fields.append(max(extent))
    if max(fields) / min(fields) > NOTABLE_RATIO:
        notes.append(
            f"The support {volume.name} shows {fields[0]:.0f} mm, the target {target.name} {fields[1]:.0f} mm across: "
            "the fields of view are more than a factor of 2 apart. Choose a support that is framed alike, or crop "
            "one of them."
        )
    return notes
