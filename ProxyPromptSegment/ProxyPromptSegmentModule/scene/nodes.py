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

from ProxyPromptSegmentLib.errors import GeometryError, InputError, SupportError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, axis_number
from ProxyPromptSegmentLib.imaging.mending import mended
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.terminology import object_name, terminology_of_segment

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
    """Add a node of a class."""
    node: N = scene.AddNewNodeByClass(kind.__name__, name)
    return node


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
    geometry, notes = placed_geometry(volume_node)
    array = stored_voxels(volume_node)
    if check_volume(volume_node).GetNumberOfScalarComponents() == 4:
        notes = (*notes, f"The transparency of {name_of(volume_node)} is ignored.")
    with np.errstate(over="ignore", invalid="ignore"):  # values too large for float32 become infinite and are refused
        copied = np.array(array, dtype=np.float32, order="C")
    copied, mending = mended(copied, name_of(volume_node))
    notes = (*notes, mending) if mending else notes
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


# --- segmentations ------------------------------------------------------------------------------------------


def segmentation_of(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    segment_ids: Sequence[str] | None = None,
) -> tuple[Segmentation, Notes]:
    """Return segments on exactly the lattice of a volume, and notes for the user.

    Transforms of both nodes are respected. If the segmentation has the volume's lattice (also flipped, with exchanged
    axes, cropped or extended), voxels are copied. Otherwise, also under a non-linear transform, the nearest voxel is
    used and a note says so. Surfaces are converted on a copy.

    Args:
        segmentation_node: A vtkMRMLSegmentationNode.
        volume_node: The volume that defines the lattice.
        segment_ids: The segments to read, in this order; all by default.

    Raises:
        InputError: If a node is missing or the volume has no image data.
        SupportError: If a segment does not exist, there are none, or one cannot be converted to a labelmap.
        GeometryError: If the volume has no regular grid.
    """
    geometry = geometry_of(volume_node)
    ids = _wanted_ids(segmentation_node, segment_ids)
    source = _with_labelmaps(segmentation_node, volume_node, ids)
    notes: list[str] = []
    planes: dict[slicer.vtkOrientedImageData, lattices.Labels] = {}
    segments = []
    names = [object_name(segmentation_node.GetSegmentation().GetSegment(one)).casefold() for one in ids]
    for segment_id, name in zip(ids, names, strict=True):
        segment = source.GetSegment(segment_id)
        labelmap = segment.GetRepresentation(BINARY_LABELMAP)
        if labelmap not in planes:
            planes[labelmap] = _on_lattice(labelmap, segmentation_node, volume_node, notes)
        mask = (planes[labelmap] == segment.GetLabelValue()).view(np.uint8)
        original = segmentation_node.GetSegmentation().GetSegment(segment_id)
        red, green, blue = original.GetColor()
        segments.append(
            Segment(
                (object_name(original) if names.count(name) == 1 else original.GetName()) or segment_id,
                mask,
                (red, green, blue),
                terminology_of_segment(original),
                {"id": segment_id},
            )
        )
    return Segmentation(segments, geometry), tuple(dict.fromkeys(notes))


def _wanted_ids(
    segmentation_node: slicer.vtkMRMLSegmentationNode | None, segment_ids: Sequence[str] | None
) -> list[str]:
    """Return the ids of the segments to read, after checking that they exist."""
    if segmentation_node is None or not segmentation_node.IsA("vtkMRMLSegmentationNode"):
        raise InputError("no segmentation was given; choose a segmentation.")
    there = list(segmentation_node.GetSegmentation().GetSegmentIDs())
    wanted = there if segment_ids is None else [str(one) for one in segment_ids]
    missing = [one for one in wanted if one not in there]
    if missing or not wanted:
        problem = f"has no segment with the id '{missing[0]}'" if missing else "has no segments"
        raise SupportError(
            f"the segmentation {name_of(segmentation_node)} {problem}; choose a segment, or draw one in the module "
            "Segment Editor."
        )
    return wanted


