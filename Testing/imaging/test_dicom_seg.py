"""Segmentations as DICOM SEG: read back by independent readers, to the voxel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
pytest.importorskip("highdicom", reason="highdicom is not installed")

import SimpleITK as sitk

from dicom_cases import write_dicom
from dicom_points import points_in_dicom, referenced, world_points
from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError
from ProxyPromptSegmentLib.imaging.dicom_planes import dicom_files
from ProxyPromptSegmentLib.imaging.dicom_seg import algorithm_name, write_dicom_seg
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.remedies import RemedyKind

UID = "1.2.826.0.1.3680043.2.1125.77"
PROSTATE = {
    "category": ["SCT", "123037004", "Anatomical Structure"],
    "type": ["SCT", "41216001", "Prostate"],
    "anatomicRegion": ["SCT", "279572002", "Pelvis"],
}
OBLIQUE = "0.8\\0.6\\0\\0\\0\\-1"
"""Rows run along (0.8, 0.6, 0), columns to inferior: an oblique coronal plane."""


@pytest.fixture
def series(tmp_path):
    write_dicom(tmp_path / "series", UID, "T2 axial")
    return tmp_path / "series"


def lopsided(shape_kji: tuple[int, int, int]) -> np.ndarray:
    """Returns a mask that differs from each of its mirror images."""
    mask = np.zeros(shape_kji, np.uint8)
    mask[1:4, 1, 2:6] = 1
    mask[1, 2:5, 2] = 1
    mask[3, 4, 1] = 1
    return mask


def segmentation_of(series: Path) -> Segmentation:
    """Returns two overlapping segments on the grid of a series."""
    geometry = read_volume(series).geometry
    mask, other = lopsided(geometry.shape_kji), np.zeros(geometry.shape_kji, np.uint8)
    other[2:, 1:3, 3:] = 1
    tags = {"DICOM.SegmentAlgorithmType": "SEMIAUTOMATIC", "DICOM.SegmentAlgorithmName": "Proxy Prompt x 0d1d8adb"}
    return Segmentation(
        [
            Segment("prostate", mask, (0.9, 0.1, 0.1), PROSTATE, {"tags": tags}),
            Segment("Läsion", other, (0.1, 0.9, 0.1), None, {"tags": {"DICOM.SegmentAlgorithmType": "MANUAL"}}),
        ],
        geometry,
    )


def test_every_voxel_lies_where_it_was_left_and_right_and_front_and_back(series, tmp_path):
    segmentation = segmentation_of(series)
    assert write_dicom_seg(tmp_path / "x.dcm", segmentation, series) == []
    for number, segment in enumerate(segmentation.segments):
        expected = world_points(segment.mask, segmentation.geometry)
        assert points_in_dicom(tmp_path / "x.dcm", number + 1) == expected
        for axis in range(3):
            assert world_points(np.flip(segment.mask, axis), segmentation.geometry) != expected, "mirrors go unnoticed"


@pytest.mark.parametrize("turn", [(2, 1, 0), (0, 1, 2)], ids=["permuted", "as stored"])
@pytest.mark.parametrize("flips", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_a_result_that_is_stored_in_another_order_is_the_same(series, tmp_path, turn, flips):
    segmentation = segmentation_of(series)
    image = sitk.GetImageFromArray(segmentation.segments[0].mask)
    image.SetSpacing(segmentation.geometry.spacing_mm)
    image.SetOrigin(segmentation.geometry.origin_lps)
    turned = sitk.Flip(sitk.PermuteAxes(image, turn), [axis in flips for axis in range(3)])
    geometry = VolumeGeometry(
        turned.GetSize(), turned.GetSpacing(), turned.GetOrigin(), np.reshape(turned.GetDirection(), (3, 3))
    )
    stored = Segmentation([Segment("a", sitk.GetArrayFromImage(turned))], geometry)
    write_dicom_seg(tmp_path / "x.dcm", stored, series)
    expected = world_points(segmentation.segments[0].mask, segmentation.geometry)
    assert points_in_dicom(tmp_path / "x.dcm", 1) == expected


def test_slices_of_an_oblique_series_lie_where_they_were(tmp_path):
    normal = np.cross((0.8, 0.6, 0), (0, 0, -1))
    folder = tmp_path / "oblique"
    for k in range(4):
        place = "\\".join(str(x) for x in np.array([7.0, -3.0, 11.0]) + 3.0 * k * normal)
        more = {"t0020_0032": place, "t0020_0037": OBLIQUE, "t0008_0018": f"{UID}.{k + 1}"}
        (one := tmp_path / str(k)).mkdir()
        write_dicom(one, UID, "cor", slices=1, **more)
        folder.mkdir(exist_ok=True)
        next(one.iterdir()).rename(folder / f"{k}.dcm")
    geometry = read_volume(folder).geometry
    mask = np.zeros(geometry.shape_kji, np.uint8)
    mask[1, 1:4, 2], mask[2, 1, 2:5] = 1, 1
    write_dicom_seg(tmp_path / "x.dcm", Segmentation([Segment("a", mask)], geometry), folder)
    assert points_in_dicom(tmp_path / "x.dcm", 1) == world_points(mask, geometry)


@pytest.mark.parametrize("count", [1, 2])
def test_the_reader_that_slicer_has_finds_the_same_voxels(series, tmp_path, count):
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed")
    both = segmentation_of(series)
    segmentation = Segmentation(both.segments[:count], both.geometry)
    write_dicom_seg(tmp_path / "x.dcm", segmentation, series, algorithm="Proxy Prompt y")
    program = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    options = ["--inputDICOM", str(tmp_path / "x.dcm"), "--outputDirectory", str(tmp_path), "-t", "nrrd"]
    subprocess.run([str(program), *options], check=True, capture_output=True)
    described = json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"]
    for number, segment in enumerate(segmentation.segments):
        image = sitk.ReadImage(str(tmp_path / f"{number + 1}.nrrd"))
        found = {
            tuple(float(x) for x in np.round(image.TransformIndexToPhysicalPoint([int(n) for n in place[::-1]]), 3) + 0)
            for place in np.argwhere(sitk.GetArrayFromImage(image))
        }
        assert found == world_points(segment.mask, segmentation.geometry)
        assert described[number][0]["SegmentLabel"] == segment.name
    assert described[0][0]["SegmentedPropertyTypeCodeSequence"]["CodeMeaning"] == "Prostate"
    assert described[0][0]["SegmentAlgorithmType"] == "SEMIAUTOMATIC"
    assert described[0][0]["SegmentAlgorithmName"] == "Proxy Prompt x 0d1d8adb"
    assert count == 1 or described[1][0]["SegmentAlgorithmType"] == "MANUAL"


def test_frames_refer_to_the_instances_of_the_series_and_keep_patient_and_study(series, tmp_path):
    segmentation = segmentation_of(series)
    write_dicom_seg(tmp_path / "x.dcm", segmentation, series)
    source = {str(pydicom.dcmread(file).SOPInstanceUID): pydicom.dcmread(file) for file in dicom_files(series)}
    inside = np.any([segment.mask.any(axis=(1, 2)) for segment in segmentation.segments], axis=0)
    heights = {
        round(float(one.ImagePositionPatient[2]), 3)
        for uid, one in source.items()
        if uid in referenced(tmp_path / "x.dcm")
    }
    assert heights == {round(-20.0 + 3.0 * k, 3) for k in np.flatnonzero(inside)}
    found, one = pydicom.dcmread(tmp_path / "x.dcm"), next(iter(source.values()))
    assert found.Modality == "SEG" and found.StudyInstanceUID == one.StudyInstanceUID
    assert found.FrameOfReferenceUID == one.FrameOfReferenceUID
    assert found.SeriesInstanceUID != one.SeriesInstanceUID
    (series_of,) = found.ReferencedSeriesSequence
    assert series_of.SeriesInstanceUID == one.SeriesInstanceUID
    assert "research" in found.SeriesDescription


def test_names_in_any_language_are_kept(series, tmp_path):
    for file in dicom_files(series):
        changed = pydicom.dcmread(file)
        changed.SpecificCharacterSet, changed.PatientName = "ISO_IR 100", "Müller^Jürgen"
        changed.save_as(file)
    segmentation = segmentation_of(series)
    segmentation.segments[0].name = "前列腺"
    write_dicom_seg(tmp_path / "x.dcm", segmentation, series)
    found = pydicom.dcmread(tmp_path / "x.dcm")
    assert str(found.PatientName) == "Müller^Jürgen"
    assert [one.SegmentLabel for one in found.SegmentSequence] == ["前列腺", "Läsion"]


def test_one_file_with_many_frames_is_referred_to_frame_by_frame(tmp_path):
    import highdicom as hd

    write_dicom(tmp_path / "series", UID, "T2")
    single = [pydicom.dcmread(file) for file in dicom_files(tmp_path / "series")]
    converted = hd.legacy.LegacyConvertedEnhancedMRImage(
        single[::-1], hd.UID(), 1, hd.UID(), 1, transfer_syntax_uid="1.2.840.10008.1.2.1"
    )
    file = tmp_path / "enhanced.dcm"
    converted.save_as(file)
    geometry = read_volume(tmp_path / "series").geometry
    mask = lopsided(geometry.shape_kji)
    write_dicom_seg(tmp_path / "x.dcm", Segmentation([Segment("a", mask)], geometry), [file])
    assert points_in_dicom(tmp_path / "x.dcm", 1) == world_points(mask, geometry)
    assert referenced(tmp_path / "x.dcm") == {str(converted.SOPInstanceUID)}


def test_a_file_that_is_there_is_never_written_over(series, tmp_path):
    segmentation = segmentation_of(series)
    (tmp_path / "x.dcm").write_text("mine")
    with pytest.raises(OutputError, match="already exists and is not overwritten"):
        write_dicom_seg(tmp_path / "x.dcm", segmentation, series)
    assert (tmp_path / "x.dcm").read_text() == "mine"
    write_dicom_seg(tmp_path / "x.dcm", segmentation, series, replace=True)
    assert pydicom.dcmread(tmp_path / "x.dcm").Modality == "SEG"


def test_an_image_that_was_not_read_from_dicom_is_refused_with_what_to_do(series, tmp_path):
    segmentation = segmentation_of(series)
    (tmp_path / "x.nrrd").write_text("NRRD")
    for images in (tmp_path / "x.nrrd", tmp_path / "none.dcm"):
        with pytest.raises(OutputError, match="was not read from DICOM.*write the result as .seg.nrrd"):
            write_dicom_seg(tmp_path / "x.dcm", segmentation, images)
    with pytest.raises(InputError, match="no DICOM files"):
        write_dicom_seg(tmp_path / "x.dcm", segmentation, [])
    with pytest.raises(InputError, match="cannot be read as DICOM"):
        write_dicom_seg(tmp_path / "x.dcm", segmentation, [tmp_path / "x.nrrd"])
    assert not (tmp_path / "x.dcm").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("ImagePositionPatient", "no position in the patient"), ("FrameOfReferenceUID", "frame of reference")],
)
def test_images_that_cannot_be_referred_to_are_refused(series, tmp_path, name, said):
    segmentation = segmentation_of(series)
    for file in dicom_files(series):
        changed = pydicom.dcmread(file)
        del changed[name]
        changed.save_as(file)
    with pytest.raises(InputError, match=said + r".*seg\.nrrd"):
        write_dicom_seg(tmp_path / "x.dcm", segmentation, list(series.iterdir()))


def test_a_mask_on_another_grid_or_beside_the_images_is_refused(series, tmp_path):
    segmentation = segmentation_of(series)
    grid = segmentation.geometry
    moved = VolumeGeometry(grid.size_ijk, grid.spacing_mm, (0.1, 0.2, 0.3), grid.direction)
    with pytest.raises(GeometryError, match="another grid"):
        write_dicom_seg(tmp_path / "x.dcm", Segmentation(segmentation.segments, moved), series)
    (first, second, *rest) = (
        str(one) for one in sorted(dicom_files(series), key=lambda f: pydicom.dcmread(f).InstanceNumber)
    )
    with pytest.raises(OutputError, match="voxels of 'prostate' lie outside of the DICOM images"):
        write_dicom_seg(tmp_path / "x.dcm", segmentation, [first, second])
    with pytest.raises(InputError, match="not evenly spaced"):
        write_dicom_seg(tmp_path / "x.dcm", segmentation, [first, *rest])
    assert not (tmp_path / "x.dcm").exists()


def test_an_empty_result_is_written_and_said(series, tmp_path):
    segmentation = segmentation_of(series)
    segmentation.segments[1].mask[:] = 0
    (warning,) = write_dicom_seg(tmp_path / "x.dcm", segmentation, series)
    assert "nothing is marked in 'Läsion'" in warning
    segmentation.segments[0].mask[:] = 0
    assert len(write_dicom_seg(tmp_path / "y.dcm", segmentation, series)) == 2


def test_without_the_package_the_error_names_it(series, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(OutputError, match="highdicom") as caught:
        write_dicom_seg(tmp_path / "x.dcm", segmentation_of(series), series)
    assert caught.value.remedy.kind == RemedyKind.INSTALL_PACKAGE and caught.value.remedy.package == "highdicom"


def test_the_name_has_model_and_weights_and_fits_into_dicom():
    assert algorithm_name("sam-compact", "0d1d8adb" * 8) == "Proxy Prompt sam-compact 0d1d8adb"
    long = algorithm_name("a very long name \\ " * 9, "0d1d8adb" * 8)
    assert len(long) <= 64 and long.endswith(" 0d1d8adb") and "\\" not in long
