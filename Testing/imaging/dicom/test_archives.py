"""What picture archives, anonymisers and discs make of a series: read right, or refused in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")

from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from dicom_made import AXIAL, dataset, enhanced, group, save, segmentation, stack, write_series
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames import open_frames
from ProxyPromptSegmentLib.imaging.dicom import reading, series
from ProxyPromptSegmentLib.imaging.dicom.pixels import read_pixels
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.support.case import read_support_case

STEP = 3.3
SLICES = stack()
PLACED = {"PixelSpacing": [1.1, 1.1], "ImageOrientationPatient": AXIAL}


def along(count: int = 9, first: float = 0.0) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, round(first + STEP * n, 4)) for n in range(count)]


def joined(folder: Path, *parts: Path) -> Path:
    """Moves the files of several folders into one."""
    folder.mkdir(exist_ok=True)
    for part in parts:
        for file in part.iterdir():
            file.rename(folder / f"{part.name}_{file.name}")
    return folder


def test_one_identifier_for_all_images_of_a_series_costs_no_slice(tmp_path) -> None:
    write_series(tmp_path, SLICES, along(), SOPInstanceUID="1.2.3")
    np.testing.assert_array_equal(read_volume(tmp_path).array, SLICES)
    shutil.copy(tmp_path / "IM0_0", tmp_path / "copy")
    np.testing.assert_array_equal(read_volume(tmp_path).array, SLICES)


def test_a_second_image_under_the_identifier_and_at_the_place_of_another_is_no_copy(tmp_path) -> None:
    write_series(tmp_path, SLICES, along())
    other = pydicom.dcmread(tmp_path / "IM0_0")
    other.PixelData = (SLICES[0] + 1).tobytes()
    other.save_as(tmp_path / "other")
    with pytest.raises(InputError, match=r"several images at the same place \(10 files, 9 places\)"):
        read_volume(tmp_path)


def test_a_copy_may_be_packed_and_write_its_numbers_otherwise(tmp_path) -> None:
    write_series(tmp_path, SLICES, along())
    for file in sorted(tmp_path.iterdir()):
        packed = pydicom.dcmread(file)
        packed.compress(RLELossless, generate_instance_uid=False)
        packed.ImagePositionPatient = [f"{float(x):.6f}" for x in packed.ImagePositionPatient]
        packed.save_as(tmp_path / f"packed_{file.name}")
    np.testing.assert_array_equal(read_volume(tmp_path).array, SLICES)


def test_each_of_many_images_alike_is_read_once_to_tell_copies(tmp_path, monkeypatch) -> None:
    write_series(tmp_path, SLICES, [(0, 0, 0)] * 9, SOPInstanceUID="1.2.3", InstanceNumber=1)
    read = []
    monkeypatch.setattr(series, "read_pixels", lambda *args: read.append(args[1]) or read_pixels(*args))
    with pytest.raises(InputError, match="several images at the same place"):
        read_volume(tmp_path)
    assert len(read) == len(set(read)) == 9


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PatientID", "2 patients"),
        ("PatientBirthDate", "2 patients"),
        ("StudyInstanceUID", "2 studies"),
        ("FrameOfReferenceUID", "2 frames of reference"),
    ],
)
def test_images_of_two_patients_under_one_series_are_never_stacked(tmp_path, name, words) -> None:
    first = write_series(tmp_path / "a", SLICES[:5], along(5))
    if name == "PatientBirthDate":
        first = write_series(tmp_path / "a", SLICES[:5], along(5), PatientBirthDate="19500101")
    second = write_series(tmp_path / "b", SLICES[5:], along(4, 5 * STEP), **{name: "19611231"})
    folder = joined(tmp_path / "s", first, second)
    for path in (folder, folder / "a_IM0_0"):
        with pytest.raises(InputError, match=f"mixes images of {words}.*folder of its own"):
            read_volume(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"PatientID": "", "PatientName": "Roe^Ann"}, "2 patients"),
        ({"PatientID": "4711", "PatientName": "DOE^JANE"}, ""),
        ({"Modality": "PT"}, "2 modalities"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "2 kinds of pixels"),
        ({"Units": "CNTS"}, "2 units of their values"),
    ],
)
def test_images_of_several_kinds_under_one_series_are_never_stacked(tmp_path, values, words) -> None:
    common = {"Units": "BQML", "PatientID": values.get("PatientID", "4711")}
    first = write_series(tmp_path / "a", SLICES[:5], along(5), **common)
    second = write_series(tmp_path / "b", SLICES[5:], along(4, 5 * STEP), **common | values)
    folder = joined(tmp_path / "s", first, second)
    if words:
        with pytest.raises(InputError, match=f"mixes images of {words}"):
            read_volume(folder)
    else:
        np.testing.assert_array_equal(read_volume(folder).array, SLICES)


def test_a_segmentation_in_other_coordinates_than_its_image_is_reported(tmp_path, caplog) -> None:
    images, mask = write_series(tmp_path / "s", SLICES, along()), np.zeros(SLICES.shape[1:], np.uint8)
    mask[3:8, 4:9] = 1
    marks = segmentation([(1, place, mask) for place in along()], ["x"])
    read_support_case(images, save(marks, tmp_path / "same.dcm"))
    assert not caplog.text
    marks.FrameOfReferenceUID = "1.2.3.4"
    read_support_case(images, save(marks, tmp_path / "other.dcm"))
    assert "other.dcm was drawn in another frame of reference than that of s" in caplog.text


def test_two_images_of_two_studies_are_not_a_volume_of_two_slices(tmp_path) -> None:
    first = write_series(tmp_path / "a", SLICES[:1], along(1), StudyInstanceUID="1.2.1")
    second = write_series(tmp_path / "b", SLICES[1:2], along(1, STEP), StudyInstanceUID="1.2.2")
    with pytest.raises(InputError, match="mixes images of 2 studies"):
        read_volume(joined(tmp_path / "s", first, second))
    parts = [
        write_series(
            tmp_path / f"c{n}", SLICES[n : n + 1], along(1, n * STEP), StudyInstanceUID=f"1.2.{n}", StudyDate=date
        )
        for n, date in enumerate(("20200101", "20200101", "20240607"))
    ]
    with pytest.raises(InputError, match="mixes images of 3 studies"):
        read_volume(joined(tmp_path / "t", *parts))


def test_text_in_the_pixels_is_noted(tmp_path, caplog) -> None:
    read_volume(write_series(tmp_path / "s", SLICES, along(), BurnedInAnnotation="NO"))
    assert not caplog.text
    read_volume(write_series(tmp_path / "t", SLICES, along(), BurnedInAnnotation="YES"))
    assert "has text in its pixels (Burned In Annotation), which may name the patient" in caplog.text
    clip = dataset(SLICES, FrameTime="40", BurnedInAnnotation="YES")
    assert "may name the patient" in open_frames(save(clip, tmp_path / "clip.dcm")).notes[0]


def test_slices_that_still_arrive_or_change_while_they_are_read_are_no_volume(tmp_path, monkeypatch) -> None:
    folder = write_series(tmp_path / "s", SLICES[:8], along(8))
    late = write_series(tmp_path / "late", SLICES[8:], along(1, 8 * STEP)) / "IM0_0"
    read = reading._one

    def and_then(change):
        def one(file):
            values = read(file)
            if file.name.startswith("IM0_"):
                change()
            return values

        monkeypatch.setattr(reading, "_one", one)
        with pytest.raises(InputError, match="was changed while it was read; wait until it is completely"):
            read_volume(folder)

    and_then(lambda: shutil.copy(late, folder / "IM8"))
    and_then(lambda: (folder / "IM8").touch())
    (folder / "IM8").unlink()
    monkeypatch.setattr(reading, "_one", lambda file: (folder / "notes.txt").write_text("x") and read(file))
    assert read_volume(folder).geometry.size_ijk[2] == 8  # what is no image of it may come and go


def test_slices_written_by_simpleitk_each_have_a_study_of_their_own(tmp_path) -> None:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n, pixels in enumerate(SLICES):
        one = sitk.GetImageFromArray(pixels)
        tags = {"0008|0060": "CT", "0020|000e": "1.2.3", "0020|0013": str(n), "0020|0037": "1\\0\\0\\0\\1\\0"}
        for tag, value in {**tags, "0020|0032": f"0\\0\\{STEP * n:.4f}"}.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(tmp_path / f"{n}.dcm"))
        writer.Execute(one)
    assert len({pydicom.dcmread(file).StudyInstanceUID for file in tmp_path.iterdir()}) == 9
    np.testing.assert_array_equal(read_volume(tmp_path).array, SLICES)


@pytest.mark.parametrize(
    ("name", "said"),
    [("DiffusionBValue", "b-value"), ("EchoNumbers", "echo"), ("KVP", "kV"), ("TemporalPositionIdentifier", "time")],
)
def test_contrasts_echoes_energies_and_times_of_one_folder_are_named(tmp_path, name, said) -> None:
    parts = []
    for n in (1, 2):
        parts.append(write_series(tmp_path / str(n), SLICES + np.int16(n), along(), **{name: 40 * n}))
        for file in parts[-1].iterdir():
            found = pydicom.dcmread(file)
            found.SOPInstanceUID += f".{n}"
            found.save_as(file)
    folder = joined(tmp_path / "s", *parts)
    with pytest.raises(InputError, match=rf"\(18 files, 9 places: {said} 40(\.0)?; {said} 80(\.0)?\).*Export one"):
        read_volume(folder)


def test_b_values_within_one_file_are_named(tmp_path) -> None:
    frames = [{"MRDiffusionSequence": group(DiffusionBValue=500.0 * (n // 4))} for n in range(8)]
    path = save(enhanced(SLICES[:8], along(4) * 2, frames=frames), tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"\(8 frames, 4 places: b-value 0.0; b-value 500.0\)"):
        read_volume(path)


def test_a_mosaic_is_known_by_its_private_count_too(tmp_path) -> None:
    made = dataset(SLICES[0], ImagePositionPatient=[0, 0, 0], **PLACED)
    made.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    made.add_new(0x0019100A, "US", 9)
    with pytest.raises(InputError, match="a mosaic of 9 slices"):
        read_volume(save(made, tmp_path / "a.dcm"))
    for block in ("GEMS_ACQU_01", "SIEMENS SMS-AX  VIEW 1.0"):  # where the number means something else
        made[0x0019, 0x0010].value = block
        np.testing.assert_array_equal(read_volume(save(made, tmp_path / "a.dcm")).array, SLICES[:1])


def test_a_localizer_is_left_out_only_if_it_is_another_series(tmp_path) -> None:
    write_series(tmp_path, SLICES, along())
    turned = {**PLACED, "ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [0, 0, 0]}
    save(dataset(SLICES[0], "77", 99, **turned), tmp_path / "scout")
    np.testing.assert_array_equal(read_volume(tmp_path / "IM0_0").array, SLICES)
    with pytest.raises(InputError, match="contains 2 DICOM series.*Give one file of the series you want"):
        read_volume(tmp_path)
    save(dataset(SLICES[0], "1", 99, **turned), tmp_path / "scout")
    for path in (tmp_path, tmp_path / "IM0_0"):
        with pytest.raises(InputError, match="mixes slices of several orientations"):
            read_volume(path)


def test_a_clip_within_a_series_of_slices_is_an_image_of_its_own(tmp_path) -> None:
    write_series(tmp_path, SLICES, along())
    save(dataset(SLICES, number=99), tmp_path / "clip.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "IM0_0").array, SLICES)
    with pytest.raises(InputError, match="10 files, some of several frames; give one of them"):
        read_volume(tmp_path)


def test_matrix_sizes_are_not_mixed(tmp_path) -> None:
    write_series(tmp_path, SLICES, along())
    large = dataset(stack(1, (20, 20))[0], number=99, ImagePositionPatient=[0, 0, 9 * STEP], **PLACED)
    save(large, tmp_path / "large")
    with pytest.raises(InputError, match="several orientations or sizes"):
        read_volume(tmp_path)


def test_what_belongs_to_a_series_and_is_no_image_of_it_may_lie_beside_it(tmp_path) -> None:
    write_series(tmp_path, SLICES, along())
    kinds = {"88.11": "SR", "11.1": "PR", "88.59": "KO", "481.3": "RTSTRUCT", "104.1": "PDF", "9.1.1": "ECG"}
    for number, (kind, name) in enumerate(kinds.items()):
        made = dataset(SLICES[0], f"9{number}", kind=kind)
        for keyword in ("Rows", "Columns", "PixelData", "BitsAllocated", "SamplesPerPixel"):
            delattr(made, keyword)
        save(made, tmp_path / name)
    directory = dataset(SLICES[0])
    directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(directory, keyword)
    save(directory, tmp_path / "DICOMDIR")
    mask = SLICES[0] > 9
    save(segmentation([(1, (0, 0, 0), mask)], ["prostate"]), tmp_path / "result.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path).array, SLICES)
    assert open_frames(tmp_path).count == 9
    found = read_segmentation(tmp_path, read_volume(tmp_path).geometry)
    assert found.names == ["prostate"] and np.array_equal(found.segments[0].mask[0], mask)
    for name in ("SR", "PR", "KO", "PDF", "ECG", "DICOMDIR", "RTSTRUCT"):
        with pytest.raises(InputError, match="without an image|the directory of a DICOM medium"):
            read_volume(tmp_path / name)
        with pytest.raises(InputError, match="no segmentation|holds contours"):
            read_segmentation(tmp_path / name)


def test_every_slice_has_its_own_scale(tmp_path) -> None:
    for k in range(9):
        more = {**PLACED, "ImagePositionPatient": [0, 0, STEP * k], "Modality": "PT"}
        made = dataset(SLICES[k].astype("u2"), number=k + 1, kind="128", RescaleSlope=str(k + 1), **more)
        save(made, tmp_path / f"{k}")
    expected = SLICES * np.arange(1.0, 10.0)[:, None, None]
    np.testing.assert_array_equal(read_volume(tmp_path).array, expected)


def test_directions_that_were_rounded_are_still_a_volume(tmp_path) -> None:
    cosine, sine = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    places = [tuple(np.round(k * STEP * np.array([0, -sine, cosine]), 2)) for k in range(9)]
    rounded = [1, 0, 0, 0, round(cosine, 3), round(sine, 3)]
    volume = read_volume(write_series(tmp_path / "s", SLICES, places, ImageOrientationPatient=rounded))
    np.testing.assert_array_equal(volume.array, SLICES)
    np.testing.assert_allclose(volume.geometry.spacing_mm, (1.1, 1.1, STEP), rtol=2e-3)
    assert abs(volume.geometry.affine[:3, :3] @ [0, 0, 8] - places[8]).max() < 0.05


def test_a_part_of_an_image_in_several_files_is_not_taken_for_the_whole(tmp_path) -> None:
    made = enhanced(SLICES[:5], along(5), InConcatenationNumber=1, InConcatenationTotalNumber=2)
    with pytest.raises(InputError, match=r"part 1 of 2 of an image.*\(a concatenation\)"):
        read_volume(save(made, tmp_path / "a.dcm"))
    made = enhanced(SLICES[:5], along(5), InConcatenationNumber=2, ConcatenationUID="1.2.3")
    with pytest.raises(InputError, match=r"part 2 of some of an image.*\(a concatenation\)"):
        read_volume(save(made, tmp_path / "b.dcm"))
    whole = enhanced(SLICES, along(), InConcatenationNumber=1, InConcatenationTotalNumber=1, ConcatenationUID="1.2.3")
    np.testing.assert_array_equal(read_volume(save(whole, tmp_path / "c.dcm")).array, SLICES)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("RescaleSlope", b"1,5 "),
        ("RescaleIntercept", b"-10,5"),
        ("NumberOfFrames", b"two "),
        ("PixelSpacing", b"0,5\\0,5 "),
        ("ImagePositionPatient", b"0,5\\0,5\\1 "),
    ],
)
def test_numbers_with_a_comma_are_never_taken_for_missing(tmp_path, keyword, value) -> None:
    made = dataset(SLICES[0], ImagePositionPatient=[0, 0, 0], **PLACED)
    tag = Tag(keyword)
    made[tag] = RawDataElement(tag, "IS" if keyword == "NumberOfFrames" else "DS", len(value), value, 0, False, True)
    with pytest.raises(InputError, match=f"no readable number in {keyword}"):
        read_volume(save(made, tmp_path / "a.dcm"))


def test_a_series_of_one_slice_has_its_thickness(tmp_path) -> None:
    write_series(tmp_path, SLICES[:1], [(3, 4, 5)], SliceThickness="2.5")
    volume = read_volume(tmp_path)
    assert volume.geometry.spacing_mm == (1.1, 1.1, 2.5) and volume.has_depth
    assert volume.geometry.origin_lps == (3, 4, 5)
