"""Reading and writing images: every format, every kind of bad file, a disk that fills up."""

from __future__ import annotations

import gzip
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_cases import write_dicom
from geometry_cases import geometries
from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume, safe_output, stem_of, suffix_of, write_volume

OBLIQUE = VolumeGeometry(
    (7, 6, 5),
    (0.4687, 0.9, 3.15),
    (-12.345678, 100 / 3, -7.1),
    [[1, 0, 0], [0, 0.9526614854740363, 0.3040330598026857], [0, -0.3040330598026857, 0.9526614854740363]],
)


def some_volume(geometry: VolumeGeometry = OBLIQUE, seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).integers(0, 2000, geometry.shape_kji).astype(np.float32)
    array.flat[0] = 2001  # never constant
    return Volume(array, geometry, "case")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    geometry=geometries(),
    seed=st.integers(0, 99),
    suffix=st.sampled_from((".nrrd", ".mha", ".nii.gz", ".nii")),
)
def test_a_written_volume_is_read_back_the_same(
    tmp_path: Path, geometry: VolumeGeometry, seed: int, suffix: str
) -> None:
    if geometry.size_ijk == (1, 1, 1):
        return  # one voxel is constant
    volume, path = some_volume(geometry, seed), tmp_path / f"v{suffix}"
    write_volume(path, volume)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.array.dtype == np.float32
    assert back.geometry.size_ijk == geometry.size_ijk
    # NIfTI stores float32 and a quaternion: 500 mm keep about 5e-5 mm, directions about 1e-4 near 180 degrees
    tolerance = 1e-3 if "nii" in suffix else 1e-9
    np.testing.assert_allclose(back.geometry.affine, geometry.affine, atol=tolerance)
    assert back.geometry.is_close(geometry)
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()


def test_the_name_and_source_come_from_the_file(tmp_path: Path) -> None:
    write_volume(tmp_path / "my.case.nii.gz", some_volume())
    volume = read_volume(str(tmp_path / "my.case.nii.gz"))
    assert volume.name == "my.case"
    assert volume.source == tmp_path / "my.case.nii.gz"
    assert (stem_of(Path("A.SEG.NRRD")), suffix_of(Path("A.SEG.NRRD"))) == ("A", ".seg.nrrd")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.int64])
def test_every_scalar_type_becomes_float32(tmp_path: Path, kind: type) -> None:
    image = sitk.GetImageFromArray(np.arange(60, dtype=kind).reshape(3, 4, 5))
    sitk.WriteImage(image, str(tmp_path / "t.nrrd"))
    np.testing.assert_array_equal(
        read_volume(tmp_path / "t.nrrd").array, np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    )


# --- pictures -----------------------------------------------------------------------------------------------


def test_a_16_bit_png_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    array = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "p.png"))
    volume = read_volume(tmp_path / "p.png")
    np.testing.assert_array_equal(volume.array, array[None].astype(np.float32))
    assert volume.geometry == VolumeGeometry((5, 4, 1))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_rgb_pictures_keep_their_three_colours(tmp_path: Path, suffix: str) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / f"p{suffix}"))
    volume = read_volume(tmp_path / f"p{suffix}")
    assert volume.is_rgb
    np.testing.assert_array_equal(volume.array, array[None])
    assert volume.geometry == VolumeGeometry((5, 4, 1))


def test_transparency_is_left_out(tmp_path: Path) -> None:
    array = np.arange(80, dtype=np.uint8).reshape(4, 5, 4)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "p.png"))
    np.testing.assert_array_equal(read_volume(tmp_path / "p.png").array, array[None, ..., :3])


def test_a_jpeg_is_read_and_its_dots_per_inch_are_not_taken_for_millimetres(tmp_path: Path) -> None:
    array = np.tile(np.arange(64, dtype=np.uint8), (32, 1))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.1, 0.1))
    sitk.WriteImage(image, str(tmp_path / "p.JPG"))
    volume = read_volume(tmp_path / "p.JPG")
    assert volume.geometry.spacing_mm == (1, 1, 1)
    assert np.abs(volume.array[0] - array).max() < 8


def test_an_rgb_volume_is_written_and_read_back(tmp_path: Path) -> None:
    volume = Volume(np.arange(7 * 6 * 5 * 3).reshape(5, 6, 7, 3) % 256, OBLIQUE)
    write_volume(tmp_path / "c.nrrd", volume)
    back = read_volume(tmp_path / "c.nrrd")
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.geometry.is_close(OBLIQUE, 1e-6)


# --- DICOM --------------------------------------------------------------------------------------------------


def test_a_dicom_folder_is_one_volume_in_the_order_of_its_positions(tmp_path: Path) -> None:
    array = write_dicom(tmp_path / "series", "1.2.3.1", "T2w")
    volume = read_volume(tmp_path / "series")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry.is_close(VolumeGeometry((7, 6, 5), (0.5, 0.75, 3.0), (-10, -20, -20)))
    assert volume.name == "series"


