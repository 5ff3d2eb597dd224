"""Boxes by hand: from Markups nodes to voxels, and thin ones on a slice."""

from __future__ import annotations

import itertools

import numpy as np
import slicer

from ProxyPromptSegmentLib.imaging.geometry import Axis, axis_number
from ProxyPromptSegmentLib.inference.by_hand.prompts import VoxelBox
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.nodes import check_volume, exact_ijk, geometry_of

_LAID = "ProxyPrompt.laid"
"""Attribute of a box that was laid on a slice."""
_THIN = 0.9
"""Thickness of a box on a slice, in slices."""


def corners_of_box(node: slicer.vtkMRMLMarkupsNode) -> list[tuple[float, float, float]] | None:
    """Return the corners of a box in the world, RAS mm, also of a turned one; None before it is drawn."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    if bounds[0] > bounds[1] or not isinstance(node, slicer.vtkMRMLMarkupsROINode):
        return None
    to_world, half = node.GetObjectToWorldMatrix(), [size / 2 for size in node.GetSize()]
    if sum(size > 0 for size in half) < 2:  # a corner only
        return None
    corners = [
        to_world.MultiplyPoint([x * half[0], y * half[1], z * half[2], 1.0])[:3]
        for x, y, z in itertools.product((-1, 1), repeat=3)
    ]
    return [(r, a, s) for r, a, s in corners]


def voxel_box(
    node: slicer.vtkMRMLMarkupsNode, volume: slicer.vtkMRMLVolumeNode, axis: Axis, name: str
) -> VoxelBox | None:
    """Return a box of an object in voxels, as far as it lies in the image; None without an area on a slice."""
    corners = corners_of_box(node)
    if corners is None:
        return None
    places = np.array([exact_ijk(volume, corner) for corner in corners])
    sizes = np.array(check_volume(volume).GetDimensions())
    low, high = places.min(axis=0), places.max(axis=0)
    if (high < -0.5).any() or (low >= sizes - 0.5).any():
        return None
    across = 2 - axis_number(axis)
    middle = (low[across] + high[across]) / 2
    # half a voxel at each end belongs to the slices beside it: a thin box stays on its slice
    low[across], high[across] = min(low[across] + 0.49, middle), max(high[across] - 0.49, middle)
    low, high = np.clip(low, 0, sizes - 1), np.clip(high, 0, sizes - 1)
    if any(low[n] >= high[n] for n in range(3) if n != across):
        return None
    (i, j, k), (to_i, to_j, to_k) = low.tolist(), high.tolist()
    return VoxelBox((i, j, k), (to_i, to_j, to_k), name)


def lay_on_slice(node: slicer.vtkMRMLMarkupsNode, volume: slicer.vtkMRMLVolumeNode, axis: Axis, index: int) -> None:
    """Make a box that was just drawn as thin as a slice, along the axes of the volume; later changes of it stay."""
    corners = corners_of_box(node)
    if corners is None or node.GetAttribute(_LAID) or not isinstance(node, slicer.vtkMRMLMarkupsROINode):
        return
    places = np.array([exact_ijk(volume, corner) for corner in corners])
    across = 2 - axis_number(axis)
    low, high = places.min(axis=0), places.max(axis=0)
    low[across], high[across] = index - _THIN / 2, index + _THIN / 2
    geometry = geometry_of(volume)
    directions = np.diag([-1.0, -1.0, 1.0]) @ np.asarray(geometry.direction)
    if np.linalg.det(directions) < 0:  # a box is rotated, never mirrored
        directions[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = directions
    middle = np.array([-1.0, -1.0, 1.0]) * np.asarray(geometry.index_to_lps((low + high) / 2))
    node.SetAttribute(_LAID, "1")
    node.SetAndObserveObjectToNodeMatrix(lattices.vtk_matrix_of(matrix))
    node.SetCenterWorld(*middle.tolist())
    node.SetSizeWorld(*((high - low) * np.asarray(geometry.spacing_mm)).tolist())
