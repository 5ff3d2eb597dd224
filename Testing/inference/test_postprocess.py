"""Rules that go across slices."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.inference.postprocess import drop_small_parts, smooth_over_slices, smooth_slice
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece


def pair(*boxes):
    mask = np.zeros((1, 40, 40), np.uint8)
    for top, left, side in boxes:
        mask[0, top : top + side, left : left + side] = 1
    return SupportPair(np.random.default_rng(0).random((40, 40), np.float32), mask, (1.0, 1.0), (0.0, 1.0))


def test_a_slice_is_averaged_with_its_finished_neighbours_only():
    values = np.array([[1.0], [0.0], [4.0], [8.0]])
    smooth = smooth_over_slices(values, np.array([True, True, True, False]))
    np.testing.assert_allclose(smooth[:, 0], [2 / 3, 5 / 4, 8 / 3, 0.0])
    np.testing.assert_allclose(smooth_slice(values, np.ones(4, bool), 3), [20 / 3])


def test_two_pieces_on_one_support_slice_make_an_object_of_several_pieces():
    assert one_piece(SupportSet((pair((5, 5, 10)), pair((3, 3, 8))), ("a",))) == (True,)
    assert one_piece(SupportSet((pair((5, 5, 10)), pair((3, 3, 8), (20, 20, 8))), ("a",))) == (False,)


def test_a_speck_of_the_annotator_does_not_make_two_pieces():
    assert one_piece(SupportSet((pair((5, 5, 12), (30, 30, 1)),), ("a",))) == (True,)


def test_small_parts_go_and_parts_of_like_size_stay():
    mask = np.zeros((3, 20, 20), np.uint8)
    mask[0:2, 0:8, 0:8] = 1  # 128 voxels
    mask[2, 15:18, 15:18] = 1  # 9 voxels
    mask[1, 12:19, 0:8] = 1  # 56 voxels
    kept = drop_small_parts(mask)
    assert kept[2].sum() == 0 and kept[0:2].sum() == 128 + 56
    assert kept.dtype == np.uint8


@pytest.mark.parametrize("mask", [np.zeros((2, 4, 4), np.uint8), np.ones((2, 4, 4), np.uint8)])
def test_nothing_and_one_part_stay_as_they_are(mask):
    np.testing.assert_array_equal(drop_small_parts(mask), mask)
