"""Results of a volume loaded from DICOM, exported as DICOM SEG."""

from __future__ import annotations

import json
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
pytest.importorskip("highdicom", reason="highdicom is not installed")

import slicer
import vtk

from dicom_cases import write_dicom_volume
from dicom_points import points_in_dicom, referenced, world_points
from mrml_scene import add_segmentation, add_transform, add_volume
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentModule.scene import dicom_export, lattices
from ProxyPromptSegmentModule.scene.dicom_export import export_results
from ProxyPromptSegmentModule.scene.dicom_tags import NAME, TYPE

pytestmark = pytest.mark.usefixtures("scene")
UID = "1.2.826.0.1.3680043.2.1125.66"
TILT = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
GRID = VolumeGeometry((9, 8, 6), (0.5, 0.75, 3.0), (-10.0, 5.0, 20.0), TILT)
"""Slices that are tilted, as those of a prostate are."""


@pytest.fixture
def series(tmp_path):
    rng = np.random.default_rng(4)
    write_dicom_volume(tmp_path / "series", Volume(rng.integers(0, 900, GRID.shape_kji).astype(np.float32), GRID), UID)
    return tmp_path / "series"


@pytest.fixture
def volume(scene, series):
    made = slicer.modules.volumes.logic().AddArchetypeVolume(str(series / "0.dcm"), "T2")
    assert made.GetImageData().GetDimensions() == GRID.size_ijk
    return made


@pytest.fixture
def masks():
    """Masks that differ from each of their mirror images."""
    gland, other = np.zeros(GRID.shape_kji, np.uint8), np.zeros(GRID.shape_kji, np.uint8)
    gland[1:4, 1, 2:7], gland[1, 2:6, 2], gland[3, 5, 1] = 1, 1, 1
    other[2:5, 2:4, 3:8] = 1
    return {"prostate": gland, "tumour": other}


@pytest.fixture
def result(volume, masks):
    """Segments on the volume as Slicer has loaded it, whose slices may run the other way."""
    order = [round(z) for z in GRID.lps_to_index(positions(volume))[:, 2]]
    made = add_segmentation(volume, {name: mask[order] for name, mask in masks.items()}, "T2 result")
    made.GetSegmentation().GetSegment("prostate").SetTag(TYPE, "AUTOMATIC")
    made.GetSegmentation().GetSegment("prostate").SetTag(NAME, "Proxy Prompt sam-compact 0d1d8adb")
    return made


def positions(volume):
    """The places of a volume's slices in LPS, ``(K, 3)``."""
    affine = lattices.LPS_OF_RAS @ lattices.ijk_to_ras(volume)
    return np.stack([affine[:3, 3] + affine[:3, 2] * k for k in range(GRID.size_ijk[2])])


class Database:
    """Slicer's DICOM database, as far as it is asked."""

    def __init__(self, series):
        self.files = {str(pydicom.dcmread(file).SOPInstanceUID): str(file) for file in series.iterdir()}

    def fileForInstance(self, uid):  # noqa: N802
        return self.files.get(uid, "")


@pytest.fixture
def database(series, volume, monkeypatch):
    made = Database(series)
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    volume.SetAttribute(dicom_export.INSTANCES, " ".join(made.files))
    return made


class StandInPlugIn:
    """What `DICOMSegmentationPluginClass` does, with the program that it runs, but without the modules around it."""

    asked: list = []
    reason = ""

    def examineForExport(self, item):  # noqa: N802
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        tags = {}
        one = types.SimpleNamespace(
            directory="", node=hierarchy.GetItemDataNode(item), tags=tags, setTag=tags.__setitem__
        )
        return [one]

    def export(self, exportables):
        (one,) = exportables
        node = one.node
        volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        inside, logic = node.GetSegmentation(), slicer.modules.segmentations.logic()
        folder, files, described = Path(one.directory) / "work", [], []
        folder.mkdir()
        StandInPlugIn.asked.append((list(inside.GetSegmentIDs()), one.tags, node.GetHideFromEditors()))
        for segment_id in inside.GetSegmentIDs():
            merged, ids, label = slicer.vtkOrientedImageData(), vtk.vtkStringArray(), slicer.vtkMRMLLabelMapVolumeNode()
            ids.InsertNextValue(segment_id)
            node.GenerateMergedLabelmapForAllSegments(merged, 0, None, ids)
            slicer.mrmlScene.AddNode(label)
            assert logic.CreateLabelmapVolumeFromOrientedImageData(merged, label)
            storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
            storage.SetFileName(str(folder / f"{len(files)}.nrrd"))
            assert storage.WriteData(label)
            slicer.mrmlScene.RemoveNode(label)
            files.append(storage.GetFileName())
            tissue = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
            described.append([{
                "labelID": 1, "SegmentLabel": inside.GetSegment(segment_id).GetName(), "SegmentAlgorithmType": "MANUAL",
                "SegmentedPropertyCategoryCodeSequence": tissue, "SegmentedPropertyTypeCodeSequence": tissue,
            }])  # fmt: skip
        meta = {"SeriesNumber": "100", "SeriesDescription": one.tags["SeriesDescription"], "InstanceNumber": "1",
                "ContentCreatorName": "Slicer", "segmentAttributes": described}  # fmt: skip
        (folder / "meta.json").write_text(json.dumps(meta))
        images = [
            slicer.dicomDatabase.fileForInstance(uid) for uid in volume.GetAttribute("DICOM.instanceUIDs").split()
        ]
        dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed")
        program = Path(dcmqi.__file__).parent / "bin" / "itkimage2segimage"
        subprocess.run(
            [str(program), "--inputDICOMList", ",".join(images), "--inputImageList", ",".join(files),
             "--inputMetadata", str(folder / "meta.json"), "--outputDICOM", str(Path(one.directory) / "made.dcm")],
            check=True, capture_output=True,
        )  # fmt: skip
        return self.reason


