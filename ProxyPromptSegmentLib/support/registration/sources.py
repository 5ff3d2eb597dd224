"""Volumes as the registration reads them: oriented slices from inferior to superior (or right to left, and so on)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import (
    AXES,
    Axis,
    SliceView,
    VolumeGeometry,
    axis_number,
    slice_spacing_mm,
    slice_view,
)
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.support.matching import has_place, is_stacked_backwards, plane_of
from ProxyPromptSegmentLib.support.registration.alignment import SAMPLES, align
from ProxyPromptSegmentLib.support.registration.placement import candidates
from ProxyPromptSegmentLib.support.registration.prior import (
    FEWEST_SLICES,
    PLACED_WITH,
    MarkedStack,
    MaskPrior,
    Registered,
    register,
)
from ProxyPromptSegmentLib.support.registration.stack import Stack, box_of

_UNKNOWN = (1.0, 1.0, 1.0)  # spacing in mm that files have whose authors did not know it


@dataclass(frozen=True, eq=False)
class SupportVolume:
    """An annotated volume that may be registered to a target.

    Attributes:
        volume: The image.
        masks: One mask for each object, uint8 ``(K, J, I)``.
        axis: Slicing axis, parallel to the target's.
        name: Name for display.
    """

    volume: Volume
    masks: tuple[npt.NDArray[np.uint8], ...]
    axis: Axis
    name: str


def is_stack(volume: Volume, axis: Axis) -> bool:
    """Return whether a volume has enough slices along an axis to be registered; a picture has not."""
    return bool(volume.array.shape[axis_number(axis)] >= FEWEST_SLICES)


def mask_prior(
    supports: Sequence[SupportVolume],
    target: Volume,
    axis: Axis,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    view: SliceView | None = None,
    backwards: bool | None = None,
    compared: bool = False,
) -> MaskPrior:
    """Register supports to a target, see `prior.register`.

    Args:
        supports: Annotated volumes with the same objects.
        target: The volume to be segmented.
        axis: Its slicing axis.
        progress: Informed of each support.
        cancel: Checked between short steps.
        view: Orientation of the target's slices; by default that of the body's plane.
        backwards: Whether the target's slices run against the order of the supports'; by default as its directions
            tell.
        compared: Whether supports and target were compared, so that all are taken to be parallel whatever the headers
            say; otherwise those in another plane of the body are left out.

    Returns:
        The prior; its masks have the order and orientation of the target's oriented slices.
    """
    if backwards is None:
        backwards = has_place(target) and is_stacked_backwards(target.geometry, axis)
    fixed = stack_of(target, axis, view, backwards)
    parallel = [one for one in supports if compared or _is_parallel(one, target, axis)]
    found = register([_marked(one) for one in parallel], fixed, progress, cancel)
    others = tuple(
        Registered(
            name=one.name,
            similarity=0.0,
            deformed=False,
            seconds=0.0,
            problem="its slices lie in another plane than the target's",
        )
        for one in supports
        if one not in parallel
    )
    masks = found.masks
    if masks is not None and backwards:
        masks = masks[::-1]
    return MaskPrior(masks=masks, supports=found.supports + others, cancelled=found.cancelled)


class Likeness:
    """How alike a support and a target are around the support's objects, if the target is read in several ways."""

    def __init__(self, support: SupportVolume) -> None:
        """Read a support, of which a coarse copy is made."""
        self._pixel = _compared_pixel(support)
        marked = _marked(_coarse_support(support, self._pixel))
        objects = np.asarray(marked.masks.any(axis=1))
        self._stack = marked.stack
        self._box = box_of(objects, PLACED_WITH) if objects.any() else None
        self._seen: tuple[Volume, Volume] | None = None

    def of(self, target: Volume, view: SliceView, backwards: bool, cancel: CancelToken | None = None) -> float:
        """Return the similarity, -1..1; -1 if no slice of the support is marked, or if it was cancelled.

        Args:
            target: The target; a coarse copy of it is made once for all ways to read it.
            view: Turn of its slices.
            backwards: Whether they run against the order of the support's.
            cancel: Checked between short steps.
        """
        cancel = cancel or CancelToken()
        if self._box is None or cancel.cancelled:
            return -1.0
        if self._seen is None or self._seen[0] is not target:
            self._seen = target, _coarse(target, self._pixel if self._stack.measured else 0.0)
        coarse = self._seen[1]
        fixed = _stack(coarse.array, coarse, _on(view, coarse), backwards)
        starts = candidates(self._stack, self._box, fixed)
        return align(self._stack, self._box, fixed, starts, stopped=lambda: cancel.cancelled, rounds=1).similarity


def _compared_pixel(support: SupportVolume) -> float:
    """Return the pixel size in mm up to which voxels may be joined before a support is compared; 0 if it is unknown."""
    if not _is_measured(support.volume):
        return 0.0
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(np.any([mask.any(axis=others) for mask in support.masks], axis=0))
        mm = support.volume.geometry.spacing_mm[2 - axis]
        if there.size and axis != axis_number(support.axis):
            sides.append(max(float(there[-1] - there[0] + 1) * mm * (1 + 2 * PLACED_WITH) / SAMPLES, mm))
    return max(sides) / 2 if sides else 0.0


