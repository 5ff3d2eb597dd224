"""Preparation of a segmentation for a run: its lattice, and segments with name, colour and terminology."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import Axis, VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import default_color
from ProxyPromptSegmentModule.scene import dicom_tags, lattices
from ProxyPromptSegmentModule.scene.nodes import BINARY_LABELMAP, add_node, geometry_of, name_of
from ProxyPromptSegmentModule.scene.owners import result_segments
from ProxyPromptSegmentModule.scene.reference_grid import reference_grid
from ProxyPromptSegmentModule.scene.segment_state import SegmentStates, changed_slices
from ProxyPromptSegmentModule.scene.slice_prints import SlicePrints
from ProxyPromptSegmentModule.scene.terminology import (
    OBJECT_TAG,
    TAG,
    TISSUE,
    Terminology,
    object_name,
    terminology_to_text,
)

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.asked import Asked

_INSTEAD = "Segment into a new segmentation instead, or"


@dataclass(frozen=True, kw_only=True)
class SegmentNames:
    """Names and colours of new segments, for runs without a `SupportSet`.

    Attributes:
        objects: Names, in the order of the masks.
        colors: Red, green, blue in 0..1 of each; Slicer's default colours if empty.
        terminologies: Terminology dictionary of each, or None.
    """

    objects: tuple[str, ...]
    colors: tuple[tuple[float, float, float], ...] = ()
    terminologies: tuple[Terminology | None, ...] = ()

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            InputError: If there are no objects, names repeat or counts differ.
        """
        counts = {len(values) for values in (self.objects, self.colors or self.objects)}
        counts.add(len(self.terminologies or self.objects))
        if not self.objects or len({name.casefold() for name in self.objects}) < len(self.objects) or len(counts) > 1:
            raise InputError(
                f"the objects {self.objects} with {len(self.colors)} colours and {len(self.terminologies)} "
                "terminologies cannot become segments; each needs a name of its own, and as many of the others or none."
            )


def create_segmentation(volume_node: slicer.vtkMRMLVolumeNode, name: str) -> slicer.vtkMRMLSegmentationNode:
    """Create a segmentation node for a volume.

    It has the volume's parent transform, the volume's lattice as its reference geometry (needed for DICOM SEG export
    and surfaces), a display node, a unique name, and the volume's place in the subject hierarchy.

    Raises:
        InputError: If the volume has no image data or is not in a scene.
        GeometryError: If it has no regular grid.
    """
    geometry_of(volume_node)
    scene = volume_node.GetScene()
    if scene is None:
        raise InputError(f"{name_of(volume_node)} is no longer in the scene; choose another volume.")
    node = add_node(scene, slicer.vtkMRMLSegmentationNode, name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())  # first: the geometry is relative to it
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    place_in_hierarchy(node, volume_node)
    return node


def check_target(
    segmentation_node: slicer.vtkMRMLSegmentationNode | None, volume_node: slicer.vtkMRMLVolumeNode
) -> tuple[lattices.Matrix, lattices.Matrix]:
    """Check that slices of a volume can be written into a segmentation without resampling; changes nothing.

    Returns:
        The matrix from the volume's voxels to the segmentation's own mm; and the lattice for new labelmaps, which may
        differ in the order and direction of its axes.

    Raises:
        InputError: If the node is missing, not in a scene, or has surfaces as its source.
        GeometryError: If the volume has no regular grid, or the two have different lattices.
    """
    if segmentation_node is None or not segmentation_node.IsA("vtkMRMLSegmentationNode"):
        raise InputError("there is no segmentation to write into; choose one, or create a new one.")
    name, volume = name_of(segmentation_node), name_of(volume_node)
    geometry_of(volume_node)
    matrix = lattices.ijk_to_segmentation(volume_node, segmentation_node)
    if matrix is None or not _has_right_angles(matrix):
        raise GeometryError(
            f"the transforms of {name} and {volume} differ by more than rotation, flip and scaling, so their voxels "
            f"cannot coincide. {_INSTEAD} put both under the same transform."
        )
    segmentation = segmentation_node.GetSegmentation()
    if segmentation.GetNumberOfSegments() and segmentation.GetSourceRepresentationName() != BINARY_LABELMAP:
        raise InputError(
            f"{name} is made of {segmentation.GetSourceRepresentationName().lower()}s, which have no voxels. "
            f"{_INSTEAD} make the binary labelmap its source in the module Segmentations, under Representations."
        )
    shape = lattices.size_kji(volume_node)
    home, drawn = matrix, False
    for segment_id in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segment_id)
        labelmap = segment.GetRepresentation(BINARY_LABELMAP)
        if labelmap is None or lattices.is_empty(labelmap):
            continue
        drawn = True
        if lattices.relate(lattices.labelmap_matrix(labelmap), labelmap.GetExtent(), matrix, shape) is None:
            raise GeometryError(
                f"the segment '{segment.GetName()}' of {name} lies on another grid than {volume}, so slices cannot be "
                f"replaced exactly. {_INSTEAD} resample it: Segment Editor, 'Specify geometry', source {volume}."
            )
    reference = reference_grid(segmentation)
    if reference is not None:
        if lattices.relate(*reference, matrix, shape) is not None:
            home = reference[0]
        elif drawn:
            raise GeometryError(
                f"the reference geometry of {name} is not that of {volume}, so the result would be resampled when "
                f"it is saved. {_INSTEAD} set it: Segment Editor, 'Specify geometry', source {volume}."
            )
    return matrix, home