@pytest.fixture
def plug_in(database, volume, monkeypatch):
    StandInPlugIn.asked, StandInPlugIn.reason = [], ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, volume)  # in Slicer, the DICOM module does
    monkeypatch.setattr(slicer.modules, "dicomPlugins", {"DICOMSegmentationPlugin": StandInPlugIn}, raising=False)
    monkeypatch.setattr(slicer.modules, "itkimage2segimage", object(), raising=False)
    return StandInPlugIn


def left_in_scene():
    """How many segmentations and items of the subject hierarchy a scene has."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), hierarchy.GetNumberOfItems()


def check(file, masks):
    for number, mask in enumerate(masks.values()):
        assert points_in_dicom(file, number + 1) == world_points(mask, GRID)
    names = [one.SegmentLabel for one in pydicom.dcmread(file).SegmentSequence]
    assert names == list(masks)


def test_a_result_on_a_series_read_from_its_files_lies_where_it_is(volume, result, masks, tmp_path):
    assert export_results(result, volume, ["prostate", "tumour"], tmp_path / "x.dcm") == []
    check(tmp_path / "x.dcm", masks)
    assert referenced(tmp_path / "x.dcm") == {f"{UID}.{k + 1}" for k in range(1, 5)}
    first, second = pydicom.dcmread(tmp_path / "x.dcm").SegmentSequence
    assert (first.SegmentAlgorithmType, first.SegmentAlgorithmName) == (
        "AUTOMATIC",
        "Proxy Prompt sam-compact 0d1d8adb",
    )
    assert second.SegmentAlgorithmType == "MANUAL"


def test_a_result_on_a_series_of_the_database_refers_to_its_instances(database, volume, result, masks, tmp_path):
    volume.SetAndObserveStorageNodeID(None)
    export_results(result, volume, ["tumour"], tmp_path / "x.dcm")
    check(tmp_path / "x.dcm", {"tumour": masks["tumour"]})


def test_a_transform_of_image_and_result_moves_nothing_in_the_file(volume, result, masks, tmp_path):
    moved = add_transform(np.array([[0, -1, 0, 5.0], [1, 0, 0, 7.0], [0, 0, 1, 9.0], [0, 0, 0, 1]]))
    volume.SetAndObserveTransformNodeID(moved.GetID())
    result.SetAndObserveTransformNodeID(moved.GetID())
    export_results(result, volume, ["prostate", "tumour"], tmp_path / "x.dcm")
    check(tmp_path / "x.dcm", masks)


def test_the_plug_in_of_slicer_exports_where_it_is_there(plug_in, volume, result, masks, tmp_path):
    before = left_in_scene()
    result.GetSegmentation().AddEmptySegment("beside", "beside")
    export_results(result, volume, ["prostate", "tumour"], tmp_path / "x.dcm")
    ((ids, tags, hidden),) = plug_in.asked
    assert ids == ["prostate", "tumour"] and hidden and "research" in tags["SeriesDescription"]
    check(tmp_path / "x.dcm", masks)
    assert left_in_scene() == before, "the copy stays in the scene"


def test_what_the_plug_in_says_is_said_and_nothing_is_left(plug_in, volume, result, tmp_path):
    plug_in.reason = "Referenced volume files were not found."
    before = left_in_scene()
    with pytest.raises(OutputError, match="has not exported the result: Referenced volume files were not found"):
        export_results(result, volume, ["prostate"], tmp_path / "x.dcm")
    assert not (tmp_path / "x.dcm").exists() and left_in_scene() == before


def test_a_plug_in_without_its_database_is_not_used(plug_in, database, volume, result, masks, tmp_path):
    database.files.clear()
    export_results(result, volume, ["prostate", "tumour"], tmp_path / "x.dcm")
    assert plug_in.asked == []
    check(tmp_path / "x.dcm", masks)


def test_an_image_that_was_not_loaded_from_dicom_is_refused_with_what_to_do(scene, tmp_path, masks):
    bare = add_volume(np.zeros(GRID.shape_kji, np.int16), np.eye(4), "drawn")
    segmentation = add_segmentation(bare, masks, "result")
    with pytest.raises(OutputError, match="'drawn' was not loaded from DICOM.*with the module DICOM.*or save"):
        export_results(segmentation, bare, ["prostate"], tmp_path / "x.dcm")
    bare.SetAttribute(dicom_export.INSTANCES, "1.2.3 1.2.4")
    with pytest.raises(OutputError, match="not in Slicer's DICOM database any more.*Import the series again"):
        export_results(segmentation, bare, ["prostate"], tmp_path / "x.dcm")
    assert list(tmp_path.glob("*.dcm")) == []


def test_a_file_that_is_there_is_never_written_over(plug_in, volume, result, tmp_path):
    (tmp_path / "x.dcm").write_text("mine")
    with pytest.raises(OutputError, match="already exists and is not overwritten"):
        export_results(result, volume, ["prostate"], tmp_path / "x.dcm")
    assert (tmp_path / "x.dcm").read_text() == "mine" and plug_in.asked == []


def test_empty_segments_are_left_out_and_said(volume, result, masks, tmp_path):
    result.GetSegmentation().AddEmptySegment("none", "none")
    (said,) = export_results(result, volume, ["prostate", "none"], tmp_path / "x.dcm")
    assert said == "Left out, because nothing is marked in them: none."
    check(tmp_path / "x.dcm", {"prostate": masks["prostate"]})
    with pytest.raises(OutputError, match="nothing is marked in the result of 'T2'"):
        export_results(result, volume, ["none"], tmp_path / "y.dcm")
