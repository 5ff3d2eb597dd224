"""The annotated images of a scene, with what tells their patients apart; no voxels are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import slicer

from ProxyPromptSegmentModule.scene.nodes import nodes_of
from ProxyPromptSegmentModule.scene.owners import is_result, volume_of_segment
from ProxyPromptSegmentModule.scene.pairing import image_for
from ProxyPromptSegmentModule.scene.terminology import object_name

_IDENTIFYING = ("PatientID", "PatientName", "PatientBirthDate")
_PATIENT, _STUDY = "Patient", "Study"
"""Levels of the subject hierarchy; a folder tells nothing about patients."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedSegment:
    """A segment and the image that it was drawn on.

    Attributes:
        segmentation: Its segmentation.
        segment_id: Its id.
        name: Name of the object.
        volume: The image; None if the scene does not tell which it is.
        made: Whether a run made it, and not a user.
    """

    segmentation: slicer.vtkMRMLSegmentationNode
    segment_id: str
    name: str
    volume: slicer.vtkMRMLVolumeNode | None
    made: bool


def annotated_segments(scene: slicer.vtkMRMLScene) -> list[AnnotatedSegment]:
    """Return all segments of a scene, in the order of their segmentations."""
    found = []
    for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode):
        if node.GetHideFromEditors():
            continue
        drawn_on = image_for(node)
        inside = node.GetSegmentation()
        for segment_id in inside.GetSegmentIDs():
            made = is_result(node, segment_id)
            found.append(
                AnnotatedSegment(
                    segmentation=node,
                    segment_id=segment_id,
                    name=object_name(inside.GetSegment(segment_id)).strip(),
                    volume=volume_of_segment(node, segment_id) if made else drawn_on,
                    made=made,
                )
            )
    return found


def identity_of(volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return what tells the patient of an image from all others in every scene, as DICOM data bring it; "" if nothing.

    It identifies the patient: it is only compared, and never stored as it is.
    """
    for level, hierarchy, item in _above(volume):
        said = [hierarchy.GetItemAttribute(item, f"DICOM.{name}") or "" for name in _IDENTIFYING]
        if any(said[:2]):
            return "\n".join(said)
        if level == _STUDY and (uid := hierarchy.GetItemUID(item, "DICOM")):
            return str(uid)
    return ""


def patient_of(volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return what images of one patient have in common: their patient, or study, in the subject hierarchy; "" if none.

    Names are not looked at: two patients may have the same.
    """
    return next((f"{level} {item}" for level, _hierarchy, item in _above(volume)), "")


def patient_name_of(volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return the name of an image's patient as the subject hierarchy shows it; "" if it has none."""
    above = ((hierarchy, item) for level, hierarchy, item in _above(volume) if level == _PATIENT)
    return next((str(hierarchy.GetItemName(item)) for hierarchy, item in above), "")


def _above(volume: slicer.vtkMRMLVolumeNode) -> Iterator[tuple[str, slicer.vtkMRMLSubjectHierarchyNode, int]]:
    """Yield level, hierarchy and item of an image's patient and study, as far as the subject hierarchy has them."""
    scene = volume.GetScene()
    if scene is None or scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") is None:
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(volume)
    for level in (_PATIENT, _STUDY):
        above = hierarchy.GetItemAncestorAtLevel(item, level) if item else 0
        if above:
            yield level, hierarchy, above