def test_a_single_file_of_a_series_stands_for_the_whole_series(tmp_path: Path) -> None:
    array = write_dicom(tmp_path / "d", "1.2.3.1", "T2w")
    other = write_dicom(tmp_path / "d", "1.2.3.2", "DWI", slices=3)
    np.testing.assert_array_equal(read_volume(tmp_path / "d" / "1_0.dcm").array, array)
    np.testing.assert_array_equal(read_volume(tmp_path / "d" / "2_3.dcm").array, other)


def test_dicom_files_without_a_suffix_are_recognized(tmp_path: Path) -> None:
    array = write_dicom(tmp_path / "d", "1.2.3.1", "T2w")
    for number, file in enumerate(sorted((tmp_path / "d").iterdir())):
        file.rename(file.with_name(f"IM{number:04d}"))
    np.testing.assert_array_equal(read_volume(tmp_path / "d" / "IM0002").array, array)


def test_several_series_in_a_folder_are_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "d", "1.2.3.1", "T2w tra")
    write_dicom(tmp_path / "d", "1.2.3.2", "ADC map", slices=3)
    with pytest.raises(InputError, match=r"2 DICOM series.*T2w tra.*ADC map.*Give one file") as caught:
        read_volume(tmp_path / "d")
    assert "5 files" in str(caught.value)
    assert "3 files" in str(caught.value)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="no DICOM series"):
        read_volume(tmp_path)


def test_a_missing_slice_of_a_series_is_noticed(tmp_path: Path) -> None:
    write_dicom(tmp_path / "d", "1.2.3.1", "T2w", slices=7, skip=(3,))
    with pytest.raises(InputError, match=r"not evenly spaced: 3 mm usually, 6 mm after slice 3 of 6"):
        read_volume(tmp_path / "d")


@pytest.mark.parametrize("again", [1, 4])
def test_a_series_with_several_images_at_a_place_is_refused(tmp_path: Path, again: int) -> None:
    write_dicom(tmp_path / "d", "1.2.3.1", "dynamic", slices=4)
    for k in range(again):
        image = sitk.ReadImage(str(tmp_path / "d" / f"1_{(k * 3) % 7}.dcm"))
        image.SetMetaData("0008|0018", f"1.2.3.1.{k + 100}")
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(tmp_path / "d" / f"later_{k}.dcm"))
        writer.Execute(image)
    with pytest.raises(InputError, match=rf"same place.*{4 + again} files, 4 places"):
        read_volume(tmp_path / "d")


# --- bad input ----------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.nii.gz does not exist"):
        read_volume(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize(
    "name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.png", "a.jpg", "a.tif", "a.dcm", "a.txt", "a"]
)
@pytest.mark.parametrize("content", [b"", b"This is no image at all.\n" * 40])
def test_a_file_that_is_no_image_is_refused_with_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path / name)
    assert_a_sentence(str(caught.value), name)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz", ".nii", ".png", ".jpg", ".tif"])
@pytest.mark.parametrize("kept", [0.4, 0.95])
def test_a_file_cut_short_is_refused_and_never_read_in_part(tmp_path: Path, suffix: str, kept: float) -> None:
    array = (
        np.random.default_rng(0).integers(0, 255, (1, 90, 90) if suffix[1] in "pjt" else (4, 50, 50)).astype(np.uint8)
    )
    path = tmp_path / f"whole{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(array[0] if len(array) == 1 else array), str(path), suffix != ".tif")
    assert read_volume(path).array.shape == array.shape
    data = path.read_bytes()
    short = tmp_path / f"short{suffix}"
    short.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError) as caught:
        read_volume(short)
    assert_a_sentence(str(caught.value), short.name)


def assert_a_sentence(message: str, name: str) -> None:
    """One line that names the file, without the traces of C++."""
    assert name in message
    assert "\n" not in message
    assert "sitk::ERROR" not in message
    assert "0x" not in message
    assert ".cxx" not in message
    assert len(message) < 500


def test_four_dimensions_are_refused_and_a_fourth_of_length_one_is_not(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / "four.nii.gz"))
    with pytest.raises(InputError, match="4 dimensions.*5x4x3x2.*one time point"):
        read_volume(tmp_path / "four.nii.gz")
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(array[:1], isVector=False), str(tmp_path / f"one{suffix}"))
        np.testing.assert_array_equal(read_volume(tmp_path / f"one{suffix}").array, array[0])


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (None, "same intensity")]
)
def test_intensities_without_a_window_are_refused(tmp_path: Path, value: float | None, words: str) -> None:
    array = np.full((3, 4, 5), 7, np.float32)
    if value is not None:
        array[:] = np.arange(60).reshape(3, 4, 5)
        array[1, 2, 3] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "bad.nrrd"))
    with pytest.raises(InputError, match=f"bad.nrrd has .*{words}"):
        read_volume(tmp_path / "bad.nrrd")


def test_doubles_beyond_float32_count_as_infinite(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.float64).reshape(3, 4, 5)
    array[0, 0, 0] = 1e300
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "huge.nrrd"))
    with pytest.raises(InputError, match="infinite"):
        read_volume(tmp_path / "huge.nrrd")


