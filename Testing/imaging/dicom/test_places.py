"""Where slices and frames lie: at their positions, or refused with what is wrong about them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")

from dicom_made import AXIAL, dataset, enhanced, group, save, stack, write_series
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames import open_frames
from ProxyPromptSegmentLib.imaging.dicom import series
from ProxyPromptSegmentLib.imaging.volumes import read_volume

STEP = 3.3


def along(count: int = 9, first: float = 0.0) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, round(first + STEP * n, 4)) for n in range(count)]


@pytest.mark.parametrize("folder", [True, False])
def test_a_series_is_read_at_its_places_whatever_its_file_names(tmp_path, folder) -> None:
    slices = stack()
    write_series(tmp_path / "s", slices, [(-5.0, 7.0, z) for _, _, z in along()])
    volume = read_volume(tmp_path / "s" if folder else next((tmp_path / "s").glob("IM*_3")))
    np.testing.assert_array_equal(volume.array, slices)
    np.testing.assert_allclose(volume.geometry.origin_lps, (-5, 7, 0))
    np.testing.assert_allclose(volume.geometry.spacing_mm, (1.1, 1.1, STEP))
    assert volume.has_spacing and volume.has_depth and volume.modality == "MR"


def test_a_folder_is_scanned_once(tmp_path, monkeypatch) -> None:
    for name in "abc":
        write_series(tmp_path, stack(4), along(4), SeriesInstanceUID=f"1.2.{ord(name)}")
        for file in tmp_path.glob("IM*"):
            file.rename(tmp_path / f"{name}{file.name}")
    read, original = [], series.read_dataset
    monkeypatch.setattr(series, "read_dataset", lambda path, **more: read.append(path) or original(path, **more))
    read_volume(tmp_path / "bIM0_0")
    assert len(read) == 12 + 1  # each once, and the one that was named


def test_a_tilted_gantry_is_refused(tmp_path) -> None:
    tangent = np.tan(np.deg2rad(15))
    write_series(tmp_path / "s", stack(), [(0, round(3 * k * tangent, 6), 3 * k) for k in range(9)])
    with pytest.raises(InputError, match=r"not stacked at right angles.*15 degrees \(tilted gantry\)"):
        read_volume(tmp_path / "s")


def test_gaps_that_grow_little_by_little_are_refused_and_rounding_is_not(tmp_path) -> None:
    grown = np.cumsum([3.0 + 0.15 * k for k in range(9)])
    write_series(tmp_path / "s", stack(), [(0, 0, z) for z in grown])
    with pytest.raises(InputError, match="not evenly spaced"):
        read_volume(tmp_path / "s")
    write_series(tmp_path / "r", stack(), [(0.0004 * (k % 2), 0, round(k * 0.7143, 2)) for k in range(9)])
    assert abs(read_volume(tmp_path / "r").geometry.spacing_mm[2] - 0.714) < 0.002


def test_slices_that_are_shifted_within_their_planes_are_refused(tmp_path) -> None:
    write_series(tmp_path / "s", stack(), [(4.0 * (k == 4), 0, STEP * k) for k in range(9)])
    with pytest.raises(InputError, match="shifted against each other by 3.5"):
        read_volume(tmp_path / "s")


def test_interleaved_frames_come_into_order(tmp_path) -> None:
    order, slices = [0, 2, 4, 6, 8, 1, 3, 5, 7], stack()
    path = save(enhanced(slices[order], [along()[k] for k in order]), tmp_path / "a.dcm")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, slices)
    np.testing.assert_allclose(volume.geometry.spacing_mm, (1.1, 1.1, STEP))
    np.testing.assert_array_equal(open_frames(path, "k").frame(3), slices[3])


def test_a_frame_is_missing(tmp_path) -> None:
    kept = [0, 1, 2, 3, 5, 6, 7, 8]
    save(enhanced(stack()[kept], [along()[k] for k in kept]), tmp_path / "a.dcm")
    with pytest.raises(InputError, match="frames of a.dcm are not evenly spaced: 3.3 mm usually, 6.6 mm after frame 4"):
        read_volume(tmp_path / "a.dcm")


def test_two_times_in_one_file_are_refused(tmp_path) -> None:
    times = [{"FrameContentSequence": group(TemporalPositionIndex=1 + n // 9)} for n in range(18)]
    save(enhanced(np.concatenate([stack()] * 2), along() * 2, frames=times), tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"several images at the same place \(18 frames, 9 places: time 1; time 2\)"):
        read_volume(tmp_path / "a.dcm")


def test_two_stacks_in_one_file_are_refused(tmp_path) -> None:
    turned = {"PlaneOrientationSequence": group(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])}
    save(enhanced(stack(6), along(6), frames=[{}] * 3 + [turned] * 3), tmp_path / "a.dcm")
    with pytest.raises(InputError, match="several orientations"):
        read_volume(tmp_path / "a.dcm")


def test_of_two_multi_frame_files_of_a_series_the_one_that_is_named_is_read(tmp_path) -> None:
    for number, first in ((1, 0.0), (2, 500.0)):
        save(enhanced(stack() + np.int16(number), along(9, first), number=number), tmp_path / f"{number}.dcm")
    for number, first in ((1, 0.0), (2, 500.0)):
        volume = read_volume(tmp_path / f"{number}.dcm")
        np.testing.assert_array_equal(volume.array, stack() + number)
        assert volume.geometry.origin_lps[2] == first
    with pytest.raises(InputError, match="2 files, some of several frames; give one of them"):
        read_volume(tmp_path)


def test_a_clip_is_no_volume_and_its_frame_time_no_distance(tmp_path) -> None:
    frames = np.stack([stack(1)[0] + np.int16(n) for n in range(9)])
    for n, kind in enumerate(("4", "12.1", "12.2")):
        path = save(
            dataset(frames, "5", n, kind, FrameTime="40", PixelSpacing=[1.1, 1.2]), tmp_path / f"{n}" / "clip.dcm"
        )
        with pytest.raises(InputError, match="9 frames without places of their own.*Track it"):
            read_volume(path)
        source = open_frames(path)
        assert (source.kind, source.spacing_mm, source.has_spacing) == ("dicom-cine", (1.1, 1.2), True)
        np.testing.assert_allclose(source.times_s, np.arange(9) * 0.04)
        np.testing.assert_array_equal([frame for _, frame in source], frames)


def test_frames_at_one_place_are_a_clip(tmp_path) -> None:
    path = save(enhanced(stack(5), [(0, 0, 7)] * 5), tmp_path / "a.dcm")
    assert open_frames(path).kind == "dicom-cine"
    with pytest.raises(InputError, match="without places of their own"):
        read_volume(path)


def test_a_dose_has_the_distances_that_it_names(tmp_path) -> None:
    made = dataset(
        stack(4), kind="481.2", GridFrameOffsetVector=[0, 5, 10, 15], ImagePositionPatient=[1, 2, 3],
        PixelSpacing=[2, 2.5], ImageOrientationPatient=AXIAL, DoseGridScaling="0.5", Modality="RTDOSE",
    )  # fmt: skip
    volume = read_volume(save(made, tmp_path / "dose.dcm"))
    np.testing.assert_array_equal(volume.array, stack(4) * 0.5)
    assert volume.geometry.spacing_mm == (2.5, 2, 5) and volume.geometry.origin_lps == (1, 2, 3)


def test_stills_of_one_series_are_read_one_by_one(tmp_path) -> None:
    for n, pixels in enumerate(stack(4).astype(np.uint8)):
        save(dataset(pixels, "6", n, "6.1", Modality="US"), tmp_path / f"still{n}.dcm")
    volume = read_volume(tmp_path / "still2.dcm")
    np.testing.assert_array_equal(volume.array, stack(4).astype(np.uint8)[2:3])
    assert not volume.has_spacing
    with pytest.raises(InputError, match="4 of 4 images without a position"):
        read_volume(tmp_path)


def test_a_copy_of_a_slice_under_another_name_is_left_out(tmp_path) -> None:
    write_series(tmp_path, stack(), along())
    (tmp_path / "again").write_bytes((tmp_path / "IM0_0").read_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path).array, stack())


@pytest.mark.parametrize("named", ["the folder", "a file"])
@pytest.mark.parametrize("kept", [0, 140, 400, 700])
def test_a_volume_never_lacks_its_last_slice_because_the_file_was_cut(tmp_path, kept, named) -> None:
    folder = write_series(tmp_path / "series", stack(), along())
    last = next(folder.glob("*_8")).rename(folder / "IM8_8.dcm")
    assert len(read_volume(folder).array) == 9
    last.write_bytes(last.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"IM8_8\.dcm.* lack slices|IM8_8\.dcm is cut short"):
        read_volume(folder if named == "the folder" else folder / "IM0_0")


def test_what_is_no_image_may_lie_beside_a_series(tmp_path) -> None:
    write_series(tmp_path, stack(), along())
    plan = dataset(stack(1)[0], "7")
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    for key in ("Rows", "Columns", "PixelData"):
        delattr(plan, key)
    save(plan, tmp_path / "report.dcm")
    (tmp_path / "notes.txt").write_text("prostate")
    np.testing.assert_array_equal(read_volume(tmp_path).array, stack())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "not two directions at right angles"),
        ("ImagePositionPatient", [0, 0], "not made of finite numbers"),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, key, value, words) -> None:
    made = dataset(stack(1)[0], ImageOrientationPatient=AXIAL, ImagePositionPatient=[0, 0, 0], PixelSpacing=[1, 1])
    setattr(made, key, value)
    with pytest.raises(InputError, match=words):
        read_volume(save(made, tmp_path / "a.dcm"))