def _with_labelmaps(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode, ids: list[str]
) -> slicer.vtkSegmentation:
    """Return the node's vtkSegmentation, or a copy of the segments converted to labelmaps."""
    segmentation = segmentation_node.GetSegmentation()
    if segmentation.GetSourceRepresentationName() == BINARY_LABELMAP:
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
    for segment_id in ids:
        copy.CopySegmentFromSegmentation(segmentation, segment_id)
    matrix = lattices.ijk_to_segmentation(volume_node, segmentation_node)
    if matrix is not None:
        extent = lattices.full_extent(lattices.size_kji(volume_node))
        converter = slicer.vtkSegmentationConverter
        text = converter.SerializeImageGeometry(lattices.vtk_matrix_of(matrix), extent)
        copy.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), text)
        copy.SetConversionParameter("Oversampling factor", "1")
    if not copy.CreateRepresentation(BINARY_LABELMAP, True):
        raise SupportError(
            f"the segments of {name_of(segmentation_node)} ({segmentation.GetSourceRepresentationName()}) cannot be "
            "converted to labelmaps. Create the binary labelmap in the module Segmentations, under Representations."
        )
    return copy


def _on_lattice(
    labelmap: slicer.vtkOrientedImageData | None,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    notes: list[str],
) -> lattices.Labels:
    """Return the values of a labelmap on the volume's lattice, ``(K, J, I)``, as a new array."""
    shape = lattices.size_kji(volume_node)
    if labelmap is None or lattices.is_empty(labelmap):
        return np.zeros(shape, np.uint8)
    matrix = lattices.ijk_to_segmentation(volume_node, segmentation_node)
    lattice = None
    if matrix is not None:
        lattice = lattices.relate(lattices.labelmap_matrix(labelmap), labelmap.GetExtent(), matrix, shape)
    if lattice is not None:
        return lattice.apply(lattices.labelmap_array(labelmap))
    notes.append(
        f"{name_of(segmentation_node)} lies on another grid than {name_of(volume_node)}; each voxel of the volume "
        "takes the value that is nearest to it."
    )
    reference, result = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetExtent(*lattices.full_extent(shape))
    reference.SetGeometryFromImageToWorldMatrix(lattices.vtk_matrix_of(lattices.ijk_to_ras(volume_node)))
    reference.AllocateScalars(labelmap.GetScalarType(), 1)
    transform = lattices.transform_between(
        segmentation_node.GetParentTransformNode(), volume_node.GetParentTransformNode()
    )
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        labelmap, reference, result, False, False, transform
    )
    return lattices.labelmap_array(result).copy()


def annotated_slices(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    axis: str = "k",
    segment_ids: Sequence[str] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the annotated slices of each segment along an axis of a volume: ``{segment id: (slice, ...)}``.

    Raises:
        InputError, SupportError, GeometryError: As `segmentation_of`.
    """
    number = axis_number(axis)
    others = tuple(n for n in range(3) if n != number)
    segmentation, _ = segmentation_of(segmentation_node, volume_node, segment_ids)
    return {
        segment.metadata["id"]: tuple(int(n) for n in np.flatnonzero(segment.mask.any(axis=others)))
        for segment in segmentation.segments
    }


# --- places -------------------------------------------------------------------------------------------------


def ijk_at(volume_node: slicer.vtkMRMLVolumeNode, ras: Sequence[float]) -> tuple[int, int, int] | None:
    """Return the voxel ``(i, j, k)`` at a world position in mm, or None outside the volume.

    Raises:
        InputError: If the node is not a volume or has no image data.
    """
    image = check_volume(volume_node)
    from_world = lattices.transform_between(None, volume_node.GetParentTransformNode())
    local = np.append(from_world.TransformPoint([float(x) for x in ras]), 1.0)
    exact = (np.linalg.inv(lattices.ijk_to_ras(volume_node)) @ local)[:3]
    i, j, k = (int(n) for n in np.floor(exact + 0.5))
    sizes = image.GetDimensions()
    return (i, j, k) if all(0 <= n < size for n, size in zip((i, j, k), sizes, strict=True)) else None


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
