"""Values that are no numbers are replaced outside the body, and refused inside of it."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.mending import mended


@pytest.fixture
def body():
    """A bright ball in air with some noise."""
    z, y, x = np.mgrid[-1:1:12j, -1:1:30j, -1:1:30j]
    noise = np.random.default_rng(0).random((12, 30, 30))
    return np.where(z**2 + y**2 + x**2 < 0.6, 100 + 20 * noise, noise).astype(np.float32)


def test_an_array_of_numbers_is_given_back_as_it_is(body):
    array, said = mended(body, "map")
    assert array is body and said == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_outside_the_body_are_replaced_and_said(body, value):
    broken = body.copy()
    broken[:, 0], broken[0, 1, 15] = value, value
    array, said = mended(broken, "'map'")
    assert np.isfinite(array).all() and array[5, 0, 3] == broken[np.isfinite(broken)].min()
    assert "361 voxels outside the body; the lowest is used there" in said
    assert not np.isfinite(broken).all(), "the given array is not changed"


def test_values_inside_the_body_are_refused_with_their_place(body):
    broken = body.copy()
    broken[6, 14, 13] = np.nan
    with pytest.raises(InputError, match=r"1 voxels inside the body, the first at \(13, 14, 6\)\. Replace them"):
        mended(broken, "'map'")


def test_a_volume_without_numbers_is_refused():
    with pytest.raises(InputError, match="NaN or infinite intensity everywhere"):
        mended(np.full((2, 3, 4), np.nan), "'map'")


def test_colours_are_mended_as_well(body):
    broken = np.repeat(body[..., None], 3, axis=-1)
    broken[0, 0, 0, 1] = np.nan
    array, said = mended(broken, "'map'")
    assert np.isfinite(array).all() and "1 voxels outside" in said
