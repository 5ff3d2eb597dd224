"""Reading frames: folders, clips, sequences and volumes; whole, damaged, and what is no such thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn_data import carotid_sweep
from frame_cases import ENHANCED_MR, LIST_LAST, OBLIQUE, a_picture, bad_ones, noise, read_all, write_clip, write_nrrd
from geometry_cases import geometries
from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.frames import FrameSource, open_frames
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume

# --- folders ------------------------------------------------------------------------------------------------


def test_pictures_come_in_the_order_of_their_numbers(tmp_path):
    pictures = {name: noise(20, 30) + n for n, name in enumerate(["frame2.png", "frame10.png", "Frame1.bmp", "x.tif"])}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "._frame0.png").write_bytes(b"what another system leaves")
    (tmp_path / "notes.txt").write_text("not a frame")
    source = open_frames(tmp_path)
    assert source.labels == ["Frame1", "frame2", "frame10", "x"] and (source.kind, source.count) == ("folder", 4)
    for frame, name in zip(read_all(source), ["Frame1.bmp", "frame2.png", "frame10.png", "x.tif"], strict=True):
        np.testing.assert_array_equal(frame, pictures[name])
    assert source.window() == (0, 255) and source.times_s is None and not source.has_spacing


def test_pictures_that_differ_or_are_damaged_are_bad_frames(tmp_path):
    for n in range(6):
        Image.fromarray(a_picture(n)).save(tmp_path / f"{n}.jpg", quality=90)
    Image.fromarray(a_picture(1, (48, 60))).save(tmp_path / "2.jpg")
    for name in ("0.jpg", "4.jpg"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-300])
    Image.fromarray(a_picture(6)).save(tmp_path / "6.bmp")
    (tmp_path / "6.bmp").write_bytes((tmp_path / "6.bmp").read_bytes()[:-300])
    (tmp_path / "7.png").write_text("no picture")
    Image.fromarray(a_picture(8).astype(np.uint16) * 200).save(tmp_path / "8.png")
    frames = read_all(open_frames(tmp_path))
    assert bad_ones(frames) == [0, 2, 4, 6, 7, 8]
    assert frames[2].reason == "it has 60x48 pixels instead of 64x48"
    assert frames[4].reason == "4.jpg is cut short"
    assert "uint16 instead of uint8" in frames[8].reason
    assert frames[1].shape == (48, 64)


def test_transparency_is_dropped_and_16_bits_are_kept(tmp_path):
    (tmp_path / "alpha").mkdir()
    (tmp_path / "deep").mkdir()
    picture = noise(20, 30, 4)
    Image.fromarray(picture, "RGBA").save(tmp_path / "alpha" / "1.png")
    Image.merge("LA", [Image.fromarray(picture[..., 0]), Image.fromarray(picture[..., 3])]).save(
        tmp_path / "alpha" / "2.png"
    )
    colour, grey = read_all(open_frames(tmp_path / "alpha"))
    np.testing.assert_array_equal(colour, picture[..., :3])
    np.testing.assert_array_equal(grey, np.repeat(picture[..., :1], 3, axis=-1))  # all frames have one form
    deep = noise(3, 20, 30, dtype="uint16", top=5000)
    for n, one in enumerate(deep):
        Image.fromarray(one).save(tmp_path / "deep" / f"{n}.png")
    source = open_frames(tmp_path / "deep")
    np.testing.assert_array_equal(np.stack(read_all(source)), deep)
    assert source.frame(0).dtype == np.float32 and source.window() == intensity_window(deep)


def test_grey_pictures_stored_as_colours_become_grey(tmp_path):
    picture = noise(20, 30)
    Image.fromarray(np.repeat(picture[..., None], 3, axis=2)).save(tmp_path / "1.png")
    Image.fromarray(picture).save(tmp_path / "2.png")
    source = open_frames(tmp_path)
    assert not source.rgb
    for frame in read_all(source):
        np.testing.assert_array_equal(frame, picture)


def test_folders_without_usable_frames_are_refused(tmp_path):
    for name in ("empty", "bad", "both"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty" / "a.txt").write_text("x")
    for n in range(3):
        (tmp_path / "bad" / f"{n}.png").write_text("x")
    Image.fromarray(a_picture(0)).save(tmp_path / "both" / "a.png")
    write_clip(tmp_path / "both" / "b.dcm", noise(3, 8, 9))
    for name, told in {
        "empty": "neither pictures",
        "bad": "none of the 3 pictures",
        "both": "1 pictures and 1 DICOM",
    }.items():
        with pytest.raises(InputError, match=told):
            open_frames(tmp_path / name)


def test_ultrasound_frames_are_read_as_they_are(tmp_path):
    sweep = carotid_sweep(1, 12, 90)
    for n, (picture, _) in enumerate(sweep):
        Image.fromarray(picture[:70]).save(tmp_path / f"seq080039_{15 * n:05d}.png")
    source = open_frames(tmp_path)
    assert source.shape == (70, 90)
    np.testing.assert_array_equal(np.stack(read_all(source)), np.stack([picture[:70] for picture, _ in sweep]))


# --- DICOM --------------------------------------------------------------------------------------------------


def test_a_grey_clip_has_its_pixel_spacing_and_frame_time(tmp_path):
    frames = noise(7, 40, 50)
    source = open_frames(write_clip(tmp_path / "IM_0001", frames, spacing=(0.3, 0.2)))
    assert (source.kind, source.count, source.shape, source.spacing_mm) == ("dicom-cine", 7, (40, 50), (0.3, 0.2))
    assert source.has_spacing and source.window() == (0, 255)
    np.testing.assert_allclose(source.times_s, np.arange(7) * 0.04)
    np.testing.assert_array_equal(np.stack(read_all(source)), frames)
    np.testing.assert_array_equal(source.frame(5), frames[5])


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        (((3, 0.02, 0.03),), (0.3, 0.2)),
        (((3, 0.02, -0.03), (4, 7.0, 9.0)), (0.3, 0.2)),  # the second one is a Doppler trace
        (((3, 0.02, 0.03), (3, 0.05, 0.05)), None),  # two pictures of different scale
        ((), None),
    ],
)
def test_a_colour_clip_has_the_scale_of_its_ultrasound_region(tmp_path, regions, spacing):
    frames = noise(4, 30, 20, 3)
    source = open_frames(write_clip(tmp_path / "x.dcm", frames, regions=regions))
    np.testing.assert_array_equal(np.stack(read_all(source)), frames)
    assert source.rgb and source.has_spacing == (spacing is not None)
    np.testing.assert_allclose(source.spacing_mm, spacing or (1, 1))


@pytest.mark.parametrize(
    ("timing", "times"),
    [
        ((0x18, 0x1065, "DS", "0\\33\\40\\33"), [0, 0.033, 0.073, 0.106]),
        ((0x18, 0x0040, "IS", "50"), [0, 0.02, 0.04, 0.06]),
        ((0x18, 0x1030, "LO", "no times"), None),
    ],
)
def test_the_times_of_a_clip(tmp_path, timing, times):
    source = open_frames(write_clip(tmp_path / "x.dcm", noise(4, 10, 12), timing=timing))
    assert source.times_s is None if times is None else np.allclose(source.times_s, times)


def test_a_clip_of_16_bits_keeps_them(tmp_path):
    deep = noise(5, 12, 10, dtype="uint16", top=4000)
    source = open_frames(write_clip(tmp_path / "a.dcm", deep, sop="1.2.840.10008.5.1.4.1.1.12.1"))
    np.testing.assert_array_equal(np.stack(read_all(source)), deep)
    assert source.window() == intensity_window(deep)


def test_frames_with_places_of_their_own_are_a_volume_and_others_a_clip_whatever_their_class(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(noise(5, 12, 10)), str(tmp_path / "b.dcm"))  # it writes a place for each
    source = open_frames(tmp_path / "b.dcm", axis="k")
    assert (source.kind, source.count) == ("volume", 5)
    np.testing.assert_array_equal(np.stack(read_all(source)), noise(5, 12, 10))
    source = open_frames(write_clip(tmp_path / "x.dcm", noise(5, 40, 50), spacing=(1, 1), sop=ENHANCED_MR), axis="k")
    assert (source.kind, source.count) == ("dicom-cine", 5)


def test_a_folder_of_clips_needs_a_choice_and_one_clip_does_not(tmp_path):
    write_clip(tmp_path / "a.dcm", noise(3, 8, 9))
    assert open_frames(tmp_path).kind == "dicom-cine"
    write_clip(tmp_path / "b.dcm", noise(4, 8, 9))
    with pytest.raises(InputError, match="contains 2 DICOM clips.*give one file"):
        open_frames(tmp_path)


def test_a_damaged_clip_is_refused(tmp_path):
    path = write_clip(tmp_path / "x.dcm", noise(7, 40, 50))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="x.dcm"):
        open_frames(path)


# --- sequences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("name", ["a.seq.nrrd", "a.nrrd"])
def test_a_sequence_as_slicer_writes_it(tmp_path, name, encoding):
    frames = noise(6, 1, 8, 5, dtype="int16", top=900)
    index = {"axis_3_index_type": "numeric", "axis_3_index_values": "0.0 0.1 0.2 0.4 0.5 0.75"}
    more = {"labels": '"" "" "" "time"', "units": '"" "" "" "s"'}
    source = open_frames(write_nrrd(tmp_path / name, frames, encoding, **LIST_LAST, **more, **index))
    assert (source.kind, source.name, source.count, source.shape) == ("sequence", "a", 6, (8, 5))
    assert source.spacing_mm == (0.4, 0.3) and source.has_spacing
    assert source.geometry == VolumeGeometry((5, 8, 1), (0.3, 0.4, 1), (1, 2, 3))
    assert source.times_s == [0, 0.1, 0.2, 0.4, 0.5, 0.75]
    assert source.index == ("time", "s", ["0.0", "0.1", "0.2", "0.4", "0.5", "0.75"])
    np.testing.assert_array_equal(np.stack(read_all(source)), frames[:, 0])
    assert source.window() == intensity_window(frames)


def test_a_sequence_with_time_first_as_older_slicers_wrote_it(tmp_path):
    frames = noise(6, 1, 8, 5)
    fields = {**LIST_LAST, "kinds": "list domain domain domain", "space": "right-anterior-superior"}
    fields["space_directions"] = "none (0.3,0,0) (0,0.4,0) (0,0,1)"
    path = write_nrrd(tmp_path / "a.seq.nrrd", np.ascontiguousarray(np.moveaxis(frames, 0, -1)), "gzip", **fields)
    source = open_frames(path)
    np.testing.assert_allclose(source.geometry.affine[:3], [[-0.3, 0, 0, -1], [0, -0.4, 0, -2], [0, 0, 1, 3]])
    found = np.stack(read_all(source))
    np.testing.assert_array_equal(found, frames[:, 0, ::-1, ::-1])  # rows to posterior, columns to the left
    np.testing.assert_array_equal(source.as_stored(found), frames[:, 0])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="none of its 6 frames is complete"):
        open_frames(path)


def test_sequences_of_two_dimensions_of_colours_of_itk_and_of_another_byte_order(tmp_path):
    grey, colour = noise(6, 8, 5), noise(6, 1, 8, 5, 3)
    source = open_frames(write_nrrd(tmp_path / "flat.nrrd", grey, kinds="domain domain list"))
    np.testing.assert_array_equal(np.stack(read_all(source)), grey)
    assert not source.has_spacing and source.times_s is None
    source = open_frames(write_nrrd(tmp_path / "rgb.seq.nrrd", colour, kinds="RGB-color domain domain domain list"))
    np.testing.assert_array_equal(np.stack(read_all(source)), colour[:, 0])
    image = sitk.JoinSeries([sitk.GetImageFromArray(one[None].astype(np.float32)) for one in grey])
    image.SetSpacing((0.5, 0.6, 1, 0.1))
    sitk.WriteImage(image, str(tmp_path / "itk.nrrd"))
    source = open_frames(tmp_path / "itk.nrrd")
    np.testing.assert_array_equal(np.stack(read_all(source)), grey)
    assert source.spacing_mm == (0.6, 0.5)
    other = noise(6, 1, 8, 5, dtype="int16", top=900)
    path = write_nrrd(tmp_path / "big.nrrd", other.byteswap(), endian="big", **LIST_LAST)
    np.testing.assert_array_equal(np.stack(read_all(open_frames(path))), other[:, 0])


def test_what_a_volume_is_refused_for_a_sequence_is_refused_for_too(tmp_path):
    frames = noise(6, 1, 8, 5, dtype="int16", top=900)
    path = write_nrrd(tmp_path / "a.seq.nrrd", frames, **LIST_LAST)
    path.write_bytes(path.read_bytes().replace(b"endian: little\n", b""))
    with pytest.raises(InputError, match="in which order the bytes"):
        open_frames(path)
    with pytest.raises(InputError, match="gives lengths in um"):
        open_frames(write_nrrd(path, frames, space_units='"um" "um" "um"', **LIST_LAST))
    with pytest.raises(InputError, match="has 'left-up' as its space"):
        open_frames(write_nrrd(path, frames, **LIST_LAST | {"space": "left-up"}))


def test_more_voxels_than_declared_and_numbers_that_are_none_are_refused_in_a_sequence(tmp_path) -> None:
    path = write_nrrd(tmp_path / "a.seq.nrrd", noise(4, 1, 8, 5), **LIST_LAST)
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\n\ninf", 1))
    with pytest.raises(InputError, match="declares 160 bytes of voxels and has 163"):
        open_frames(path)
    whole = write_nrrd(path, noise(4, 1, 8, 5), **LIST_LAST).read_bytes()
    for at in range(whole.index(b"sizes") + 9, whole.index(b"encoding")):  # no size may be made up
        path.write_bytes(whole[:at])
        with pytest.raises(InputError, match="that fit together|has no end|is cut short"):
            open_frames(path)
    for encoding, words in (("gzip", "declares 120 bytes of voxels and holds more"), ("raw", "and has 160")):
        packed = write_nrrd(path, noise(4, 1, 8, 5), encoding, **LIST_LAST).read_bytes()
        path.write_bytes(packed.replace(b"sizes: 5 8 1 4", b"sizes: 5 8 1 3"))
        with pytest.raises(InputError, match=words):
            open_frames(path)
    packed = write_nrrd(path, noise(4, 1, 8, 5), "gzip", **LIST_LAST).read_bytes()
    path.write_bytes(packed[:-6])
    assert "differ from their checksum, or lack it" in open_frames(path).notes[0]
    for name, value in (("space_directions", "(0.3,0,nan) (0,0.4,0) (0,0,1) none"), ("space_origin", "(1,inf,3)")):
        with pytest.raises(InputError, match=r"a.seq.nrrd has a direction or origin that is not finite"):
            open_frames(write_nrrd(path, noise(4, 1, 8, 5), **LIST_LAST | {name: value}))


def test_a_sequence_written_by_pynrrd_with_a_header_of_its_own(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    frames = noise(6, 1, 8, 5)
    header = {"kinds": ["domain", "domain", "domain", "list"]}
    nrrd.write(str(tmp_path / "a.nrrd"), frames, header, index_order="C")
    nrrd.write(str(tmp_path / "b.nhdr"), frames, header, index_order="C")
    for name in ("a.nrrd", "b.nhdr"):
        np.testing.assert_array_equal(np.stack(read_all(open_frames(tmp_path / name))), frames[:, 0])


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_of_a_sequence_that_is_cut_short_the_whole_frames_are_read(tmp_path, encoding):
    frames = noise(6, 1, 80, 50)
    path = write_nrrd(tmp_path / "a.seq.nrrd", frames, encoding, **LIST_LAST)
    path.write_bytes(path.read_bytes()[:-6000])
    source = open_frames(path)
    found = read_all(source)
    assert source.count == 6 and bad_ones(found) == [4, 5] and "missing" in found[5].reason
    np.testing.assert_array_equal(np.stack(found[:4]), frames[:4, 0])
    assert "frames 4 and later are missing" in source.notes[0]


def test_one_flipped_bit_in_a_packed_sequence_costs_few_frames_and_is_reported(tmp_path):
    frames = noise(6, 1, 80, 50)
    path = write_nrrd(tmp_path / "a.seq.nrrd", frames, "gzip", **LIST_LAST)
    data = bytearray(path.read_bytes())
    data[-6] ^= 4  # in the checksum: every voxel is right, but nothing says so
    path.write_bytes(data)
    source = open_frames(path)
    found = read_all(source)
    np.testing.assert_array_equal(np.stack(found[:3]), frames[:3, 0])
    assert "is damaged" in source.notes[0] and "any frame may be wrong" in source.notes[0]
    first = LIST_LAST | {"space_directions": "none (0.3,0,0) (0,0.4,0) (0,0,1)", "kinds": "list domain domain domain"}
    across = np.ascontiguousarray(np.moveaxis(frames, 0, -1))  # every frame has a voxel of every piece
    path = write_nrrd(tmp_path / "b.seq.nrrd", across, "gzip", **first)
    data = bytearray(path.read_bytes())
    data[-6] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match="b.seq.nrrd is damaged"):
        open_frames(path)


def test_frames_with_nan_are_bad(tmp_path):
    frames = noise(4, 1, 8, 5).astype(np.float32)
    frames[2, 0, 3, 3] = np.nan
    found = read_all(open_frames(write_nrrd(tmp_path / "a.seq.nrrd", frames, **LIST_LAST)))
    assert bad_ones(found) == [2] and "NaN" in found[2].reason


def test_volumes_in_time_and_segmentations_are_refused(tmp_path):
    path = write_nrrd(tmp_path / "heart.seq.nrrd", noise(6, 4, 8, 5), **LIST_LAST)
    with pytest.raises(InputError, match="6 volumes of 5x8x4 voxels.*volume of one time"):
        open_frames(path)
    path = write_nrrd(tmp_path / "a.seg.nrrd", noise(4, 8, 5, top=2))
    with pytest.raises(InputError, match="is a segmentation"):
        open_frames(path)


def test_one_volume_in_a_sequence_of_one_is_a_volume(tmp_path):
    assert open_frames(write_nrrd(tmp_path / "a.nrrd", noise(4, 8, 5), kinds="domain domain domain")).kind == "volume"


@settings(deadline=None, max_examples=60)
@given(geometry=geometries(), axis=st.sampled_from("kji"), seed=st.integers(0, 99))
def test_masks_are_turned_back_to_where_their_frame_lies(geometry, axis, seed):
    array = np.random.default_rng(seed).integers(0, 99, geometry.shape_kji).astype(np.uint8)
    source = FrameSource(Path("x"), "volume", geometry, 1, axis)
    turned = source.view.take(array)
    assert turned.shape[1:] == source.shape
    np.testing.assert_array_equal(source.as_stored(turned), take_slices(array, axis))


# --- volumes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_the_slices_of_a_volume_are_its_turned_slices(tmp_path, axis):
    array = noise(*OBLIQUE.shape_kji, dtype="float32", top=2000)
    write_volume(tmp_path / "v.nrrd", Volume(array, OBLIQUE))
    source = open_frames(tmp_path / "v.nrrd", axis)
    assert source.kind == "volume" and source.geometry.is_close(OBLIQUE) and source.has_spacing
    np.testing.assert_array_equal(np.stack(read_all(source)), source.view.take(array))
    np.testing.assert_array_equal(source.as_stored(np.stack(read_all(source))), take_slices(array, axis))
    assert source.window() == intensity_window(array)


def test_a_dicom_series_and_a_single_picture_are_volumes_and_the_axis_is_chosen(tmp_path):
    from dicom_cases import write_dicom

    array = write_dicom(tmp_path / "series", "1.2.3.4", "T2")
    source = open_frames(tmp_path / "series")
    assert (source.kind, source.count, source.view.axis) == ("volume", 5, "k")
    np.testing.assert_array_equal(np.stack(read_all(source)), array)
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    source = open_frames(tmp_path / "a.png")
    assert (source.kind, source.count, source.has_spacing) == ("volume", 1, False)
    with pytest.raises(GeometryError, match="must be one of 'k', 'j', 'i'"):
        open_frames(tmp_path / "a.png", "z")


def test_the_window_of_a_long_sequence_looks_at_few_frames(tmp_path, monkeypatch):
    frames = noise(200, 1, 8, 5, dtype="uint16", top=3000)
    source = open_frames(write_nrrd(tmp_path / "a.seq.nrrd", frames, **LIST_LAST))
    asked = []
    real = source.frame
    monkeypatch.setattr(source, "frame", lambda n: asked.append(n) or real(n))
    low, high = source.window()
    assert source.window() == (low, high) and 0 <= low < high <= 3000
    assert len(asked) == 16 and asked[0] == 0 and asked[-1] == 199
