"""Pictures: upright, with their palette, without what is transparent, and never half of one."""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames import BadFrame, open_frames
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume

GREY = np.add.outer(np.arange(24), 3 * np.arange(32)).astype(np.uint8)
ORGAN = np.zeros((24, 32), bool)
ORGAN[4:12, 5:20] = True
BLOCK = np.zeros((24, 32), bool)
BLOCK[15:20, 22:30] = True


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_applied_as_viewers_do_and_noted(tmp_path, orientation, caplog) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    for suffix in ("png", "tif", "jpg"):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(GREY).save(path, exif=exif)
        with Image.open(path) as picture:
            expected = np.asarray(ImageOps.exif_transpose(picture))
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(read_volume(path).array[0], expected)
        assert ("is turned as its orientation tag" in caplog.text) == (orientation != 1)
        caplog.clear()


def test_the_index_of_a_palette_is_the_label_and_the_image_its_colours(tmp_path) -> None:
    index = np.where(BLOCK, 2, np.where(ORGAN, 1, 0)).astype(np.uint8)
    picture = Image.fromarray(index)
    # VOC's colours, whose order is not that of the values
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    picture.save(tmp_path / "p.png")
    found = read_segmentation(tmp_path / "p.png")
    assert found.names == ["label 1", "label 2"]
    np.testing.assert_array_equal(found.segments[0].mask[0], ORGAN)
    np.testing.assert_array_equal(found.segments[1].mask[0], BLOCK)
    np.testing.assert_allclose(found.segments[0].color_rgb, (128 / 255, 0, 0))
    np.testing.assert_array_equal(read_volume(tmp_path / "p.png").array[0, 5, 6], (128, 0, 0))


def test_a_colour_is_one_object_whatever_else_the_picture_shows(tmp_path) -> None:
    both = np.zeros((24, 32, 3), np.uint8)
    both[ORGAN], both[BLOCK] = (255, 0, 0), (0, 0, 255)
    red = np.where(ORGAN[..., None], both, 0).astype(np.uint8)
    for name, picture in (("both", both), ("red", red)):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    masks = {one.name: one.mask[0] for one in read_segmentation(tmp_path / "both.png").segments}
    assert set(masks) == {"#ff0000", "#0000ff"}
    np.testing.assert_array_equal(masks["#ff0000"], read_segmentation(tmp_path / "red.png").segments[0].mask[0])
    assert read_segmentation(tmp_path / "red.png").names == ["#ff0000"]


def test_what_is_transparent_is_outside(tmp_path) -> None:
    drawn = np.zeros((24, 32, 4), np.uint8)
    drawn[ORGAN] = (255, 255, 255, 255)
    drawn[~ORGAN] = (255, 255, 255, 0)  # white, and transparent around the organ
    Image.fromarray(drawn).save(tmp_path / "a.png")
    found = read_segmentation(tmp_path / "a.png").segments
    assert len(found) == 1
    np.testing.assert_array_equal(found[0].mask[0], ORGAN)
    drawn[BLOCK] = (0, 255, 0, 200)
    Image.fromarray(drawn).save(tmp_path / "b.png")
    masks = {one.name: one.mask[0] for one in read_segmentation(tmp_path / "b.png").segments}
    np.testing.assert_array_equal(masks["#00ff00"], BLOCK)
    np.testing.assert_array_equal(masks["#ffffff"], ORGAN)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
def test_soft_edges_are_cut_at_half_in_every_format(tmp_path, suffix, caplog) -> None:
    large = np.zeros((96, 128), np.float32)
    large[20:70, 30:90] = 255
    soft = large.copy()
    for axis in (0, 1):
        soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    soft += (soft > 0) * (soft < 255) * np.random.default_rng(0).uniform(-9, 9, soft.shape)
    Image.fromarray(np.clip(soft, 0, 255).astype(np.uint8)).save(tmp_path / f"x.{suffix}", quality=95)
    with caplog.at_level(logging.WARNING):
        found = read_segmentation(tmp_path / f"x.{suffix}").segments
    assert len(found) == 1
    assert np.count_nonzero(found[0].mask[0] != (large > 0)) < 8  # the corners
    assert suffix == "jpg" or "soft edges" in caplog.text


def test_many_small_objects_stay_apart_in_values_and_in_colours(tmp_path) -> None:
    labels = np.zeros((120, 160), np.uint8)
    for n in range(60):
        row, column = divmod(n, 10)
        labels[20 * row + 2 : 20 * row + 7, 16 * column + 3 : 16 * column + 9] = n + 1
    colours = np.random.default_rng(0).integers(40, 255, (61, 3)).astype(np.uint8)
    colours[0] = 0
    Image.fromarray(labels).save(tmp_path / "grey.png")
    Image.fromarray(colours[labels]).save(tmp_path / "colour.png")
    for name in ("grey", "colour"):
        found = read_segmentation(tmp_path / f"{name}.png").segments
        assert len(found) == 60 and {int(one.mask.sum()) for one in found} == {30}


