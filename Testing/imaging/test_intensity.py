"""Windows: the intensities that are shown from black to white."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit, without_padding


def test_the_window_leaves_out_half_a_percent_at_each_end():
    low, high = intensity_window(np.arange(1001, dtype=np.float32))
    assert (low, high) == pytest.approx((5, 995))


def test_a_single_outlier_does_not_darken_the_image():
    image = np.random.default_rng(0).uniform(0, 100, (10, 64, 64))
    image[0, 0, 0] = 1e9
    assert intensity_window(image)[1] < 101


def test_values_that_are_not_finite_are_left_out_of_the_window():
    image = np.linspace(0, 1, 1000)
    image[::10], image[1::10], image[2::10] = np.nan, np.inf, -np.inf
    low, high = intensity_window(image)
    assert 0 <= low < 0.02
    assert 0.98 < high <= 1


def test_a_nearly_constant_image_is_shown_by_its_extremes():
    image = np.zeros((100, 100))
    image[0, 0] = 7
    assert intensity_window(image) == (0, 7)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [(np.full((4, 4), 3.0), "every voxel of the image is 3"), (np.full((2, 2), np.nan), "no finite intensity")],
)
def test_an_image_without_contrast_is_refused(image, sentence):
    with pytest.raises(InputError, match=sentence):
        intensity_window(image)


def test_the_sample_of_a_large_volume_gives_nearly_the_whole_volumes_window():
    volume = np.random.default_rng(0).normal(size=(40, 256, 256)).astype(np.float32)
    expected = np.percentile(volume, (0.5, 99.5))
    assert intensity_window(volume) == pytest.approx(tuple(expected), abs=0.02)


def test_the_window_is_mapped_to_0_and_1_and_the_rest_is_clipped():
    unit = window_to_unit(np.array([-5, 10, 15, 20, 99]), (10, 20))
    assert unit.dtype == np.float32
    assert unit.tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize(("padding", "low"), [(-32768, 0), (-3024, -1000), (-2000, -1000), (32767, 0), (65535, 0)])
def test_what_fills_the_outside_of_the_field_of_view_is_left_out(padding, low):
    inside = np.random.default_rng(0).integers(low, 1500, (4, 64, 64)).astype(np.float32)
    expected = intensity_window(inside)
    rows, columns = np.mgrid[:64, :64]
    outside = (rows - 31.5) ** 2 + (columns - 31.5) ** 2 > 31.5**2
    padded = inside.copy()
    padded[:, outside] = padding
    assert intensity_window(padded) == pytest.approx(expected, abs=15)


def test_a_dark_background_is_no_padding():
    rng = np.random.default_rng(0)
    air = np.concatenate([np.full(3000, -1024.0), rng.normal(-1000, 15, 2000), rng.normal(40, 60, 5000)])
    normalised = np.concatenate([np.full(3000, -0.6), rng.normal(0, 1, 5000)])
    eight_bits = np.concatenate([np.zeros(3000), rng.integers(90, 255, 5000)])
    for values in (air, normalised, eight_bits, np.array([-1.0, -1.0, 1.0])):
        assert without_padding(values).size == values.size