def adopt_reference(segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode) -> None:
    """Set the volume's geometry as reference if the segmentation has none, or if nothing is drawn in it yet."""
    segmentation = segmentation_node.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0:
        segmentation.SetSourceRepresentationName(BINARY_LABELMAP)
    matrix = lattices.ijk_to_segmentation(volume_node, segmentation_node)
    reference = reference_grid(segmentation)
    role = segmentation_node.GetReferenceImageGeometryReferenceRole()
    shape = lattices.size_kji(volume_node)
    if reference is None or matrix is None or lattices.relate(*reference, matrix, shape) is None:
        segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    elif segmentation_node.GetNodeReference(role) is None:
        segmentation_node.SetNodeReferenceID(role, volume_node.GetID())
    if segmentation_node.GetDisplayNode() is None:
        segmentation_node.CreateDefaultDisplayNodes()


def make_segment(segmentation: slicer.vtkSegmentation, name: str, number: int, support: Asked | SegmentNames) -> str:
    """Add an empty segment for an object of a support; return its id."""
    colors, terminologies = tuple(support.colors), tuple(support.terminologies)
    color = colors[number] if colors else default_color(number)
    segment = slicer.vtkSegment()
    segment.SetName(unique_name(segmentation, name))
    segment.SetColor(*(float(c) for c in color))
    # its own layer; AddEmptySegment would share that of the first segment, which would have to be separated again
    empty = slicer.vtkOrientedImageData()
    empty.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)  # no voxels, but a scalar type, without which making surfaces fails
    segment.AddRepresentation(BINARY_LABELMAP, empty)
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    text = terminology_to_text(terminologies[number] if terminologies else None)
    segment.SetTag(TAG, text or TISSUE)
    segment.SetTag(OBJECT_TAG, name)
    segment.SetTag(dicom_tags.TYPE, dicom_tags.AUTOMATIC)
    segment.SetTag(dicom_tags.NAME, dicom_tags.ALGORITHM)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segment, logic.InProgress)
    segment_id = segmentation.GenerateUniqueSegmentID("")
    segmentation.AddSegment(segment, segment_id)
    return segment_id


def unique_name(segmentation: slicer.vtkSegmentation, name: str) -> str:
    """Return the name, with a number if a segment already has it: ``prostate (2)``."""
    ids = segmentation.GetSegmentIDs()
    used = {(segmentation.GetSegment(one).GetName() or "").casefold() for one in ids}
    unique, number = name, 1
    while unique.casefold() in used:
        number += 1
        unique = f"{name} ({number})"
    return unique


def known_segments(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    objects: tuple[str, ...],
    given: dict[str, str],
    earlier: dict[str, str],
) -> dict[str, str]:
    """Return the ids of the existing segments that a run writes into, by object name; changes nothing.

    Args:
        segmentation_node: The segmentation.
        objects: Names of the run's objects.
        given: Object name -> id, as requested.
        earlier: The segments of earlier runs for the other objects, see `reusable_segments`.

    Raises:
        InputError: If an object or id does not exist, or two objects have the same id.
    """
    segmentation = segmentation_node.GetSegmentation()
    unknown = [name for name in given if name not in objects]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in objects)
        raise InputError(f"there is no object '{unknown[0]}' in the run; its objects are {listed}.")
    missing = [one for one in given.values() if segmentation.GetSegment(one) is None]
    if missing:
        raise InputError(
            f"{name_of(segmentation_node)} has no segment with the id '{missing[0]}'; choose an existing one, "
            "or none to create a new one."
        )
    if len(set(given.values())) < len(given):
        raise InputError("two objects were to be written into one segment; choose a segment for each.")
    others = {name: found for name, found in earlier.items() if name not in given and found not in given.values()}
    return {**given, **others}


def reusable_segments(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    objects: Iterable[str],
    axis: Axis,
    states: SegmentStates | None = None,
) -> dict[str, str]:
    """Return the segments that earlier runs made for objects of a volume, and that may be written again, by object.

    Segments of other volumes are never among them, nor segments that were renamed or, unless the run has the same
    axis, changed by hand.
    """
    segmentation, found = segmentation_node.GetSegmentation(), {}
    known = {one: name.casefold() for one, name in result_segments(segmentation_node, volume_node).items()}
    for name in objects:
        for segment_id in reversed([one for one, own in known.items() if own == name.casefold()]):
            segment = segmentation.GetSegment(segment_id)
            prints = SlicePrints.read(segment)
            if prints is None or object_name(segment).casefold() != name.casefold():
                continue  # made by an earlier version, or renamed
            if prints.axis == axis or not changed_slices(segmentation_node, segment_id, volume_node, states):
                found[name] = segment_id
                break
    return found


def place_in_hierarchy(segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLNode) -> None:
    """Put the segmentation next to its volume in the subject hierarchy, under the same study if there is one."""
    scene = segmentation_node.GetScene()
    if scene is None or scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") is None:
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item, volume = (hierarchy.GetItemByDataNode(node) for node in (segmentation_node, volume_node))
    if item and volume:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(volume))


def _has_right_angles(matrix: lattices.Matrix) -> bool:
    """Return whether a labelmap can have this lattice."""
    try:
        VolumeGeometry.from_affine(np.asarray(matrix), (1, 1, 1))
    except GeometryError:
        return False
    return True


def note_on_name(segmentation: slicer.vtkSegmentation, name: str, segment_id: str) -> tuple[str, ...]:
    """Return a note if a new segment has another name; the node's is left out, as it can be a patient's."""
    made = segmentation.GetSegment(segment_id).GetName()
    if made == name:
        return ()
    return (f"The segmentation already has a segment '{name}'; the result goes into '{made}'.",)
