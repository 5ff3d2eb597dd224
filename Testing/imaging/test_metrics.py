"""Scores against values worked out by hand and against slow, direct computations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import InputError, SupportError
from ProxyPromptSegmentLib.evaluation.mean_mask import mean_mask, predict_mean_mask
from ProxyPromptSegmentLib.imaging.metrics import (
    dice,
    dice_per_slice,
    foreground_dice,
    inconsistent_slices,
    summarize,
)


def square(top: int, left: int, side: int = 4, size: int = 12) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_dice_of_half_overlapping_squares_is_one_half():
    assert dice(square(2, 2), square(2, 4)) == pytest.approx(0.5)


def test_two_empty_masks_agree_and_one_empty_mask_scores_nothing():
    empty = np.zeros((12, 12), dtype=np.uint8)
    assert dice(empty, empty) == 1.0
    assert dice(empty, square(2, 2)) == dice(square(2, 2), empty) == 0.0


def test_volume_dice_counts_voxels_and_does_not_average_slices():
    truth = np.stack([square(2, 2), square(0, 0, side=1)])
    predicted = np.stack([square(2, 2), np.zeros((12, 12), dtype=np.uint8)])
    assert dice(truth, predicted) == pytest.approx(32 / 33)
    np.testing.assert_allclose(dice_per_slice(truth, predicted), [1.0, 0.0])


def test_foreground_dice_ignores_false_positives_on_slices_without_the_object():
    truth = np.stack([square(2, 2), np.zeros((12, 12), dtype=np.uint8)])
    predicted = np.stack([square(2, 4), square(2, 2)])
    assert foreground_dice(truth, predicted) == pytest.approx(0.5)
    assert dice(truth, predicted) == pytest.approx(16 / 48)
    assert math.isnan(foreground_dice(np.zeros_like(truth), predicted))


def test_masks_of_different_shapes_are_refused_with_both_shapes_named():
    with pytest.raises(InputError, match=r"\(12, 12\).*\(10, 12\)"):
        dice(square(2, 2), square(2, 2)[:10])
    with pytest.raises(InputError, match="3 axes"):
        dice_per_slice(square(2, 2), square(2, 2))


def test_a_slice_below_both_neighbours_is_inconsistent_and_an_end_slice_is_not():
    truth = np.stack([square(2, 2)] * 6)
    predicted = truth.copy()
    predicted[2] = square(2, 4)
    predicted[5] = 0
    assert inconsistent_slices(truth, predicted) == 1
    predicted[3] = square(2, 4)  # now a run of two bad slices: each has a neighbour as bad as itself
    assert inconsistent_slices(truth, predicted) == 0


def test_a_fall_of_less_than_the_threshold_is_consistent():
    truth = np.stack([square(1, 1, side=10)] * 3)
    predicted = truth.copy()
    predicted[1, 1:2] = 0  # Dice 180 / 190 = .947
    assert inconsistent_slices(truth, predicted) == 0
    assert inconsistent_slices(truth, predicted, drop=0.05) == 1


def test_the_standard_deviation_is_the_population_one_and_missing_scores_are_counted():
    found = summarize([0.6, 0.8, float("nan")])
    assert (found.mean, found.sd) == pytest.approx((0.7, 0.1))
    assert (found.count, found.missing) == (2, 1)


def test_the_bootstrap_interval_repeats_with_its_seed_and_has_the_width_theory_gives():
    values = np.random.default_rng(3).normal(0.7, 0.1, size=200)
    first = summarize(values, seed=1)
    assert first == summarize(values, seed=1)
    assert first.low != summarize(values, seed=2).low
    half = 1.96 * values.std() / math.sqrt(200)
    assert (first.mean - first.low, first.high - first.mean) == pytest.approx((half, half), rel=0.1)


def test_no_score_at_all_is_refused():
    with pytest.raises(InputError, match="none of 1 scores is a number"):
        summarize([float("nan")])


def test_the_mean_mask_holds_what_at_least_half_of_the_supports_hold():
    supports = np.stack([square(2, 2), square(2, 4), square(2, 4)])
    np.testing.assert_array_equal(mean_mask(supports), square(2, 4))
    np.testing.assert_array_equal(mean_mask(supports[:2]), square(2, 2) | square(2, 4))


def test_the_mean_mask_is_the_same_on_every_slice_for_each_object():
    supports = np.stack([np.stack([square(2, 2), square(6, 6)])] * 3)
    predicted = predict_mean_mask(supports, slices=5)
    assert predicted.shape == (5, 2, 12, 12) and predicted.dtype == np.uint8
    for found in predicted:
        np.testing.assert_array_equal(found, supports[0])


@pytest.mark.parametrize("shape", [(12, 12), (0, 12, 12)])
def test_a_mean_mask_of_no_support_is_refused(shape):
    with pytest.raises(SupportError, match="support masks"):
        mean_mask(np.zeros(shape))