@pytest.mark.parametrize(
    "image",
    [
        sitk.GetImageFromArray(np.zeros((3, 4, 5), np.complex64)),
        sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.float32), isVector=True),
        sitk.GetImageFromArray(np.zeros((3, 4, 5, 6), np.float32), isVector=True),
        sitk.GetImageFromArray(np.zeros((3, 4, 5, 2), np.uint8), isVector=True),
    ],
)
def test_complex_and_vector_voxels_are_refused(tmp_path: Path, image: sitk.Image) -> None:
    sitk.WriteImage(image, str(tmp_path / "vector.mha"))
    with pytest.raises(InputError, match="values per voxel"):
        read_volume(tmp_path / "vector.mha")


def test_axes_that_are_not_at_right_angles_are_refused(tmp_path: Path) -> None:
    header = (
        "NRRD0005\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
        "space directions: (1,0,0) (0.4,1,0) (0,0,1)\nkinds: domain domain domain\nencoding: raw\n"
        "space origin: (0,0,0)\n\n"
    )
    (tmp_path / "sheared.nrrd").write_bytes(header.encode() + bytes(range(8)))
    with pytest.raises(InputError, match="sheared.nrrd.*right angles"):
        read_volume(tmp_path / "sheared.nrrd")


def test_a_sheared_nifti_is_refused(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.nii", some_volume(VolumeGeometry((7, 6, 5))))
    data = bytearray((tmp_path / "v.nii").read_bytes())
    data[252:254] = (0).to_bytes(2, "little")  # no quaternion: only the affine rows count
    rows = np.array([[-1, -0.5, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]], np.float32)
    data[280:328] = rows.tobytes()
    (tmp_path / "v.nii").write_bytes(data)
    with pytest.raises(InputError, match="v.nii.*right angles"):
        read_volume(tmp_path / "v.nii")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "v.nrrd", some_volume())
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything, so the answer is doubled
    with pytest.raises(InputError, match="may not be read"):
        read_volume(tmp_path / "v.nrrd")


def test_an_array_and_a_geometry_of_other_shapes_are_no_volume() -> None:
    with pytest.raises(InputError, match=r"\(2, 3, 4\).*\(5, 6, 7\)"):
        Volume(np.zeros((2, 3, 4)), OBLIQUE)


# --- writing ------------------------------------------------------------------------------------------------


def test_results_that_could_never_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path / "v.xyz", "allowed: .nrrd"),
        (tmp_path / "no" / "v.nrrd", "does not exist"),
        (tmp_path / "file" / "v.nrrd", "does not exist"),
    ):
        with pytest.raises(OutputError, match=words):
            write_volume(path, some_volume())
    (tmp_path / "d.nrrd").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_volume(tmp_path / "d.nrrd", some_volume())


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(OutputError, match="may not be written.*permissions"):
        write_volume(tmp_path / "v.nrrd", some_volume())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz"])
def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_half_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    path.write_bytes(b"what was there before")
    geometry = VolumeGeometry((64, 64, 16))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(OutputError, match=r"could not be written.*No partial file was left") as caught:
            write_volume(path, some_volume(geometry))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"what was there before"


def test_a_writer_that_loses_voxels_without_a_word_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = sitk.WriteImage
    monkeypatch.setattr(sitk, "WriteImage", lambda image, *rest, **more: really(image * 0, *rest, **more))
    with pytest.raises(OutputError, match="differs from what was written"):
        write_volume(tmp_path / "v.nrrd", some_volume())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_writing_removes_the_temporary_file(tmp_path: Path) -> None:
    def interrupted() -> None:
        with safe_output(tmp_path / "v.nrrd") as partial:
            partial.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_name_keeps_the_suffix_that_writers_go_by(tmp_path: Path) -> None:
    with safe_output(tmp_path / "v.seg.nrrd") as partial:
        assert partial.parent == tmp_path
        assert partial.name.endswith(".seg.nrrd")
        partial.write_bytes(b"done")
    assert (tmp_path / "v.seg.nrrd").read_bytes() == b"done"


def test_a_gzip_with_a_broken_checksum_is_refused(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.nii", some_volume())
    packed = bytearray(gzip.compress((tmp_path / "v.nii").read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "v.nii.gz").write_bytes(packed)
    with pytest.raises(InputError):
        read_volume(tmp_path / "v.nii.gz")


def test_an_oblique_volume_keeps_its_geometry_through_nifti(drawn_prostates: Path, tmp_path: Path) -> None:
    drawn, _ = pelvis_phantom(11, (23, 120, 120))
    assert abs(drawn.geometry.direction[1, 1]) < 0.999
    volume = read_volume(drawn_prostates / "p158_001" / "t2.nii.gz")
    assert volume.geometry.is_close(drawn.geometry, 1e-4)
    np.testing.assert_array_equal(volume.array, drawn.array.astype(np.int16))
    write_volume(tmp_path / "again.nii.gz", volume)
    again = read_volume(tmp_path / "again.nii.gz")
    assert again.geometry.is_close(volume.geometry, 1e-4)
    np.testing.assert_array_equal(again.array, volume.array)
