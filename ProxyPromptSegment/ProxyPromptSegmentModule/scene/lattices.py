"""Spatial relations of MRML nodes: matrices between their voxels, and labelmaps on a volume's lattice.

Matrices are 4x4 float64 arrays that are multiplied with column vectors ``(i, j, k, 1)`` or ``(r, a, s, 1)``, in mm. The
labelmaps of a segmentation are in its own RAS coordinates, before its parent transform. Volume lattices are converted
into these, so that equal transforms cancel out and nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ProxyPromptSegmentLib.imaging.geometry import SAME_GRID_VOXELS, LatticeMap

Matrix = npt.NDArray[np.float64]
Extent = tuple[int, int, int, int, int, int]
"""First and last index along i, j and k."""
Labels = npt.NDArray[np.integer]
"""Voxels of a labelmap, of any integer type."""

LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def array_of(matrix: vtk.vtkMatrix4x4) -> Matrix:
    """Return the elements of a vtkMatrix4x4."""
    return np.array([matrix.GetElement(row, column) for row in range(4) for column in range(4)]).reshape(4, 4)


def vtk_matrix_of(array: npt.ArrayLike) -> vtk.vtkMatrix4x4:
    """Return a vtkMatrix4x4 with the elements of a 4x4 array."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=np.float64).ravel().tolist())
    return matrix


def transform_between(
    source: slicer.vtkMRMLTransformNode | None, target: slicer.vtkMRMLTransformNode | None
) -> vtk.vtkGeneralTransform:
    """Return the transform from the space of one transform node to that of another; None is the world."""
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, general)
    return general


def matrix_between(
    source: slicer.vtkMRMLTransformNode | None, target: slicer.vtkMRMLTransformNode | None
) -> Matrix | None:
    """Return the matrix from the space of one transform node to that of another, or None if it is not linear."""
    if source is target:
        return np.eye(4)
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform_between(source, target)):
        return None
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, matrix)
    return array_of(matrix)


def ijk_to_ras(volume_node: slicer.vtkMRMLVolumeNode) -> Matrix:
    """Return the volume's own matrix from voxels to RAS, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return array_of(matrix)


def ijk_to_segmentation(
    volume_node: slicer.vtkMRMLVolumeNode, segmentation_node: slicer.vtkMRMLSegmentationNode
) -> Matrix | None:
    """Return the matrix from a volume's voxels to a segmentation's own RAS; None if it is not linear."""
    between = matrix_between(volume_node.GetParentTransformNode(), segmentation_node.GetParentTransformNode())
    return None if between is None else between @ ijk_to_ras(volume_node)


def size_kji(volume_node: slicer.vtkMRMLVolumeNode) -> tuple[int, int, int]:
    """Return the number of voxels along k, j and i of a volume with image data."""
    image = volume_node.GetImageData()
    assert image is not None
    i, j, k = image.GetDimensions()
    return k, j, i


def corners(extent: Sequence[int]) -> Matrix:
    """Return the eight corner voxels of an extent ``(i0, i1, j0, j1, k0, k1)``: ``(8, 4)``, homogeneous."""
    i, j, k = extent[0:2], extent[2:4], extent[4:6]
    return np.array([(*ijk, 1.0) for ijk in product(i, j, k)], dtype=np.float64)


def full_extent(shape: tuple[int, int, int]) -> Extent:
    """Return the extent of a whole volume of shape ``(K, J, I)``."""
    return 0, shape[2] - 1, 0, shape[1] - 1, 0, shape[0] - 1


def relate(source: Matrix, extent: Sequence[int], reference: Matrix, shape: tuple[int, int, int]) -> LatticeMap | None:
    """Return how an extent of a lattice maps to a reference lattice, or None if the voxels do not coincide.

    Args:
        source: Matrix from the source's voxels to mm.
        extent: The extent of the source, ``(i0, i1, j0, j1, k0, k1)``.
        reference: Matrix from the reference's voxels to the same mm.
        shape: Shape ``(K, J, I)`` of arrays on the reference.
    """
    relation = np.linalg.inv(reference) @ source
    turn, offset = np.round(relation[:3, :3]), np.round(relation[:3, 3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    exact, rounded = relation[:3], np.column_stack([turn, offset])
    back = corners(full_extent(shape)) @ np.linalg.inv(relation).T  # check both boxes, because both will be read
    places = np.concatenate([corners(extent), back])
    if np.abs(places @ exact.T - places @ rounded.T).max() > SAME_GRID_VOXELS:
        return None
    first = (corners(extent) @ rounded.T).min(axis=0).astype(int)
    turn_kji = turn[::-1, ::-1]
    a, b, c = (int(n) for n in np.abs(turn_kji).argmax(axis=1))
    f, g, h = (bool(n < 0) for n in turn_kji.sum(axis=1))
    return LatticeMap((a, b, c), (f, g, h), (int(first[2]), int(first[1]), int(first[0])), shape)


# --- labelmaps ----------------------------------------------------------------------------------------------


def labelmap_matrix(labelmap: slicer.vtkOrientedImageData) -> Matrix:
    """Return the matrix from a vtkOrientedImageData's voxels to mm."""
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    return array_of(matrix)