def test_colours_with_soft_edges_are_refused(tmp_path) -> None:
    from PIL import ImageFilter

    both = np.zeros((96, 128, 3), np.uint8)
    both[10:60, 10:60], both[30:80, 70:120] = (255, 0, 0), (0, 120, 255)
    Image.fromarray(both).filter(ImageFilter.GaussianBlur(2)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="with hard edges"):
        read_segmentation(tmp_path / "x.png")


def test_colours_of_16_bits_stay(tmp_path) -> None:
    import SimpleITK as sitk

    deep = (np.arange(24 * 32 * 3).reshape(24, 32, 3) * 27).astype(np.uint16)
    for suffix in ("png", "tif"):
        sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / f"x.{suffix}"))
        np.testing.assert_array_equal(read_volume(tmp_path / f"x.{suffix}").array[0], deep)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_picture_that_is_cut_short_is_refused(tmp_path, suffix) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / f"x.{suffix}")
    good = (tmp_path / f"x.{suffix}").read_bytes()
    for part in (0.3, 0.6, 0.95):
        (tmp_path / f"x.{suffix}").write_bytes(good[: int(len(good) * part)])
        with pytest.raises(InputError, match="cut short|damaged"):
            read_volume(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize(
    "saved", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"progressive": True, "restart_marker_rows": 1}]
)
def test_a_jpeg_that_ends_early_is_refused_even_with_a_mark_of_its_end(tmp_path, saved, colour) -> None:
    y, x = np.mgrid[:61, :83]
    values = np.stack([(x + y) % 256, x * 2, y * 3], -1).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(values if colour else values[..., 0]).save(packed, "JPEG", quality=90, **saved)
    data, path = packed.getvalue(), tmp_path / "a.jpg"
    path.write_bytes(data + b"what a camera puts behind")
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(read_stored(path).array[0], expected)
    first = data.index(b"\xff\xda") + 16
    restarts = [one.start() for one in re.finditer(rb"\xff[\xd0-\xd7\xda\xc4]", data) if one.start() > first]
    for at in [*range(first, len(data) - 4, 97), *restarts, len(data) - 4]:
        path.write_bytes(data[:at] + b"\xff\xd9")
        with pytest.raises(InputError, match="cut short|damaged"):
            read_stored(path)


def test_damaged_tables_and_superfluous_data_of_a_jpeg_are_noticed(tmp_path, caplog) -> None:
    y, x = np.mgrid[:61, :83]
    packed = io.BytesIO()
    Image.fromarray(((x + y) % 256).astype(np.uint8)).save(packed, "JPEG", quality=90)
    data, path = packed.getvalue(), tmp_path / "a.jpg"
    path.write_bytes(data)
    read_volume(path)
    assert "may be damaged" not in caplog.text
    for size in ((8, 8), (64, 64)):  # hardly any data
        Image.fromarray(np.pad(np.full(size, 200, np.uint8), 8)).save(tmp_path / "small.jpg")
        assert read_volume(tmp_path / "small.jpg").array.max() > 190
    assert "may be damaged" not in caplog.text
    path.write_bytes(data[:-2] + b"\x12" * 40 + data[-2:])
    read_volume(path)
    assert "a.jpg may be damaged: its JPEG data hold more than its picture" in caplog.text
    table = data.index(b"\xff\xc4", data.index(b"\xff\xc4") + 2) + 21  # the second: of what varies
    path.write_bytes(data[:table] + data[table + 1 : table + 2] + data[table + 1 :])  # two codes for one value
    with pytest.raises(InputError, match="its JPEG markers are none"):
        read_volume(path)


