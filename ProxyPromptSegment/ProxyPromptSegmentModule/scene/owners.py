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

FILM = "ProxyPrompt.sequence"
"""Reference role of a segmentation that shows the results of a sequence, to the volume that shows its images."""

WHOLE = "ProxyPrompt.everything"
"""Reference role of a segmentation of everything that slices show, to their volume."""


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
    return next((key for key in keys_of(segmentation) if segmentation.GetNodeReferenceID(ROLE + key) == identifier), "")


def volume_of_segment(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume that a segment is a result of; None for other segments and removed volumes."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    key = tag_of(segment, TARGET_TAG) if segment is not None else ""
    return _referred(segmentation, ROLE + key)


def is_result(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str) -> bool:
    """Return whether a segment is a result, also of a volume that was removed.

    The tag alone says nothing: it is also in files and in copies of the segment in other segmentations.
    """
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    return segment is not None and tag_of(segment, TARGET_TAG) in keys_of(segmentation)


def is_ours(segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Return whether a segmentation was made for results, or holds nothing else."""
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    made = bool(segmentation.GetAttribute(MADE_FOR)) or is_film(segmentation)
    return made or (bool(ids) and all(is_result(segmentation, one) for one in ids))


def claim_film(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> None:
    """Store that a segmentation shows the results of the sequence that a volume shows."""
    segmentation.SetNodeReferenceID(FILM, volume.GetID())


def is_film(segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Return whether a segmentation shows results of a sequence, also of one that was removed."""
    return FILM in _roles(segmentation)


def film_of(segmentation: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume that shows the sequence whose results a segmentation shows; None for others."""
    return _referred(segmentation, FILM)


def claim_whole(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> None:
    """Store that a segmentation holds everything that slices of a volume show; it is shown with that volume only."""
    segmentation.SetNodeReferenceID(WHOLE, volume.GetID())


def is_whole(segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Return whether a segmentation holds everything that slices show, also of a volume that was removed."""
    return WHOLE in _roles(segmentation)


def whole_of(segmentation: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume that a segmentation of everything belongs to; None for others."""
    return _referred(segmentation, WHOLE)


def claim_earlier(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    """Claim the segments that an earlier version of the module made, for the image that the segmentation refers to.

    They have no prints, so that no run writes them again. That version named its volume by an id in an attribute, which
    can be another patient's after an import; it is not looked up.
    """
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    volume = segmentation.GetNodeReference(role)
    if not segmentation.GetAttribute(MADE_FOR) or volume is None:
        return
    inside = segmentation.GetSegmentation()
    for segment_id in inside.GetSegmentIDs():
        segment = inside.GetSegment(segment_id)
        if tag_of(segment, OBJECT_TAG) and not tag_of(segment, TARGET_TAG):
            claim(segmentation, segment_id, volume)


def volumes_of(segmentation: slicer.vtkMRMLSegmentationNode) -> list[slicer.vtkMRMLVolumeNode]:
    """Return the volumes that a segmentation has, or had, results of."""
    found = [segmentation.GetNodeReference(ROLE + key) for key in keys_of(segmentation)]
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


def has_results(scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLVolumeNode) -> bool:
    """Return whether there are results of a volume, or of the sequence that it shows."""
    return bool(results_of(scene, volume)) or any(
        film_of(node) is volume for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode)
    )


def keys_of(segmentation: slicer.vtkMRMLSegmentationNode) -> list[str]:
    """Return the keys of the volumes that a segmentation has, or had, results of."""
    return [role.removeprefix(ROLE) for role in _roles(segmentation) if role.startswith(ROLE)]


def referred_by(segmentation: slicer.vtkMRMLSegmentationNode, key: str) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume of a key; None if it was removed."""
    return _referred(segmentation, ROLE + key)


def _referred(segmentation: slicer.vtkMRMLSegmentationNode, role: str) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume of a role; asking MRML for one that is not there would create it."""
    found: slicer.vtkMRMLVolumeNode | None = None
    if role in _roles(segmentation):
        found = segmentation.GetNodeReference(role)
    return found


def _roles(segmentation: slicer.vtkMRMLSegmentationNode) -> list[str]:
    count = segmentation.GetNumberOfNodeReferenceRoles()
    return [segmentation.GetNthNodeReferenceRole(number) for number in range(count)]
