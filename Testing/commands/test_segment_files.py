"""Files as hospitals and annotators write them, through `proxyprompt segment`: the masks of a clean file, or a refusal.

Each is compared voxel by voxel, in the target's space, with the result of the same image and marks without the oddity.
"""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pydicom", reason="pydicom is not installed")

from PIL import Image

from command_cases import a_case
from dicom_made import dataset, enhanced, save, segmentation, write_series
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume

GRID = VolumeGeometry((64, 64, 6), (1.1, 1.1, 3.3))
PLACES = [(0.0, 0.0, round(3.3 * k, 4)) for k in range(6)]
NAMES = ["gland", "stone"]


class Bench:
    """A support and a target of whole numbers, and what is found without any oddity."""

    def __init__(self, desk) -> None:
        self.desk, self.folder = desk, desk.folder
        volume, self.marks = a_case(1, GRID)
        self.values = np.round(a_case(2, GRID)[0].array).astype(np.int16)
        self.support_values = np.round(volume.array).astype(np.int16)
        self.image, self.mask = self.folder / "image.nrrd", self.folder / "mask.seg.nrrd"
        write_volume(self.image, Volume(self.support_values, GRID))
        write_segmentation(self.mask, self.marks)
        self.clean = self.folder / "clean.nrrd"
        write_volume(self.clean, Volume(self.values, GRID))

    def masks(self, target: Path, support=None, *more: object, output: str = "found.seg.nrrd") -> dict[str, np.ndarray]:
        """Returns the masks of a run by name."""
        path = self.folder / output
        given = support or (self.image, self.mask)
        assert main(self.desk.words("--force", *more, target=target, support=given, output=path)) == 0
        return {one.name: one.mask for one in read_segmentation(path).segments}

    def same_as_clean(self, target: Path, support=None, *more: object, clean: Path | None = None) -> None:
        """Compares the masks of a run with those of the clean files."""
        expected, found = self.masks(clean or self.clean), self.masks(target, support, *more)
        assert list(found) == list(expected) == NAMES
        for name, mask in found.items():
            assert expected[name].any()
            np.testing.assert_array_equal(mask, expected[name])

    def refused(self, capsys, target: Path, words: str, support=None) -> None:
        """Expects the sentence for an unusable image, and no result."""
        path = self.folder / "none.seg.nrrd"
        assert main(self.desk.words(target=target, support=support or (self.image, self.mask), output=path)) == 3
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1 and not path.exists()


@pytest.fixture
def bench(desk) -> Bench:
    return Bench(desk)


# --- DICOM -------------------------------------------------------------------------------------------------------


def test_a_series_and_interleaved_frames_give_the_masks_of_the_volume(bench) -> None:
    bench.same_as_clean(write_series(bench.folder / "series", bench.values, PLACES))
    order = [0, 2, 4, 1, 3, 5]
    made = enhanced(bench.values[order], [PLACES[k] for k in order])
    bench.same_as_clean(save(made, bench.folder / "interleaved" / "a.dcm"))