def test_an_animation_is_refused_and_a_background_that_is_an_object_reported(tmp_path, caplog) -> None:
    first = Image.fromarray(GREY)
    first.save(tmp_path / "a.png", save_all=True, append_images=[Image.fromarray(GREY[::-1])])
    with pytest.raises(InputError, match="a.png is an animation of 2 pictures"):
        read_volume(tmp_path / "a.png")
    Image.fromarray(np.where(ORGAN, 255, 0).astype(np.uint8)).save(tmp_path / "m.png")
    read_segmentation(tmp_path / "m.png")
    assert not caplog.text
    on_white = np.where(ORGAN[..., None], (255, 0, 0), (255, 255, 255)).astype(np.uint8)
    for name, values in (("inverted", np.where(ORGAN, 0, 255).astype(np.uint8)), ("white", on_white)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        read_segmentation(tmp_path / f"{name}.png")
        assert f"{name}.png: '" in caplog.text and "is on every border of the image" in caplog.text


def test_pages_of_a_tiff_are_slices_and_must_not_run_in_a_circle(tmp_path) -> None:
    pages = [Image.fromarray(GREY + np.uint8(n)) for n in range(3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array, [GREY + np.uint8(n) for n in range(3)])
    data = bytearray((tmp_path / "x.tif").read_bytes())
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(InputError, match="in a circle"):
        read_volume(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("axes", "words"), [("ZYX", ""), ("TZYX", "pages of 2 times"), ("CYX", "pages of 6 channels"), ("TYX", "6 times")]
)
@pytest.mark.parametrize("imagej", [True, False])
def test_channels_and_times_of_a_tiff_are_not_taken_for_slices(tmp_path, axes, words, imagej) -> None:
    tifffile = pytest.importorskip("tifffile")
    pages = np.stack([GREY + np.uint8(n) for n in range(6)])
    path = tmp_path / ("a.tif" if imagej else "a.ome.tif")
    shape = (2, 3, *GREY.shape) if len(axes) == 4 else pages.shape
    tifffile.imwrite(path, pages.reshape(shape), imagej=imagej, ome=not imagej, metadata={"axes": axes})
    if words:
        with pytest.raises(InputError, match=words):
            read_stored(path)
    else:
        np.testing.assert_array_equal(read_stored(path).array, pages)


def test_half_floats_are_refused_and_floats_are_read(tmp_path) -> None:
    values = np.linspace(-1, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    Image.fromarray(values).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array[0], values)
    data = bytearray((tmp_path / "x.tif").read_bytes())
    at = struct.unpack_from("<I", data, 4)[0]
    for n in range(struct.unpack_from("<H", data, at)[0]):
        if struct.unpack_from("<H", data, at + 2 + 12 * n)[0] == 258:
            struct.pack_into("<H", data, at + 2 + 12 * n + 8, 16)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(InputError, match="floating-point pixels of 16 bits"):
        read_volume(tmp_path / "x.tif")


NUMBERS = np.arange(480).reshape(20, 24)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", ">u2", ">i2", ">f4"])
def test_the_numbers_of_a_tiff_keep_their_sign_and_byte_order(tmp_path, kind) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    values = (NUMBERS - (0 if "u" in kind else 100)).astype(kind)
    order = ">" if kind.startswith(">") else "<"
    tifffile.imwrite(tmp_path / "x.tif", values, byteorder=order, photometric="minisblack")
    np.testing.assert_array_equal(read_stored(tmp_path / "x.tif").array[0], values)


def test_colours_and_tiles_of_a_tiff_are_those_of_tifffile_or_refused_by_their_kind(tmp_path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    colours = np.stack([NUMBERS, NUMBERS // 2, NUMBERS // 3])
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, colours.astype("u1"), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_stored(path).array[0], colours.astype("u1").transpose(1, 2, 0))
    tifffile.imwrite(path, np.tile(NUMBERS, (4, 4)).astype("u2"), tile=(32, 32), compression="zlib", predictor=True)
    np.testing.assert_array_equal(read_stored(path).array[0], np.tile(NUMBERS, (4, 4)))
    for values, words in (
        (NUMBERS.astype("f8"), "floating-point pixels of 64 bits"),
        (NUMBERS.astype("u8"), "1 number of 64 bits"),
        (colours.astype("u2"), "3 numbers of 16 bits in planes of their own"),
        (colours.astype("i2").transpose(1, 2, 0), "3 signed numbers of 16 bits"),
    ):
        photometric = "minisblack" if values.ndim == 2 else "rgb"
        planes = "separate" if values.shape[0] == 3 else None
        tifffile.imwrite(path, values, photometric=photometric, planarconfig=planes)
        with pytest.raises(InputError, match=words):
            read_stored(path)


def test_a_picture_of_billions_of_pixels_is_refused_before_memory_is_taken(tmp_path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 65536, 65536, 8, 4, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    with pytest.raises(InputError, match="65536|exceeds"):
        read_volume(tmp_path / "x.png")
    Image.fromarray(GREY).save(tmp_path / "y.png")  # beside it in a folder that is tracked
    frames = [frame for _, frame in open_frames(tmp_path)]
    assert isinstance(frames[0], BadFrame) and np.array_equal(frames[1], GREY)


def test_a_label_keeps_its_value_in_the_result(tmp_path) -> None:
    Image.fromarray((ORGAN * 3).astype(np.uint8)).save(tmp_path / "x.png")
    found = read_segmentation(tmp_path / "x.png")
    assert found.names == ["label 3"]
    for segment in found.segments:
        segment.metadata.clear()  # as of a result, which has the name alone
    write_segmentation(tmp_path / "y.png", found)
    np.testing.assert_array_equal(read_stored(tmp_path / "y.png").array[0], ORGAN * 3)
