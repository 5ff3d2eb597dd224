"""Arrays as pictures: PNG files that other programs read, and the glow of the why view. Qt is a stand-in here."""

from __future__ import annotations

import io

import numpy as np
import pytest


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1), (33, 2)])
def test_a_png_file_gives_back_every_pixel(stand_ins, shape):
    from PIL import Image

    from ProxyPromptSegmentModule.panel.icons import png_bytes

    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(image)))), image)


def test_qt_reads_the_picture(stand_ins):
    from ProxyPromptSegmentModule.panel.icons import pixmap, swatch

    image = np.zeros((6, 9, 3), np.uint8)
    image[2, 4] = (200, 100, 50)
    made = pixmap(image).toImage()
    assert (made.width(), made.height()) == (9, 6)
    assert made.pixelColor(4, 2).getRgb()[:3] == (200, 100, 50)
    assert not swatch((1.0, 0.0, 0.5)).isNull()


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_picture_is_refused(stand_ins, image):
    from ProxyPromptSegmentModule.panel.icons import png_bytes

    with pytest.raises(ValueError, match="a picture is"):
        png_bytes(image)


def test_the_glow_is_where_the_map_is_high(stand_ins):
    from ProxyPromptSegmentModule.panel.icons import heat_picture

    heat = np.zeros((10, 20))
    heat[5, 15] = 3.0
    picture = heat_picture(np.full((10, 20), 7.0), heat, (0.0, 10.0), side=40)
    assert picture.shape == (20, 40, 3) and picture.dtype == np.uint8
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    assert np.unravel_index(np.argmax(red - blue), red.shape) in [(10, 30), (10, 31), (11, 30), (11, 31)]
    assert (red == blue)[:8].all()
    assert heat_picture(np.zeros((4, 4)), np.zeros((4, 4))).shape == (170, 170, 3)


def test_frames_are_drawn_around_their_place(stand_ins):
    from ProxyPromptSegmentModule.panel.icons import heat_picture

    picture = heat_picture(np.zeros((10, 10)), np.zeros((10, 10)), side=40, frames=[(2, 3, 6, 7)])
    white = (picture == 255).all(axis=2)
    assert white[8, 12:28].all() and white[8:24, 12].all() and white[23, 12:28].all() and white[8:24, 27].all()
    assert white.sum() == 2 * 16 + 2 * 14


def test_colours_are_written_as_web_pages_do(stand_ins):
    from ProxyPromptSegmentModule.panel.icons import hex_color

    assert hex_color((1.0, 0.5, 0.0)) == "#ff8000"
    assert hex_color((2.0, -1.0, 0.2)) == "#ff0033"


def test_numbers_are_said_as_a_person_says_them(stand_ins):
    from ProxyPromptSegmentModule.wording import duration, ranges, size

    assert [duration(one) for one in (0.2, 89, 200, 9000)] == ["1 s", "89 s", "3 min", "2 h"]
    assert [size(one) for one in (10, 2.4e6, 3.1e9)] == ["1 kB", "2 MB", "3.1 GB"]
    assert ranges([8, 3, 5, 6, 7]) == "3, 5:8" and ranges([]) == ""