def _blocks(volume: Volume, pixel_mm: float) -> tuple[int, int, int]:
    """Return how many voxels along k, j and i are joined, so that they become at most as large as asked for."""
    if not _is_measured(volume):
        return 1, 1, 1
    k, j, i = (
        max(1, min(int(pixel_mm / mm), n // 8))
        for mm, n in zip(reversed(volume.geometry.spacing_mm), volume.geometry.shape_kji, strict=True)
    )
    return k, j, i


def _parts(array: npt.NDArray[Any], blocks: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Return an array ``(K, J, I)`` as blocks of voxels, ``(K', a, J', b, I', c)``; what is left over is cropped."""
    (k, j, i), (a, b, c) = (n // m for n, m in zip(array.shape, blocks, strict=True)), blocks
    return array[: k * a, : j * b, : i * c].reshape(k, a, j, b, i, c)


def _coarse(volume: Volume, pixel_mm: float) -> Volume:
    """Return a volume, grey and with its window at 0..1, whose voxels are joined up to a size in mm."""
    own, blocks = volume.geometry, _blocks(volume, pixel_mm)
    window = intensity_window(volume.array)
    grey = volume.array.mean(axis=-1) if volume.is_rgb else volume.array
    joined = _parts(grey, blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    (k, j, i), (a, b, c) = joined.shape, blocks
    x, y, z = (mm * block for mm, block in zip(own.spacing_mm, (c, b, a), strict=True))
    middle = own.index_to_lps([(block - 1) / 2 for block in (c, b, a)])
    place = (float(middle[0]), float(middle[1]), float(middle[2]))
    geometry = VolumeGeometry((i, j, k), (x, y, z), place, own.direction)
    return replace(volume, array=window_to_unit(joined, window), geometry=geometry)


def _coarse_support(support: SupportVolume, pixel_mm: float) -> SupportVolume:
    """Return a support likewise; a joined voxel is marked if any of its voxels is."""
    blocks = _blocks(support.volume, pixel_mm)
    masks = tuple(_parts(mask, blocks).max(axis=(1, 3, 5)) for mask in support.masks)
    return replace(support, volume=_coarse(support.volume, pixel_mm), masks=masks)


def _on(view: SliceView, volume: Volume) -> SliceView:
    """Return a view with the pixel sizes of another volume."""
    rows_mm, columns_mm = slice_spacing_mm(volume.geometry, view.axis)
    return replace(view, spacing_mm=(columns_mm, rows_mm) if view.transpose else (rows_mm, columns_mm))


def _is_measured(volume: Volume) -> bool:
    """Return whether the distances between a volume's voxels are known."""
    return has_place(volume) and volume.geometry.spacing_mm != _UNKNOWN


def stack_of(volume: Volume, axis: Axis, view: SliceView | None = None, backwards: bool | None = None) -> Stack:
    """Return a volume's oriented slices, grey and with its intensity window at 0..1.

    Args:
        volume: The volume.
        axis: Its slicing axis.
        view: Turn of the slices; by default that of the body's plane.
        backwards: Whether to reverse their order; by default as its directions tell.
    """
    return _stack(_unit(volume), volume, view or slice_view(volume.geometry, axis), backwards)


def _unit(volume: Volume) -> npt.NDArray[np.float32]:
    """Return a volume's intensities, grey and with its window at 0..1, ``(K, J, I)``."""
    unit = window_to_unit(volume.array, intensity_window(volume.array))
    grey: npt.NDArray[np.float32] = unit.mean(axis=-1) if volume.is_rgb else unit
    return grey


def _stack(unit: npt.NDArray[np.float32], volume: Volume, view: SliceView, backwards: bool | None) -> Stack:
    """Return the slices of a volume that is read in a way."""
    spacing = volume.geometry.spacing_mm
    across = spacing[2 - AXES.index(view.axis)]
    slices = view.take(unit)
    ordered = _ordered(slices, volume, view.axis) if backwards is None else slices[:: -1 if backwards else 1]
    return Stack(np.ascontiguousarray(ordered), (across, *view.spacing_mm), measured=_is_measured(volume))


def _marked(support: SupportVolume) -> MarkedStack:
    """Return a support's slices with its masks."""
    view = slice_view(support.volume.geometry, support.axis)
    masks = np.stack([view.take(mask) for mask in support.masks], axis=1)
    ordered = _ordered(masks, support.volume, support.axis)
    return MarkedStack(support.name, stack_of(support.volume, support.axis), ordered)


def _ordered(slices: npt.NDArray[Any], volume: Volume, axis: Axis) -> npt.NDArray[Any]:
    """Return slices in the order of the body's axis; those of a volume without directions as they are."""
    if has_place(volume) and is_stacked_backwards(volume.geometry, axis):
        slices = slices[::-1]
    return np.ascontiguousarray(slices)


def _is_parallel(support: SupportVolume, target: Volume, axis: Axis) -> bool:
    """Return whether slices of both lie in one anatomical plane, or nothing is known of one of them."""
    if not (has_place(support.volume) and has_place(target)):
        return True
    return plane_of(support.volume.geometry, support.axis) == plane_of(target.geometry, axis)
