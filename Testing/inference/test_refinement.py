"""Small pieces and smoothing between slices, as options after a run."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.inference.refinement import drop_small_pieces, smooth_between_slices


def discs(radii, side=40, centres=None):
    rows, columns = np.mgrid[:side, :side]
    centres = centres or [(20, 20)] * len(radii)
    return np.stack(
        [(rows - y) ** 2 + (columns - x) ** 2 < r**2 for r, (y, x) in zip(radii, centres, strict=True)]
    ).astype(np.uint8)


def test_a_slice_that_is_unlike_its_neighbours_comes_nearer_to_them():
    masks = discs([0, 8, 8, 14, 8, 8, 0])
    smooth = smooth_between_slices(masks)
    areas = smooth.sum(axis=(1, 2))
    assert masks[2].sum() < areas[3] < masks[3].sum() and areas[2] > masks[2].sum()
    assert smooth.dtype == np.uint8 and set(np.unique(smooth)) == {0, 1}


def test_the_ends_of_a_structure_and_empty_slices_stay_as_they_are():
    masks = discs([0, 3, 8, 10, 8, 3, 0, 0, 5, 0])
    smooth = smooth_between_slices(masks)
    for index in (0, 1, 5, 6, 7, 8, 9):
        assert np.array_equal(smooth[index], masks[index]), index


def test_a_steady_structure_does_not_change_and_a_shifted_one_moves_with_its_neighbours():
    steady = discs([9] * 6)
    assert np.array_equal(smooth_between_slices(steady), steady)
    shifted = discs([6] * 3, centres=[(20, 16), (20, 20), (20, 24)])
    middle = smooth_between_slices(shifted)[1]
    assert abs(np.nonzero(middle)[1].mean() - 20) < 0.5


def test_slices_that_were_not_computed_do_not_count():
    masks = discs([8, 14, 8])
    done = np.array([True, True, False])
    assert np.array_equal(smooth_between_slices(masks, done), masks)
    assert not np.array_equal(smooth_between_slices(masks), masks)


def test_small_pieces_go_in_the_volume_and_on_slices_and_large_ones_stay():
    masks = discs([0, 8, 8, 8, 0, 0])
    speck, thorn = masks.copy(), masks.copy()
    speck[5, 2:4, 2:4] = 1  # alone in the volume
    thorn[2, 2:4, 2:4] = thorn[3, 2:4, 2:4] = 1
    thorn[3, 3, 3:20] = 1  # joined to the rest on the next slice, alone on this one
    assert np.array_equal(drop_small_pieces(speck), masks)
    assert not drop_small_pieces(thorn)[2, 2:4, 2:4].any()
    two = discs([0, 8, 8, 0], centres=[(20, 10)] * 4) | discs([0, 6, 6, 0], centres=[(20, 30)] * 4)
    assert np.array_equal(drop_small_pieces(two), two)


def test_empty_masks_stay_empty_and_the_input_is_not_changed():
    empty = np.zeros((4, 8, 8), np.uint8)
    assert not smooth_between_slices(empty).any() and not drop_small_pieces(empty).any()
    masks = discs([8, 14, 8, 14])
    before = masks.copy()
    smooth_between_slices(masks)
    drop_small_pieces(masks)
    assert np.array_equal(masks, before)
