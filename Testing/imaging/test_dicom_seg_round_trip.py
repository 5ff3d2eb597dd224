"""DICOM SEG out and back: by our own reader, highdicom and dcmqi, which Slicer has; voxel for voxel, code for code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")
hd = pytest.importorskip("highdicom", reason="highdicom is not installed")

import SimpleITK as sitk

from dicom_made import AXIAL, enhanced, group, save, stack, write_series
from dicom_points import points_in_dicom, world_points
from mrml_scene import REASON, has_mrml, make_scene
from ProxyPromptSegmentLib.imaging.dicom_seg import write_dicom_seg
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume

COSINE, SINE = float(np.cos(0.3)), float(np.sin(0.3))
TURNED = [COSINE, 0, -SINE, 0, 1, 0]  # about the patient's long axis
PLACES = {
    "axial": (AXIAL, [(-5.0, 7.0, 3.3 * k) for k in range(9)]),
    "tilted": (TURNED, [(round(3.3 * k * SINE, 6) - 5, 7.0, round(3.3 * k * COSINE, 6)) for k in range(9)]),
}
TERMS = {
    "category": ["SCT", "123037004", "Anatomical Structure"],
    "type": ["SCT", "64033007", "Kidney"],
    "typeModifier": ["SCT", "24028007", "Right"],
    "anatomicRegion": ["SCT", "818981001", "Abdomen"],
    "anatomicRegionModifier": ["SCT", "51440002", "Right and left"],
}


def source(folder: Path, place: str, frames: bool) -> Path:
    """Writes the images: a file for each slice, or one with all of them, from the last to the first."""
    cosines, places = PLACES[place]
    if not frames:
        return write_series(folder / "series", stack(), places, ImageOrientationPatient=cosines)
    made = enhanced(stack()[::-1], places[::-1])
    made.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = group(ImageOrientationPatient=cosines)
    return save(made, folder / "series" / "frames.dcm")


def lopsided(images: Path) -> Segmentation:
    """Three segments that no mirror image equals: with all codes, empty, and overlapping the first."""
    geometry = read_volume(images).geometry
    first, empty, second = (np.zeros(geometry.shape_kji, np.uint8) for _ in range(3))
    first[1:6, 2:4, 3:9], first[1, 2:9, 3], second[3:8, 3:7, 6:12] = 1, 1, 1
    return Segmentation(
        [
            Segment("Niere, rechts", first, (0.9, 0.4, 0.1), TERMS),
            Segment("empty", empty),
            Segment("Zyste", second, (0.1, 0.2, 0.8)),
        ],
        geometry,
    )


@pytest.mark.parametrize("frames", [False, True], ids=["series", "frames"])
@pytest.mark.parametrize("place", PLACES)
def test_every_reader_finds_every_voxel_and_every_code(tmp_path, place, frames) -> None:
    images, path = source(tmp_path, place, frames), tmp_path / "x.dcm"
    written = lopsided(images)
    (warning,) = write_dicom_seg(path, written, images, algorithm="Proxy Prompt x")
    assert "nothing is marked in 'empty'" in warning
    own = read_segmentation(path, written.geometry)
    assert own.names == written.names
    for one, other in zip(own.segments, written.segments, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
    assert {key: own.segments[0].terminology[key] for key in TERMS} == TERMS
    for number, segment in enumerate(written.segments):
        assert points_in_dicom(path, number + 1) == world_points(segment.mask, written.geometry)
    found = hd.seg.segread(path)
    assert [found.get_segment_description(n).segment_label for n in (1, 2, 3)] == written.names
    described = found.get_segment_description(1)
    for code, key in (
        (described.segmented_property_category, "category"),
        (described.segmented_property_type, "type"),
        (described.segmented_property_type.SegmentedPropertyTypeModifierCodeSequence[0], "typeModifier"),
        (described.anatomic_regions[0], "anatomicRegion"),
        (described.anatomic_regions[0].AnatomicRegionModifierSequence[0], "anatomicRegionModifier"),
    ):
        assert [code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning] == TERMS[key]


def unpacked_as_by_slicer(folder: Path) -> tuple[Segmentation, list]:
    """Writes a segmentation and unpacks it with dcmqi, as Slicer does; returns it and what dcmqi says of it."""
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed")
    images, path = source(folder, "tilted", True), folder / "x.dcm"
    written = lopsided(images)
    del written.segments[1]
    write_dicom_seg(path, written, images)
    program = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    options = ["--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nrrd"]
    subprocess.run([str(program), *options], check=True, capture_output=True)
    return written, json.loads((folder / "meta.json").read_text("utf-8"))["segmentAttributes"]


def test_slicers_reader_finds_the_codes_and_the_tilted_voxels_of_one_file_with_many_frames(tmp_path) -> None:
    written, described = unpacked_as_by_slicer(tmp_path)
    for number, segment in enumerate(written.segments):
        image = sitk.ReadImage(str(tmp_path / f"{number + 1}.nrrd"))
        inside = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1]
        places = np.round([image.TransformIndexToPhysicalPoint([int(n) for n in one]) for one in inside], 2) + 0.0
        expected = np.round(written.geometry.index_to_lps(np.argwhere(segment.mask)[:, ::-1]), 2) + 0.0
        assert {tuple(one) for one in places.tolist()} == {tuple(one) for one in expected.tolist()}
        assert described[number][0]["SegmentLabel"] == segment.name
    for key, said in (
        ("category", "SegmentedPropertyCategoryCodeSequence"),
        ("type", "SegmentedPropertyTypeCodeSequence"),
        ("typeModifier", "SegmentedPropertyTypeModifierCodeSequence"),
        ("anatomicRegion", "AnatomicRegionSequence"),
        ("anatomicRegionModifier", "AnatomicRegionModifierSequence"),
    ):
        code = described[0][0][said]
        assert [code["CodingSchemeDesignator"], code["CodeValue"], code["CodeMeaning"]] == TERMS[key]


@pytest.mark.skipif(not has_mrml(), reason=REASON)
def test_segments_in_slicers_scene_lie_where_they_were_written(tmp_path) -> None:
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    written, described = unpacked_as_by_slicer(tmp_path)
    scene = make_scene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for number, segment in enumerate(written.segments):  # from here on, Slicer's own libraries alone
        labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", described[number][0]["SegmentLabel"])
        storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(tmp_path / f"{number + 1}.nrrd"))
        assert storage.ReadData(labels)
        assert slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
        identity = node.GetSegmentation().GetNthSegmentID(number)
        image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
        assert node.GetBinaryLabelmapRepresentation(identity, image)
        image.GetImageToWorldMatrix(matrix)
        to_ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
        extent = image.GetExtent()
        shape = (extent[5] - extent[4] + 1, extent[3] - extent[2] + 1, extent[1] - extent[0] + 1)
        marked = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
        inside = np.argwhere(marked)[:, ::-1] + np.array(extent[::2])
        found = (inside @ to_ras[:3, :3].T + to_ras[:3, 3]) * [-1, -1, 1]
        expected = written.geometry.index_to_lps(np.argwhere(segment.mask)[:, ::-1])
        places = [{tuple(one) for one in (np.round(each, 2) + 0.0).tolist()} for each in (found, expected)]
        assert places[0] == places[1]


def test_a_result_that_was_read_is_written_with_the_same_codes_and_voxels_again(tmp_path) -> None:
    images = source(tmp_path, "axial", False)
    written = lopsided(images)
    write_dicom_seg(tmp_path / "a.dcm", written, images)
    once = read_segmentation(tmp_path / "a.dcm", written.geometry)
    write_dicom_seg(tmp_path / "b.dcm", once, images)
    twice = read_segmentation(tmp_path / "b.dcm", written.geometry)
    for one, other in zip(once.segments, twice.segments, strict=True):
        assert (one.name, one.terminology, one.metadata) == (other.name, other.terminology, other.metadata)
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_allclose(one.color_rgb, other.color_rgb, atol=0.02)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_what_highdicom_writes_in_every_kind_is_read(tmp_path, kind) -> None:
    from ProxyPromptSegmentLib.imaging.dicom_planes import dicom_files, read_planes

    images = source(tmp_path, "axial", False)
    written, planes = lopsided(images), read_planes(dicom_files(images))
    labels = np.zeros(written.geometry.shape_kji, np.uint8)
    for value in (1, 3):
        labels[written.segments[value - 1].mask > 0] = value
    values = np.stack([labels == n for n in (1, 2, 3)], -1)[np.argsort(planes.order)]
    code = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    made = hd.seg.Segmentation(
        source_images=list(planes.datasets),
        pixel_array=values.astype(np.float32 if kind == "FRACTIONAL" else np.uint8),
        segmentation_type=kind,
        segment_descriptions=[hd.seg.SegmentDescription(n, f"s{n}", code, code, "MANUAL") for n in (1, 2, 3)],
        series_instance_uid=hd.UID(), series_number=1, sop_instance_uid=hd.UID(), instance_number=1,
        manufacturer="x", manufacturer_model_name="x", software_versions="1", device_serial_number="1",
        omit_empty_frames=False,
    )  # fmt: skip
    made.save_as(tmp_path / "x.dcm")
    found = read_segmentation(tmp_path / "x.dcm", written.geometry)
    assert found.names == ["s1", "s2", "s3"]
    for value, segment in enumerate(found.segments, start=1):
        np.testing.assert_array_equal(segment.mask, labels == value)


def test_a_code_of_many_characters_comes_back(tmp_path) -> None:
    long = {**TERMS, "type": ["99LOCAL", "a-code-of-more-than-sixteen", "Lesion"]}
    images = source(tmp_path, "axial", False)
    written = lopsided(images)
    written.segments[0].terminology = long
    write_dicom_seg(tmp_path / "x.dcm", written, images)
    assert read_segmentation(tmp_path / "x.dcm").segments[0].terminology["type"] == long["type"]
