"""Export of results as DICOM SEG: through Slicer's own plug-in where it is there, else by the library's writer.

The plug-in is part of the extension QuantitativeReporting. It exports all of a segmentation and writes into a folder,
so it gets a copy of the results, and the file is moved to its place.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import slicer

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom
from ProxyPromptSegmentLib.imaging.dicom_planes import dicom_files
from ProxyPromptSegmentLib.imaging.dicom_seg import DICOM_SEG_SUFFIX, NAME_TAG, TYPE_TAG, write_dicom_seg
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.output_files import check_output_path
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentModule.scene import lattices, nodes
from ProxyPromptSegmentModule.scene.masks import segmentation_of
from ProxyPromptSegmentModule.scene.terminology import tag_of
from ProxyPromptSegmentModule.translation import _

INSTANCES = "DICOM.instanceUIDs"
"""Attribute of volumes that the DICOM module has loaded: the instances of their slices."""

PLUG_IN = "DICOMSegmentationPlugin"


class Exportable(Protocol):
    """What a plug-in offers to export, `qSlicerDICOMExportable`."""

    directory: str

    def setTag(self, name: str, value: str) -> None:  # noqa: N802
        """Set a value of the DICOM header."""


class PlugIn(Protocol):
    """The part of a DICOM plug-in of Slicer that exports."""

    def examineForExport(self, item: int) -> Sequence[Exportable]:  # noqa: N802
        """Return what can be exported of an item of the subject hierarchy."""

    def export(self, exportables: Sequence[Exportable]) -> str:
        """Export; return "" or the reason why it failed."""


def export_results(
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    segment_ids: Sequence[str],
    path: Path,
) -> list[str]:
    """Write results of a volume as DICOM SEG; segments without a voxel are left out.

    Args:
        segmentation: Their segmentation.
        volume: The volume, loaded from DICOM.
        segment_ids: The segments.
        path: The file, ``.dcm``; one that exists is never replaced.

    Returns:
        Notes for the user.

    Raises:
        ProxyPromptError: If the volume was not loaded from DICOM, or the file cannot be written or exists.
    """
    check_output_path(path, (DICOM_SEG_SUFFIX,))
    _refuse_existing(path)
    files = dicom_files_of(volume)
    whole, notes = segmentation_of(segmentation, volume, segment_ids)
    marked = [one for one in whole.segments if one.mask.any()]
    if not marked:
        raise OutputError(_("nothing is marked in the result of {name}.").format(name=nodes.name_of(volume)))
    said = list(notes)
    left = [one.name for one in whole.segments if not one.mask.any()]
    if left:
        said.append(_("Left out, because nothing is marked in them: {names}.").format(names=", ".join(left)))
    plug_in = find_plug_in()
    if plug_in is not None and _instance_files(volume):
        _by_plug_in(plug_in, segmentation, volume, [one.metadata["id"] for one in marked], path)
        return said
    for one in marked:
        segment = segmentation.GetSegmentation().GetSegment(one.metadata["id"])
        one.metadata["tags"] = {name: tag_of(segment, name) for name in (NAME_TAG, TYPE_TAG) if tag_of(segment, name)}
    return said + write_dicom_seg(path, Segmentation(marked, _own_geometry(volume)), files, version=__version__)


def dicom_files_of(volume: slicer.vtkMRMLVolumeNode) -> Sequence[str]:
    """Return the DICOM files of a volume: those in Slicer's database, or the series that it was read from.

    Raises:
        OutputError: If it was not loaded from DICOM, or the files are not there any more.
    """
    found = _instance_files(volume)
    if found:
        return found
    storage, name = volume.GetStorageNode(), nodes.name_of(volume)
    file = Path((storage.GetFullNameFromFileName() if storage is not None else "") or "")
    if file.is_file() and is_dicom(file):
        with suppress(InputError):
            return dicom_files(file)
    if volume.GetAttribute(INSTANCES):
        raise OutputError(
            _(
                "the DICOM files of {name} are not in Slicer's DICOM database any more, and DICOM SEG has to refer to "
                "them. Import the series again in the module DICOM."
            ).format(name=name)
        )
    raise OutputError(
        _(
            "{name} was not loaded from DICOM, and DICOM SEG has to refer to the DICOM images that it belongs to. Load "
            "the series with the module DICOM and segment it, or save the result as .seg.nrrd with File, Save Data."
        ).format(name=name)
    )


def find_plug_in() -> PlugIn | None:
    """Return Slicer's plug-in for DICOM SEG; None if it or its converter is not installed."""
    try:
        made: PlugIn = slicer.modules.dicomPlugins[PLUG_IN]()
        slicer.modules.itkimage2segimage  # noqa: B018  # the program that the plug-in runs
    except (AttributeError, KeyError):
        return None
    return made


def _instance_files(volume: slicer.vtkMRMLVolumeNode) -> list[str]:
    """Return the files of a volume's instances in Slicer's DICOM database; empty unless all are there."""
    uids = (volume.GetAttribute(INSTANCES) or "").split()
    try:
        files = [str(slicer.dicomDatabase.fileForInstance(uid) or "") for uid in uids]
    except AttributeError:  # no database: a script, or a Slicer without DICOM
        return []
    return files if files and all(file and Path(file).is_file() for file in files) else []


def _own_geometry(volume: slicer.vtkMRMLVolumeNode) -> VolumeGeometry:
    """Return the grid of a volume without its transforms, which its DICOM images do not have."""
    k, j, i = lattices.size_kji(volume)
    return VolumeGeometry.from_affine(np.asarray(lattices.LPS_OF_RAS @ lattices.ijk_to_ras(volume)), (i, j, k))


def _by_plug_in(
    plug_in: PlugIn,
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    segment_ids: Sequence[str],
    path: Path,
) -> None:
    """Export a copy of some segments, which refers to the volume and lies in its study."""
    scene = segmentation.GetScene()
    assert scene is not None
    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetName(path.name.removesuffix(path.suffix))
    copy.SetHideFromEditors(1)
    scene.AddNode(copy)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume))
    item = hierarchy.GetItemByDataNode(copy) or hierarchy.CreateItem(study, copy)  # a hidden node gets none
    try:
        copy.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
        copy.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for segment_id in segment_ids:
            copy.GetSegmentation().CopySegmentFromSegmentation(segmentation.GetSegmentation(), segment_id)
        with tempfile.TemporaryDirectory() as folder:
            offered = plug_in.examineForExport(item)
            for one in offered:
                one.directory = folder
                one.setTag("SeriesDescription", _("Proxy Prompt, research use only"))
            reason = plug_in.export(offered) if offered else _("it offers no export of this segmentation")
            written = sorted(Path(folder).glob("*.dcm"))
            if reason or len(written) != 1:
                text = _("Slicer's plug-in for DICOM SEG has not exported the result: {reason}.")
                raise OutputError(text.format(reason=(reason or _("no file was written")).strip().rstrip(".")))
            _refuse_existing(path)
            shutil.move(written[0], path)
    finally:
        hierarchy.RemoveItem(item, False)
        scene.RemoveNode(copy)


def _refuse_existing(path: Path) -> None:
    """Reject a file that is there."""
    if path.exists():
        text = _("{file} already exists and is not overwritten; choose another name.")
        raise OutputError(text.format(file=path))
