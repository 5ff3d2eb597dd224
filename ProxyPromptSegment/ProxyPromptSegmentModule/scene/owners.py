"""Which volume a segment of a run belongs to; stored in the scene, so that it is saved and follows an import.

A segmentation refers to each volume that it has results of by a node reference whose role ends with a key, and a
segment names the key in a tag. Segmentations of several cases can therefore share a node and are still kept apart.
"""

from __future__ import annotations

import uuid

import slicer

from ProxyPromptSegmentModule.scene.nodes import MADE_FOR, nodes_of
from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG, object_name, tag_of

ROLE = "ProxyPrompt.target."
"""Beginning of the reference roles; a key follows."""

TARGET_TAG = "ProxyPromptSegment.Target"
"""Tag of a segment: the key of its volume."""


def claim(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, volume: slicer.vtkMRMLVolumeNode) -> None:
    """Store that a segment is a result of a volume."""
    key = key_of(segmentation, volume)
    if not key:
        key = uuid.uuid4().hex[:8]
        segmentation.SetNodeReferenceID(ROLE + key, volume.GetID())
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    if segment is not None and tag_of(segment, TARGET_TAG) != key:
        segment.SetTag(TARGET_TAG, key)


def key_of(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return the key of a volume in a segmentation; "" if it has no results of it."""
    identifier = volume.GetID()
    return next((key for key in _keys(segmentation) if segmentation.GetNodeReferenceID(ROLE + key) == identifier), "")


def volume_of_segment(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume that a segment is a result of; None for other segments and removed volumes."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    key = tag_of(segment, TARGET_TAG) if segment is not None else ""
    found: slicer.vtkMRMLVolumeNode | None = segmentation.GetNodeReference(ROLE + key) if key else None
    return found


def is_result(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str) -> bool:
    """Return whether a segment is a result, also of a volume that was removed."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    return segment is not None and bool(tag_of(segment, TARGET_TAG))


def is_ours(segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Return whether a segmentation was made for results, or holds nothing else."""
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    return bool(segmentation.GetAttribute(MADE_FOR)) or (bool(ids) and all(is_result(segmentation, one) for one in ids))


def volumes_of(segmentation: slicer.vtkMRMLSegmentationNode) -> list[slicer.vtkMRMLVolumeNode]:
    """Return the volumes that a segmentation has, or was made for, results of."""
    found = [segmentation.GetNodeReference(ROLE + key) for key in _keys(segmentation)]
    made_for = segmentation.GetAttribute(MADE_FOR)
    scene = segmentation.GetScene()
    if made_for and scene is not None:  # also of a scene of an earlier version
        found.append(scene.GetNodeByID(made_for))
    order = {node: place for place, node in enumerate(_in_order(segmentation))}
    different = dict.fromkeys(node for node in found if node is not None)
    return sorted(different, key=lambda node: order.get(node, len(order)))


def _in_order(segmentation: slicer.vtkMRMLSegmentationNode) -> list[slicer.vtkMRMLVolumeNode]:
    """Return the volumes of the segments, in the segments' order."""
    ids = segmentation.GetSegmentation().GetSegmentIDs()
    found = [volume_of_segment(segmentation, segment_id) for segment_id in ids]
    return list(dict.fromkeys(node for node in found if node is not None))


def result_segments(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> dict[str, str]:
    """Return the segments that are results of a volume: object name by segment id, in the segmentation's order."""
    key = key_of(segmentation, volume)
    found = {}
    inside = segmentation.GetSegmentation()
    for segment_id in inside.GetSegmentIDs() if key else ():
        segment = inside.GetSegment(segment_id)
        if tag_of(segment, TARGET_TAG) == key:
            found[segment_id] = tag_of(segment, OBJECT_TAG) or object_name(segment)
    return found


def results_of(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode) -> list[slicer.vtkMRMLSegmentationNode]:
    """Return the segmentations that hold results of a volume, the oldest first."""
    return [node for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode) if result_segments(node, volume)]


def _keys(segmentation: slicer.vtkMRMLSegmentationNode) -> list[str]:
    count = segmentation.GetNumberOfNodeReferenceRoles()
    roles = [segmentation.GetNthNodeReferenceRole(number) for number in range(count)]
    return [role.removeprefix(ROLE) for role in roles if role.startswith(ROLE)]
