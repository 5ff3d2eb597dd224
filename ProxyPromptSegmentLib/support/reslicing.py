"""A target resampled on a grid whose slices are parallel to those of a support, and results brought back from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import (
    Axis,
    FloatArray,
    SliceView,
    VolumeGeometry,
    axis_number,
    slice_spacing_mm,
)
from ProxyPromptSegmentLib.imaging.itk_images import array_to_image
from ProxyPromptSegmentLib.imaging.volumes import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

Floats = npt.NDArray[np.float32]

MOST_SIDE, MOST_SLICES = 512, 400
"""Voxels of the resampled target along rows or columns, and across; larger volumes get coarser voxels."""

_MOST_VOXELS = 2_000_000  # that are looked at to find the padding


@dataclass(frozen=True, eq=False)
class Reslicing:
    """A grid in the plane of a support; its rows, columns and slices run as the model sees the support's.

    Attributes:
        geometry: The grid; slices are along ``k``.
        view: Its slices, none of them turned.
    """

    geometry: VolumeGeometry
    view: SliceView

    @classmethod
    def parallel(cls, target: Volume, frame: FloatArray, support: VolumeGeometry, axis: Axis) -> Reslicing:
        """Return the grid in a frame that holds all of a target but its padding.

        Args:
            target: The volume.
            frame: Directions in LPS of columns, rows and stack, ``(3, 3)``.
            support: Grid of the support; slices are not much closer than its own.
            axis: Slicing axis of the support.
        """
        low, high = _content(target, frame)
        finest = min(target.geometry.spacing_mm)
        coarsest = min(max(target.geometry.spacing_mm), support.spacing_mm[2 - axis_number(axis)])
        across = max(finest, coarsest / 2)
        spacing = np.maximum(
            (finest, finest, across), (high - low) / (np.array([MOST_SIDE, MOST_SIDE, MOST_SLICES]) - 1.0)
        )
        spacing[:2] = spacing[:2].max()  # square pixels
        size = np.floor((high - low) / spacing + 1e-6).astype(int) + 1
        i, j, k = (int(n) for n in size)
        x, y, z = (float(mm) for mm in spacing)
        a, b, c = (float(mm) for mm in frame @ ((low + high) / 2 - (size - 1) / 2 * spacing))
        geometry = VolumeGeometry((i, j, k), (x, y, z), (a, b, c), frame)
        return cls(geometry, SliceView("k", False, False, False, slice_spacing_mm(geometry, "k")))

    def volume(self, target: Volume) -> Volume:
        """Return the target on this grid, interpolated linearly; outside of it lies its lowest value."""
        parts = np.moveaxis(target.array, -1, 0) if target.is_rgb else target.array[None]
        lowest = float(target.array.min())
        turned = [_resampled(part, target.geometry, self.geometry, lowest) for part in parts]
        array = np.stack(turned, axis=-1) if target.is_rgb else turned[0]
        return replace(target, array=array, geometry=self.geometry)

    def brought_back(self, values: Floats, target: VolumeGeometry) -> Floats:
        """Return values on this grid, ``(K, J, I)``, on the target's, interpolated linearly; 0 outside."""
        return _resampled(values, self.geometry, target, 0.0)


def _content(target: Volume, frame: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far a target reaches in a frame without its padding: lowest and highest positions in mm, ``(3,)``."""
    array = target.array.max(axis=-1) if target.is_rgb else target.array
    step = max(1, round((array.size / _MOST_VOXELS) ** (1 / 3)))
    there = array[::step, ::step, ::step]
    there = there > there.min()
    if not there.any():
        there = np.ones_like(there)
    matrix = frame.T @ target.geometry.affine[:3]
    k, j, i = (np.arange(n) * step for n in there.shape)
    between = (step - 1) * np.abs(matrix[:, :3]).sum(axis=1)  # how far voxels that are not looked at may lie outside
    low, high = np.zeros(3), np.zeros(3)
    for axis, (along_i, along_j, along_k, start) in enumerate(matrix):
        place = along_k * k[:, None, None] + along_j * j[:, None] + along_i * i
        low[axis], high[axis] = place[there].min() + start, place[there].max() + start
    return low - between, high + between


def _resampled(values: Floats, own: VolumeGeometry, other: VolumeGeometry, outside: float) -> Floats:
    """Return an array on another grid, interpolated linearly."""
    import SimpleITK as sitk

    image: sitk.Image = array_to_image(np.ascontiguousarray(values, np.float32), own)
    direction = [float(x) for x in other.direction.ravel()]
    found = sitk.Resample(
        image, list(other.size_ijk), sitk.Transform(), sitk.sitkLinear, list(other.origin_lps),
        list(other.spacing_mm), direction, outside,
    )  # fmt: skip
    result: Floats = sitk.GetArrayFromImage(found)
    return result
