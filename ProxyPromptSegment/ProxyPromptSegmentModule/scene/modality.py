"""The modality of a volume, as Slicer knows it."""

from __future__ import annotations

import slicer

from ProxyPromptSegmentModule.scene.dicom_export import INSTANCES

MODALITY = "DICOM.Modality"
"""Attribute of a series in the subject hierarchy; also that of a volume, where it is set."""
_MODALITY_TAG = "0008,0060"


def modality_of(volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return DICOM's word for the modality of a volume, such as ``MR``; "" if Slicer does not know it."""
    said = volume.GetAttribute(MODALITY) or _in_hierarchy(volume) or _in_database(volume)
    return said.strip()


def _in_hierarchy(volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return the modality of the series that a volume was loaded as."""
    scene = volume.GetScene()
    if scene is None or scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") is None:
        return ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(volume)
    return str(hierarchy.GetItemAttribute(item, MODALITY) or "") if item else ""


def _in_database(volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return the modality of a volume's first instance in Slicer's DICOM database."""
    uids = (volume.GetAttribute(INSTANCES) or "").split()
    if not uids:
        return ""
    try:
        return str(slicer.dicomDatabase.instanceValue(uids[0], _MODALITY_TAG) or "")
    except AttributeError:  # a script without an application
        return ""
