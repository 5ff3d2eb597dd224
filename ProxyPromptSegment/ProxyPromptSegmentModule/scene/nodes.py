"""Conversion of MRML nodes to the library's volumes and segmentations; nodes are never changed.

World coordinates are RAS here, as everywhere in Slicer, and include the parent transforms. In `ProxyPromptSegmentLib`
they are LPS; this file and `lattices.py` convert between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import slicer
import slicer.util

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, axis_number
from ProxyPromptSegmentLib.imaging.mending import mended
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.pieces import Pieces, at_once, slices_at_once

if TYPE_CHECKING:
    import vtk

N = TypeVar("N", bound="slicer.vtkMRMLNode")

BINARY_LABELMAP = "Binary labelmap"
MADE_FOR = "ProxyPrompt.madeFor"
"""Node attribute: id of the volume that one of our segmentations was made for."""

Notes = tuple[str, ...]
Voxels = npt.NDArray[np.number]
"""Voxels of a volume, of any numeric type."""


def name_of(node: slicer.vtkMRMLNode | None) -> str:
    """Return the name of a node for use in a sentence."""
    return f"'{node.GetName()}'" if node is not None and node.GetName() else "the node"


def in_scene(node: slicer.vtkMRMLNode | None) -> bool:
    """Return whether a node is in a scene; a deleted node is not."""
    scene = None if node is None else node.GetScene()
    return node is not None and scene is not None and scene.IsNodePresent(node) != 0


def nodes_of(scene: slicer.vtkMRMLScene, kind: type[N]) -> list[N]:
    """Return all nodes of a class and its subclasses."""
    name = kind.__name__
    return [scene.GetNthNodeByClass(number, name) for number in range(scene.GetNumberOfNodesByClass(name))]


def add_node(scene: slicer.vtkMRMLScene, kind: type[N], name: str) -> N:
    """Add a node of a class, with a number in its name if another node has the name.

    A scene with an ``&`` in the name of a node is saved, and Slicer cannot load it again, so it becomes a ``+``.
    """
    plain = name.replace("&", "+")
    free, number = plain, 0
    while free and scene.GetFirstNodeByName(free) is not None:
        number += 1
        free = f"{plain}_{number}"
    node: N = scene.AddNewNodeByClass(kind.__name__, free)
    return node


def remove_node(node: slicer.vtkMRMLNode) -> None:
    """Remove a node together with the nodes that belong only to it; do nothing if it is in no scene."""
    scene = node.GetScene()
    if scene is None or not in_scene(node):
        return
    own: list[slicer.vtkMRMLNode] = []
    if isinstance(node, slicer.vtkMRMLDisplayableNode):
        own += [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    if isinstance(node, slicer.vtkMRMLStorableNode):
        own += [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
    scene.RemoveNode(node)
    for one in own:
        if in_scene(one):
            scene.RemoveNode(one)


# --- volumes ------------------------------------------------------------------------------------------------


def check_volume(volume_node: slicer.vtkMRMLVolumeNode | None) -> vtk.vtkImageData:
    """Check that a node is a volume with image data; return the image.

    Raises:
        InputError: If the node is missing, is not a volume or has no image data.
    """
    if volume_node is None or not volume_node.IsA("vtkMRMLVolumeNode"):
        raise InputError("no volume was given; choose a volume.")
    image = volume_node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or 0 in image.GetDimensions():
        raise InputError(f"{name_of(volume_node)} has no image data; load it again or choose another volume.")
    return image


def placed_geometry(volume_node: slicer.vtkMRMLVolumeNode) -> tuple[VolumeGeometry, Notes]:
    """Return the geometry of a volume in the world, and notes for the user.

    A parent transform is included if it is linear and preserves right angles (rotation, flip, scaling along the axes).
    Otherwise the geometry is that of the volume itself and a note says so.

    Raises:
        InputError: If the node is not a volume or has no image data.
        GeometryError: If the volume itself does not have a regular grid.
    """
    check_volume(volume_node)
    k, j, i = lattices.size_kji(volume_node)
    own = lattices.ijk_to_ras(volume_node)
    try:
        local = VolumeGeometry.from_affine(lattices.LPS_OF_RAS @ own, (i, j, k))
    except GeometryError as error:
        raise GeometryError(f"{name_of(volume_node)}: {error}") from None
    to_world = lattices.matrix_between(volume_node.GetParentTransformNode(), None)
    if to_world is not None:
        try:
            return VolumeGeometry.from_affine(lattices.LPS_OF_RAS @ to_world @ own, (i, j, k)), ()
        except GeometryError:
            pass
    kind = "bends" if to_world is None else "shears"
    return local, (
        f"The transform of {name_of(volume_node)} {kind} it. Its slices are used as stored, and sizes in mm are those "
        "without the transform.",
    )


def geometry_of(volume_node: slicer.vtkMRMLVolumeNode) -> VolumeGeometry:
    """Return the geometry of a volume in LPS, as `placed_geometry` but without notes."""
    return placed_geometry(volume_node)[0]


def volume_of(volume_node: slicer.vtkMRMLVolumeNode) -> tuple[Volume, Notes]:
    """Return a copy of a volume as float32 with its geometry, and notes for the user.

    Accepts scalar volumes of any type, and colour volumes (transparency is ignored). The array shares no memory with
    the node.

    Raises:
        InputError: If the node is not a volume, has no image data, has several components that are not colours, or has
            unusable intensities (NaN, infinite, all equal).
        GeometryError: If it has no regular grid.
    """
    return at_once(volume_in_pieces(volume_node))


def volume_in_pieces(volume_node: slicer.vtkMRMLVolumeNode) -> Pieces[tuple[Volume, Notes]]:
    """Return what `volume_of` returns, in pieces; begins again if the volume is changed meanwhile.

    Raises:
        InputError, GeometryError: As `volume_of`.
    """
    while True:
        geometry, notes = placed_geometry(volume_node)
        image = check_volume(volume_node)
        changed, shape = image.GetMTime(), stored_voxels(volume_node).shape
        copied = np.empty(shape, np.float32)
        lowest, highest = [], []
        start, step = 0, slices_at_once(copied[0].nbytes)
        while start < shape[0]:
            piece = copied[start : start + step]
            with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become infinite: refused below
                piece[...] = stored_voxels(volume_node)[start : start + step]
                lowest.append(piece.min())
                highest.append(piece.max())
            start += step
            yield
            if volume_node.GetImageData() is not image or image.GetMTime() != changed:
                break
        else:
            break
    if image.GetNumberOfScalarComponents() == 4:
        notes = (*notes, f"The transparency of {name_of(volume_node)} is ignored.")
    if not np.isfinite([*lowest, *highest]).all():
        copied, mending = mended(copied, name_of(volume_node))
        notes = (*notes, mending) if mending else notes
        check_intensities(copied, name_of(volume_node))
    elif min(lowest) == max(highest):
        check_intensities(copied, name_of(volume_node))
    return Volume(copied, geometry, volume_node.GetName() or "volume"), notes


def stored_voxels(volume_node: slicer.vtkMRMLVolumeNode) -> Voxels:
    """Return a view of a volume's stored voxels, ``(K, J, I)`` or ``(K, J, I, 3)`` for colour; read only.

    Raises:
        InputError: If the node is not a volume, has no image data or several components that are not colours.
    """
    components = check_volume(volume_node).GetNumberOfScalarComponents()
    if components > 1 and not _is_color(volume_node, components):
        raise InputError(
            f"{name_of(volume_node)} has {components} values per voxel; one is needed, or red, green and blue. If it "
            "is a series in time, load it as a sequence (module Sequences) and choose the sequence."
        )
    array: Voxels = slicer.util.arrayFromVolume(volume_node)
    return array[..., :3] if components > 1 else array


def _is_color(volume_node: slicer.vtkMRMLVolumeNode, components: int) -> bool:
    """Return whether the components are red, green, blue and perhaps transparency."""
    if components not in (3, 4) or not isinstance(volume_node, slicer.vtkMRMLVectorVolumeNode):
        return False
    spatial = (volume_node.VoxelVectorTypeSpatial, volume_node.VoxelVectorTypeSpatialCovariant)
    return volume_node.GetVoxelVectorType() not in spatial


# --- places -------------------------------------------------------------------------------------------------


def ijk_at(volume_node: slicer.vtkMRMLVolumeNode, ras: Sequence[float]) -> tuple[int, int, int] | None:
    """Return the voxel ``(i, j, k)`` at a world position in mm, or None outside the volume.

    Raises:
        InputError: If the node is not a volume or has no image data.
    """
    image = check_volume(volume_node)
    i, j, k = (int(np.floor(n + 0.5)) for n in exact_ijk(volume_node, ras))
    sizes = image.GetDimensions()
    return (i, j, k) if all(0 <= n < size for n, size in zip((i, j, k), sizes, strict=True)) else None


def exact_ijk(volume_node: slicer.vtkMRMLVolumeNode, ras: Sequence[float]) -> tuple[float, float, float]:
    """Return the voxel ``(i, j, k)`` at a world position in mm with its fractions, also outside of the volume."""
    from_world = lattices.transform_between(None, volume_node.GetParentTransformNode())
    local = np.append(from_world.TransformPoint([float(x) for x in ras]), 1.0)
    i, j, k = (np.linalg.inv(lattices.ijk_to_ras(volume_node)) @ local)[:3].tolist()
    return i, j, k


def slice_index_at(volume_node: slicer.vtkMRMLVolumeNode, view_axis: str, ras: Sequence[float]) -> int | None:
    """Return the slice along ``"k"``, ``"j"`` or ``"i"`` at a world position, or None outside the volume.

    Raises:
        InputError: If the node is not a volume or has no image data.
        GeometryError: If there is no such axis.
    """
    number = axis_number(view_axis)
    ijk = ijk_at(volume_node, ras)
    return None if ijk is None else ijk[2 - number]


def slice_ras(volume_node: slicer.vtkMRMLVolumeNode, view_axis: str, index: int) -> tuple[float, float, float]:
    """Return the centre of a slice in the world, ``(r, a, s)`` in mm.

    Raises:
        InputError: If the node is not a volume or has no image data.
        GeometryError: If there is no such axis.
    """
    image = check_volume(volume_node)
    number = axis_number(view_axis)
    ijk = [(n - 1) / 2 for n in image.GetDimensions()]
    ijk[2 - number] = float(index)
    local = (lattices.ijk_to_ras(volume_node) @ np.array([*ijk, 1.0]))[:3]
    r, a, s = lattices.transform_between(volume_node.GetParentTransformNode(), None).TransformPoint(local.tolist())
    return r, a, s
