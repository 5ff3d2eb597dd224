"""Stamps that detect changes of nodes without reading voxels; and lookup of segments by name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import slicer
import vtk

from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentModule.translation import _

Stamp = tuple[Hashable, ...]
"""Only for comparison."""


def voxels_stamp(volume: slicer.vtkMRMLVolumeNode) -> Stamp:
    """Return a value that changes with the voxels of a volume node; modification times of VTK are unique."""
    image = volume.GetImageData()
    return (volume.GetID(), image.GetMTime() if image else 0)


def place_stamp(volume: slicer.vtkMRMLVolumeNode) -> Stamp:
    """Return a value that changes with the geometry of a volume node, but not with its name or display."""
    matrix, image = vtk.vtkMatrix4x4(), volume.GetImageData()
    volume.GetIJKToRASMatrix(matrix)
    return (volume.GetID(), image.GetDimensions() if image else (), _numbers(matrix), _transform_stamp(volume))


def segmentation_stamp(node: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str]) -> Stamp:
    """Return a value that changes with the segments: voxels, names, colours, terminologies, geometry."""
    segmentation = node.GetSegmentation()
    source, stamps = segmentation.GetSourceRepresentationName(), []
    for segment_id in segment_ids:
        segment = segmentation.GetSegment(segment_id)
        voxels = segment.GetRepresentation(source)
        changed = voxels.GetMTime() if voxels else 0
        looks = (segment.GetName(), segment.GetColor(), segment.GetTerminology())
        stamps.append((segment_id, changed, segment.GetLabelValue(), looks))
    return (node.GetID(), source, tuple(stamps), _transform_stamp(node))


def _transform_stamp(node: slicer.vtkMRMLTransformableNode) -> Stamp:
    parent = node.GetParentTransformNode()
    if parent is None:
        return ()
    if not parent.IsTransformToWorldLinear():
        return (parent.GetID(), parent.GetTransformToWorldMTime())
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return _numbers(matrix)


def _numbers(matrix: vtk.vtkMatrix4x4) -> tuple[float, ...]:
    return tuple(matrix.GetElement(row, column) for row in range(4) for column in range(4))


def segment_ids_of(node: slicer.vtkMRMLSegmentationNode, segments: Iterable[str]) -> list[str]:
    """Return the identifiers of segments that are given by identifier or name.

    Raises:
        SupportError: If a segment does not exist, several have the name, or none is given.
    """
    segmentation = node.GetSegmentation()
    names = {one: segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()}
    listed = ", ".join(f"'{name}'" for name in names.values()) or _("none")
    chosen: list[str] = []
    for one in segments:
        found = [one] if one in names else [segment_id for segment_id, name in names.items() if name == one]
        if len(found) != 1:
            told = _("There is no segment '{one}' in '{node}'; it has {names}.")
            if found:
                told = _("Several segments of '{node}' are named '{one}'; rename them so that each has its own name.")
            raise SupportError(told.format(one=one, node=node.GetName(), names=listed))
        chosen += found
    if not chosen:
        told = _("No segment of '{node}' was chosen for the support; it has {names}.")
        raise SupportError(told.format(node=node.GetName(), names=listed))
    return list(dict.fromkeys(chosen))


def kept_ids(node: slicer.vtkMRMLSegmentationNode, wanted: Iterable[str] | None) -> list[str]:
    """Return those of the wanted segments that still exist, in the segmentation's order; all by default."""
    every = list(node.GetSegmentation().GetSegmentIDs())
    return every if wanted is None else [segment_id for segment_id in every if segment_id in set(wanted)]