def test_of_two_files_with_many_frames_the_one_that_is_named_is_segmented(bench) -> None:
    other = save(enhanced(bench.values[::-1] // 2, PLACES, number=2), bench.folder / "two" / "b.dcm")
    bench.same_as_clean(save(enhanced(bench.values, PLACES), other.parent / "a.dcm"))


def test_frames_that_are_missing_or_there_twice_are_refused(bench, capsys) -> None:
    kept = [0, 1, 2, 4, 5]
    made = enhanced(bench.values[kept], [PLACES[k] for k in kept])
    bench.refused(capsys, save(made, bench.folder / "a" / "a.dcm"), "are not evenly spaced")
    made = enhanced(np.concatenate([bench.values] * 2), PLACES * 2)
    bench.refused(capsys, save(made, bench.folder / "b" / "a.dcm"), "several images at the same place")


def test_a_tilted_gantry_a_clip_and_a_mosaic_are_refused(bench, capsys) -> None:
    tilt = np.tan(np.deg2rad(15))
    tilted = write_series(bench.folder / "t", bench.values, [(0, round(3.3 * k * tilt, 6), 3.3 * k) for k in range(6)])
    bench.refused(capsys, tilted, "(tilted gantry)")
    clip = dataset(np.stack([bench.values[2]] * 6), FrameTime="40", PixelSpacing=[1.1, 1.1])
    bench.refused(capsys, save(clip, bench.folder / "c" / "clip.dcm"), "6 frames without places of their own: a clip")
    flat = np.concatenate([np.concatenate(bench.values[n : n + 3], axis=1) for n in (0, 3)])
    mosaic = dataset(flat, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], PixelSpacing=[1.1, 1.1])
    bench.refused(capsys, save(mosaic, bench.folder / "m" / "IM1.dcm"), "is a mosaic")


def test_without_a_pixel_size_the_masks_are_the_same_and_counted_in_pixels(bench, capsys) -> None:
    series = write_series(bench.folder / "series", bench.values, PLACES, PixelSpacing=None)
    grid = VolumeGeometry(GRID.size_ijk, (1.0, 1.0, 3.3))
    write_volume(bench.folder / "square.nrrd", Volume(bench.values, grid))
    bench.same_as_clean(series, clean=bench.folder / "square.nrrd")
    capsys.readouterr()
    bench.masks(series, None, "--report", bench.folder / "r.json")
    said = capsys.readouterr()
    assert "does not say how large its pixels are" in said.err
    assert " ml" not in said.out and "pixels" in said.out
    assert "millilitres" not in json.dumps(json.loads((bench.folder / "r.json").read_text("utf-8"))["objects"])


def test_of_stills_the_one_that_is_named_is_segmented(bench) -> None:
    bright = (bench.values // 4).clip(0, 255).astype(np.uint8)
    for n in range(4):
        save(dataset(bright[n], "6", n + 1, "6.1", Modality="US"), bench.folder / "stills" / f"still{n}.dcm")
    Image.fromarray(bright[2]).save(bench.folder / "still.png")
    bench.same_as_clean(bench.folder / "stills" / "still2.dcm", clean=bench.folder / "still.png")


@pytest.mark.parametrize("name", ["IM0001", "IM0001.dcm"])
@pytest.mark.parametrize("apart", [True, False])
def test_a_dicom_segmentation_supports_like_slicers_file_whatever_its_name(bench, name, apart) -> None:
    if apart:  # no slice shows both
        bench.marks.segments[0].mask[3:], bench.marks.segments[1].mask[:3] = 0, 0
        write_segmentation(bench.mask, bench.marks)
    frames = [
        (n + 1, PLACES[k], segment.mask[k])
        for n, segment in enumerate(bench.marks.segments)
        for k in range(6)
        if segment.mask[k].any()
    ]
    marks = save(segmentation(frames, NAMES), bench.folder / "seg" / name)
    bench.same_as_clean(bench.clean, (bench.image, marks))


def test_colours_as_ybr_give_the_masks_of_the_picture(bench) -> None:
    bright = (bench.values[2] // 4).clip(0, 255).astype(np.uint8)
    colours = np.stack([bright, bright // 2, 255 - bright], -1)
    made = dataset(bright, kind="7", SamplesPerPixel=3, PlanarConfiguration=0)
    made.PhotometricInterpretation, made.RescaleIntercept, made.RescaleSlope = "YBR_FULL", "-1024", "1"
    made.PixelData = np.asarray(Image.fromarray(colours).convert("YCbCr")).tobytes()
    Image.fromarray(np.asarray(Image.fromarray(colours).convert("YCbCr").convert("RGB"))).save(bench.folder / "c.png")
    expected = bench.masks(bench.folder / "c.png")
    found = bench.masks(save(made, bench.folder / "a.dcm"))
    for name, mask in expected.items():
        assert np.count_nonzero(found[name] != mask) <= 2  # colours are rounded twice


# --- pictures ----------------------------------------------------------------------------------------------------


def pictures(bench: Bench) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a support, its gland, and a target, each ``(64, 64)``."""
    support, target = (
        (values[2] // 4).clip(0, 255).astype(np.uint8) for values in (bench.support_values, bench.values)
    )
    return support, bench.marks.segments[0].mask[2] > 0, target


def test_a_photograph_that_is_stored_upside_down_is_segmented_as_it_is_shown(bench, capsys) -> None:
    support, gland, target = pictures(bench)
    turn = Image.Exif()
    turn[274] = 3
    Image.fromarray((gland * 255).astype(np.uint8)).save(bench.folder / "m.png")
    for name, array in (("s", support), ("t", target)):
        Image.fromarray(array).save(bench.folder / f"{name}.png")
        upside_down = Image.fromarray(array).transpose(Image.Transpose.ROTATE_180)
        upside_down.save(bench.folder / f"{name}.tif", exif=turn)
    marks = bench.folder / "m.png"
    expected = bench.masks(bench.folder / "t.png", (bench.folder / "s.png", marks))
    assert expected["label 255"].any()
    found = bench.masks(bench.folder / "t.png", (bench.folder / "s.tif", marks))
    np.testing.assert_array_equal(found["label 255"], expected["label 255"])
    found = bench.masks(bench.folder / "t.tif", (bench.folder / "s.png", marks))
    np.testing.assert_array_equal(found["label 255"], expected["label 255"])
    assert "t.tif is turned as its orientation tag (3) says" in capsys.readouterr().err.replace("T.tif", "t.tif")


def test_the_index_of_a_palette_is_the_object_that_is_asked_for(bench) -> None:
    support, gland, target = pictures(bench)
    block = np.zeros_like(gland)
    block[4:12, 40:60] = True
    for name, array in (("s", support), ("t", target), ("m", gland.astype(np.uint8))):
        Image.fromarray(array).save(bench.folder / f"{name}.png")
    indexed = Image.fromarray(np.where(block, 2, gland).astype(np.uint8))
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    indexed.save(bench.folder / "p.png")
    expected = bench.masks(bench.folder / "t.png", (bench.folder / "s.png", bench.folder / "m.png"))
    found = bench.masks(
        bench.folder / "t.png",
        (bench.folder / "s.png", bench.folder / "p.png"),
        "--object",
        "1",
        output="p.png.seg.nrrd",
    )
    assert list(found) == list(expected) == ["label 1"] and expected["label 1"].any()
    np.testing.assert_array_equal(found["label 1"], expected["label 1"])


def test_a_colour_is_the_same_object_in_every_support(bench) -> None:
    support, gland, target = pictures(bench)
    block = np.zeros_like(gland)
    block[4:12, 40:60] = True
    support[block] = 20  # dark, unlike the gland
    for name, array in (("s", support), ("t", target)):
        Image.fromarray(array).save(bench.folder / f"{name}.png")
    for name, parts in (("both", ((gland, (255, 0, 0)), (block, (0, 0, 255)))), ("red", ((gland, (255, 0, 0)),))):
        colours = np.zeros((64, 64, 3), np.uint8)
        for where, colour in parts:
            colours[where] = colour
        Image.fromarray(colours).save(bench.folder / f"{name}.png")
    one = (bench.folder / "s.png", bench.folder / "both.png")
    red = (bench.folder / "s.png", bench.folder / "red.png")
    more = ("--support", *red, "--object", "#ff0000")
    expected = bench.masks(bench.folder / "t.png", red)
    found = bench.masks(bench.folder / "t.png", one, *more)
    assert list(found) == ["#ff0000"] and expected["#ff0000"].any()
    np.testing.assert_array_equal(found["#ff0000"], expected["#ff0000"])


# --- other volumes -----------------------------------------------------------------------------------------------


def test_segments_without_layer_and_value_support_like_those_of_todays_slicer(bench) -> None:
    import nrrd

    layers = np.stack([segment.mask.T for segment in bench.marks.segments])
    header = {
        "space": "left-posterior-superior", "space origin": GRID.origin_lps, "encoding": "gzip",
        "space directions": np.vstack([[np.nan] * 3, np.diag(GRID.spacing_mm)]),
        "kinds": ["list", "domain", "domain", "domain"],
    }  # fmt: skip
    for n, name in enumerate(NAMES):
        header |= {f"Segment{n}_ID": f"Segment_{n + 1}", f"Segment{n}_Name": name, f"Segment{n}_Color": "0.5 0.2 0.1"}
    nrrd.write(str(bench.folder / "old.seg.nrrd"), layers, header)
    bench.same_as_clean(bench.clean, (bench.image, bench.folder / "old.seg.nrrd"))


@pytest.mark.parametrize("value", [-32768, -3024])
def test_padding_outside_the_field_changes_nothing_inside(bench, value) -> None:
    rows, columns = np.mgrid[:64, :64]
    outside = np.hypot(rows - 31.5, columns - 31.5) > 31.5
    for name, values in (("t", bench.values), ("s", bench.support_values)):
        padded = values.copy()
        padded[:, outside] = value
        write_volume(bench.folder / f"{name}.nrrd", Volume(padded, GRID))
    expected = bench.masks(bench.clean)
    for support in (bench.image, bench.folder / "s.nrrd"):
        found = bench.masks(bench.folder / "t.nrrd", (support, bench.mask))
        for name, mask in expected.items():
            assert mask.any()
            np.testing.assert_array_equal(found[name] * ~outside, mask * ~outside)
            assert not (found[name] * outside).any()


def test_the_sform_of_a_target_is_that_of_its_result_and_a_label_keeps_its_value(bench) -> None:
    import SimpleITK as sitk

    write_volume(bench.folder / "target.nii", Volume(bench.values, GRID))
    data = bytearray((bench.folder / "target.nii").read_bytes())
    place = struct.unpack_from("<3f", data, 268)
    struct.pack_into("<3f", data, 268, *(x + d for x, d in zip(place, (10, 20, 30), strict=True)))
    struct.pack_into("<hh", data, 252, 1, 2)
    target = bench.folder / "target.nii.gz"
    target.write_bytes(gzip.compress(bytes(data)))
    labels = sitk.GetImageFromArray((bench.marks.segments[0].mask * 3).astype(np.int16))
    labels.SetSpacing(GRID.spacing_mm)
    sitk.WriteImage(labels, str(bench.folder / "mask3.nii.gz"))
    expected = bench.masks(bench.clean)["gland"]
    found = bench.masks(target, (bench.image, bench.folder / "mask3.nii.gz"), output="found.nii.gz")
    assert list(found) == ["label 3"] and expected.any()
    np.testing.assert_array_equal(found["label 3"], expected)
    written = gzip.decompress((bench.folder / "found.nii.gz").read_bytes())
    assert written[252:328] == bytes(data[252:328])


def test_vectors_with_a_scale_are_refused(bench, capsys) -> None:
    head = bytearray(352)
    struct.pack_into("<i8h", head, 0, 348, *[0] * 8)
    struct.pack_into("<8h", head, 40, 5, 64, 64, 6, 1, 3, 1, 1)
    struct.pack_into("<hhh", head, 68, 1007, 2, 8)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<fff", head, 108, 352.0, 0.0028, 0.077)
    head[344:348] = b"n+1\0"
    (bench.folder / "v.nii").write_bytes(bytes(head) + bytes(64 * 64 * 6 * 3))
    bench.refused(capsys, bench.folder / "v.nii", "3 values per voxel")


def test_a_pixel_size_in_another_class_of_images_is_that_of_the_result(bench) -> None:
    bright = bench.values[2].astype(np.uint16)
    more = {"PixelSpacing": [1.1, 1.1], "ImagerPixelSpacing": [2.2, 2.2], "Modality": "DX"}
    path = save(dataset(bright, kind="1.1", **more), bench.folder / "a.dcm")
    write_volume(bench.folder / "one.nrrd", Volume(bench.values[2:3], VolumeGeometry((64, 64, 1), (1.1, 1.1, 1.0))))
    bench.same_as_clean(path, clean=bench.folder / "one.nrrd")
    bench.masks(path)
    assert read_segmentation(bench.folder / "found.seg.nrrd").geometry.spacing_mm[:2] == (1.1, 1.1)
