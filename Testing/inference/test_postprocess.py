"""Rules that go across slices."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.inference.postprocess import drop_small_parts, smooth_over_slices, smooth_slice


def test_a_slice_is_averaged_with_its_finished_neighbours_only():
    values = np.array([[1.0], [0.0], [4.0], [8.0]])
    smooth = smooth_over_slices(values, np.array([True, True, True, False]))
    np.testing.assert_allclose(smooth[:, 0], [2 / 3, 5 / 4, 8 / 3, 0.0])
    np.testing.assert_allclose(smooth_slice(values, np.ones(4, bool), 3), [20 / 3])


def test_small_parts_go_and_parts_of_like_size_stay():
    mask = np.zeros((3, 20, 20), np.uint8)
    mask[0:2, 0:8, 0:8] = 1  # 128 voxels
    mask[2, 15:18, 15:18] = 1  # 9 voxels
    mask[1, 12:19, 0:8] = 1  # 56 voxels
    kept = drop_small_parts(mask)
    assert kept[2].sum() == 0 and kept[0:2].sum() == 128 + 56
    assert kept.dtype == np.uint8


@pytest.mark.parametrize(("voxels", "stays"), [(18, False), (19, False), (20, True), (21, True)])
def test_a_part_of_a_fifth_of_the_largest_stays_and_one_that_is_smaller_goes(voxels, stays):
    mask = np.zeros((1, 20, 20), np.uint8)
    mask[0, 0:10, 0:10] = 1  # 100 voxels
    mask[0, 12:15, 0:7].flat[:voxels] = 1
    kept = drop_small_parts(mask)
    assert kept[0, :10, :10].all() and kept.sum() == 100 + voxels * stays


@pytest.mark.parametrize("mask", [np.zeros((2, 4, 4), np.uint8), np.ones((2, 4, 4), np.uint8)])
def test_nothing_and_one_part_stay_as_they_are(mask):
    np.testing.assert_array_equal(drop_small_parts(mask), mask)
