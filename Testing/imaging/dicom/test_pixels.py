"""Values, colours and pixel sizes of DICOM files, and those that are refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")

from PIL import Image

from dicom_made import AXIAL, IMAGE, dataset, enhanced, group, save, segmentation, stack
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames import open_frames
from ProxyPromptSegmentLib.imaging.volumes import read_volume

ONE = stack(1, (20, 24))[0]


@pytest.mark.parametrize("kind", ["1", "1.1", "1.2", "2", "4", "12.1", "12.2", "77.1.5.1", "77.1.1", "7", "3.1"])
def test_the_pixel_spacing_counts_in_every_class_of_images(tmp_path, kind) -> None:
    made = dataset(ONE, kind=kind, PixelSpacing=[0.3, 0.4], ImagerPixelSpacing=[0.6, 0.8])
    volume = read_volume(save(made, tmp_path / "a.dcm"))
    assert volume.geometry.spacing_mm[:2] == (0.4, 0.3) and volume.has_spacing
    assert not volume.has_depth  # nothing says how thick it is


def test_without_a_pixel_size_nothing_is_in_millimetres(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        volume = read_volume(save(dataset(ONE), tmp_path / "a.dcm"))
    assert not volume.has_spacing and volume.geometry.spacing_mm == (1, 1, 1)
    assert "a.dcm does not say how large its pixels are" in caplog.text


@pytest.mark.parametrize(
    ("values", "spacing", "words"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.1, 0.2), "at the detector only"),
        (
            {"ImagerPixelSpacing": [0.2, 0.1], "EstimatedRadiographicMagnificationFactor": "2"},
            (0.05, 0.1),
            "",
        ),
        ({"NominalScannedPixelSpacing": [0.2, 0.1]}, (0.1, 0.2), "on the film"),
        ({"PixelAspectRatio": [2, 1]}, (1, 2), "does not say how large"),
    ],
)
def test_other_sizes_are_used_and_noted(tmp_path, caplog, values, spacing, words) -> None:
    volume = read_volume(save(dataset(ONE, kind="1", **values), tmp_path / "a.dcm"))
    np.testing.assert_allclose(volume.geometry.spacing_mm[:2], spacing)
    assert words in caplog.text and bool(words) == bool(caplog.text)


@pytest.mark.parametrize("size", [[0, 0], [-1, 1], [1e9, 1e9]])
def test_a_pixel_size_that_is_no_length_is_refused(tmp_path, size) -> None:
    with pytest.raises(InputError, match="pixel size.*Correct it"):
        read_volume(save(dataset(ONE, PixelSpacing=size), tmp_path / "a.dcm"))


def test_a_still_of_an_ultrasound_has_the_scale_of_its_region(tmp_path) -> None:
    region = group(PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.02, PhysicalDeltaY=-0.03)
    volume = read_volume(save(dataset(ONE, kind="6.1", SequenceOfUltrasoundRegions=region), tmp_path / "a.dcm"))
    np.testing.assert_allclose(volume.geometry.spacing_mm[:2], (0.2, 0.3))
    assert volume.has_spacing


def colours(rows: int) -> np.ndarray:
    grey = np.add.outer(np.arange(rows), np.arange(40)).astype(np.uint8)
    return np.stack([grey, grey // 2 + 60, 255 - grey], axis=-1)


@pytest.mark.parametrize("rows", [30, 31])
@pytest.mark.parametrize("intercept", [None, "-1024"])
def test_ybr_is_colour_whatever_is_said_of_a_rescale(tmp_path, rows, intercept) -> None:
    rgb = colours(rows)
    made = dataset(rgb[..., 0], kind="7")
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "YBR_FULL", 0
    made.PixelData = np.asarray(Image.fromarray(rgb).convert("YCbCr")).tobytes()
    if intercept:
        made.RescaleIntercept, made.RescaleSlope = intercept, "1"
    volume = read_volume(save(made, tmp_path / "a.dcm"))
    assert volume.is_rgb and np.abs(volume.array[0] - rgb).max() <= 3


def test_a_palette_is_looked_up(tmp_path) -> None:
    index = np.arange(30, dtype=np.uint8).reshape(5, 6)
    made = dataset(index, kind="6.1")
    made.PhotometricInterpretation = "PALETTE COLOR"
    tables = [
        np.arange(256, dtype=np.uint16) * 256,
        np.full(256, 7 * 256, np.uint16),
        np.arange(256)[::-1].astype("u2") * 256,
    ]
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{name}PaletteColorLookupTableData", table.tobytes())
    volume = read_volume(save(made, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.array[0], np.stack([index, np.full_like(index, 7), 255 - index], axis=-1))


def test_each_frame_has_its_own_scale(tmp_path) -> None:
    scales = [
        {"PixelValueTransformationSequence": group(RescaleSlope=str(n + 1), RescaleIntercept=str(-n))} for n in range(4)
    ]
    volume = read_volume(save(enhanced(stack(4), [(0, 0, 3 * n) for n in range(4)], frames=scales), tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.array, [pixels * (n + 1.0) - n for n, pixels in enumerate(stack(4))])


def test_what_is_shown_inverted_is_inverted_unless_its_values_are_physical(tmp_path) -> None:
    pixels = ONE.astype(np.uint16)
    shown = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    got = read_volume(save(dataset(pixels, kind="1", Modality="CR", **shown), tmp_path / "x.dcm")).array[0]
    np.testing.assert_array_equal(got, 4095.0 - pixels)
    got = read_volume(save(dataset(pixels, kind="128", Modality="PT", **shown), tmp_path / "p.dcm")).array[0]
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize(("key", "value"), [("NumberOfFrames", 99), ("Rows", 320)])
def test_fewer_pixels_than_declared_are_never_made_up(tmp_path, key, value) -> None:
    made = dataset(stack(5))
    setattr(made, key, value)
    path = save(made, tmp_path / "a.dcm")
    for read in (open_frames, read_volume):
        with pytest.raises(InputError, match="is cut short: its header declares|without places"):
            read(path)
    made.NumberOfFrames = 1
    made.Rows = 3200
    with pytest.raises(InputError, match="is cut short: its header declares"):
        read_volume(save(made, path))


def test_what_is_not_an_image_is_named(tmp_path) -> None:
    plan = dataset(ONE, kind="481.5")
    for key in ("Rows", "Columns", "PixelData"):
        delattr(plan, key)
    mosaic = dataset(ONE, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], ImageOrientationPatient=AXIAL)
    mosaic.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    mosaic.add_new(0x0019100A, "US", 9)
    slide = dataset(stack(4).astype(np.uint8), kind="77.1.6")
    masks = segmentation([(1, (0, 0, 0), ONE > 9)], ["a"])
    for made, words in (
        (plan, "without an image .RT Plan"),
        (mosaic, "a mosaic of 9 slices"),
        (slide, "whole-slide image in 4 tiles"),
        (masks, "is a DICOM segmentation; give the images"),
    ):
        path = save(made, tmp_path / "IM1")
        for read in (read_volume, open_frames):
            with pytest.raises(InputError, match=words):
                read(path)


def test_a_file_without_a_preamble_or_a_suffix_is_recognised(tmp_path) -> None:
    made = dataset(ONE, PixelSpacing=[1, 1])
    save(made, tmp_path / "full.dcm")
    (tmp_path / "IM7").write_bytes((tmp_path / "full.dcm").read_bytes()[132:])
    np.testing.assert_array_equal(read_volume(tmp_path / "IM7").array[0], ONE)


def test_a_missing_package_is_named(tmp_path, monkeypatch) -> None:
    import importlib.util

    path = save(dataset(ONE), tmp_path / "a.dcm")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pydicom" else find(name))
    with pytest.raises(InputError, match="needs the Python package pydicom"):
        read_volume(path)
    assert IMAGE