def is_empty(labelmap: slicer.vtkOrientedImageData) -> bool:
    """Return whether a labelmap has no voxels, as in a segment in which nothing was drawn yet."""
    extent = labelmap.GetExtent()
    return any(extent[2 * n] > extent[2 * n + 1] for n in range(3)) or labelmap.GetPointData().GetScalars() is None


def labelmap_array(labelmap: slicer.vtkOrientedImageData) -> Labels:
    """Return the labelmap's voxels as a view ``(K, J, I)``; valid until VTK reallocates them."""
    i, j, k = labelmap.GetDimensions()
    return vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(k, j, i)


def new_labelmap(matrix: Matrix, extent: Sequence[int], dtype: npt.DTypeLike = np.uint8) -> slicer.vtkOrientedImageData:
    """Create a labelmap of zeros.

    The operating system provides the memory lazily, so this is fast even for large volumes.
    """
    i, j, k = (extent[2 * n + 1] - extent[2 * n] + 1 for n in range(3))
    return labelmap_of(np.zeros((k, j, i), dtype), matrix, extent)


def labelmap_of(values: Labels, matrix: Matrix, extent: Sequence[int]) -> slicer.vtkOrientedImageData:
    """Create a labelmap that uses the memory of an array ``(K, J, I)``."""
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetExtent(*extent)
    labelmap.SetGeometryFromImageToWorldMatrix(vtk_matrix_of(matrix))
    scalars = numpy_to_vtk(values.ravel(), deep=False)
    scalars.SetName("ImageScalars")
    labelmap.GetPointData().SetScalars(scalars)
    return labelmap


@dataclass(frozen=True)
class Seen:
    """A labelmap on a volume's lattice.

    Attributes:
        values: View of its voxels with the axes of the volume; writes go into the labelmap.
        start: Index ``(k, j, i)`` of its first voxel in the volume; may be negative.
        shape: Shape ``(K, J, I)`` of the volume.
    """

    values: Labels
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def is_whole(self) -> bool:
        """Whether it covers the whole volume."""
        return all(s <= 0 and s + n >= t for s, n, t in zip(self.start, self.values.shape, self.shape, strict=True))

    def plane(self, axis: int, index: int) -> tuple[Labels, tuple[slice, slice]] | None:
        """Return the covered part of a slice as a view, and its position in the slice; None if there is none."""
        if not 0 <= index - self.start[axis] < self.values.shape[axis]:
            return None
        here, there = [], []
        for n in (n for n in range(3) if n != axis):
            low, high = max(0, self.start[n]), min(self.shape[n], self.start[n] + self.values.shape[n])
            if low >= high:
                return None
            here.append(slice(low - self.start[n], high - self.start[n]))
            there.append(slice(low, high))
        cut = np.moveaxis(self.values, axis, 0)[index - self.start[axis]]
        return cut[tuple(here)], (there[0], there[1])

    def read(self, axis: int, index: int, label: int) -> npt.NDArray[np.bool_]:
        """Return a whole slice of one segment, True inside."""
        result = np.zeros([n for m, n in enumerate(self.shape) if m != axis], dtype=bool)
        if (found := self.plane(axis, index)) is not None:
            np.equal(found[0], label, out=result[found[1]])
        return result


def seen_on(labelmap: slicer.vtkOrientedImageData, volume_matrix: Matrix, shape: tuple[int, int, int]) -> Seen | None:
    """Return a labelmap on a volume's lattice, or None if it is empty or the voxels do not coincide.

    Args:
        labelmap: A vtkOrientedImageData of a segmentation.
        volume_matrix: Matrix from the volume's voxels to the segmentation's mm, see `ijk_to_segmentation`.
        shape: The volume's ``(K, J, I)``.
    """
    if is_empty(labelmap):
        return None
    lattice = relate(labelmap_matrix(labelmap), labelmap.GetExtent(), volume_matrix, shape)
    if lattice is None:
        return None
    turned = np.transpose(labelmap_array(labelmap), lattice.order)
    turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in lattice.flips)]
    return Seen(turned, lattice.start, shape)


def covering_extent(
    labelmap_matrix: Matrix, extent: Sequence[int] | None, volume_matrix: Matrix, shape: tuple[int, int, int]
) -> tuple[int, ...]:
    """Return the smallest extent on a labelmap's lattice that covers its own voxels and the volume."""
    relation = np.linalg.inv(labelmap_matrix) @ volume_matrix
    box = np.round(corners(full_extent(shape)) @ relation[:3].T).astype(int)
    low, high = box.min(axis=0), box.max(axis=0)
    if extent is not None:
        low = np.minimum(low, extent[0::2])
        high = np.maximum(high, extent[1::2])
    return tuple(int(n) for pair in zip(low, high, strict=True) for n in pair)
