"""Segments that the user has painted roughly on a target, chosen as prompts."""

from __future__ import annotations

import slicer

from ProxyPromptSegmentModule.scene.nodes import nodes_of
from ProxyPromptSegmentModule.scene.owners import is_result, is_whole
from ProxyPromptSegmentModule.scene.terminology import tag_of

PAINTED = "ProxyPromptSegment.Mask"
"""Tag of a segment that was chosen as a prompt: the name of the object."""


def paintings(
    scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode | None
) -> list[tuple[slicer.vtkMRMLSegmentationNode, str]]:
    """Return the segments that the user has drawn on a target; results are not among them."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    found = []
    for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode):
        if target is not None and node.GetNodeReference(role) is target and not is_whole(node):
            ids = node.GetSegmentation().GetSegmentIDs()
            found += [(node, one) for one in ids if not is_result(node, one)]
    return found


def painted_masks(
    scene: slicer.vtkMRMLScene, target: slicer.vtkMRMLVolumeNode | None
) -> list[tuple[slicer.vtkMRMLSegmentationNode, str, str]]:
    """Return the drawn segments that were chosen as prompts, with the names of their objects."""
    found = []
    for node, segment_id in paintings(scene, target):
        name = tag_of(node.GetSegmentation().GetSegment(segment_id), PAINTED)
        if name:
            found.append((node, segment_id, name))
    return found


def choose_painting(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, name: str) -> None:
    """Choose a drawn segment as the prompt of an object; "" for no longer."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    if name:
        segment.SetTag(PAINTED, name)
    else:
        segment.RemoveTag(PAINTED)
