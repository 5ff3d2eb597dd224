"""Stamps that detect changes of nodes without reading voxels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import slicer
import vtk

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


def labelmap_stamp(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> Stamp:
    """Return a value that changes with the voxels of a segment, but not with its name, colour or tags."""
    segmentation = node.GetSegmentation()
    segment = segmentation.GetSegment(segment_id)
    source = segmentation.GetSourceRepresentationName()
    voxels = segment.GetRepresentation(source)
    changed = voxels.GetMTime() if voxels else 0
    return (node.GetID(), source, segment_id, changed, segment.GetLabelValue(), _transform_stamp(node))


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
