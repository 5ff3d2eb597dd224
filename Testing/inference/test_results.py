"""Results of slices: where an object is shown, and with which confidence."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.inference.results import SegmentResult


def result_of(probability, presence, done=None):
    probability, presence = np.asarray(probability, np.float32), np.asarray(presence, np.float32)
    done = np.ones(len(presence), bool) if done is None else np.asarray(done)
    return SegmentResult(
        objects=("a",),
        probability=probability,
        presence=presence,
        quality=np.full(presence.shape, 0.8, np.float32),
        done=done,
    )


def test_an_object_is_shown_where_it_is_likely_and_present():
    result = result_of(np.full((5, 1, 2, 2), 0.9), [[0.9], [0.9], [0.1], [0.0], [0.0]])
    assert result.masks()[:, 0, 0, 0].tolist() == [1, 1, 0, 0, 0]
    assert result.masks(threshold=0.95).max() == 0
    np.testing.assert_allclose(result.gated_probability()[4], 0)
    np.testing.assert_allclose(result.gated_probability()[0], 0.9 * 0.9, rtol=1e-6)


def test_a_single_slice_in_doubt_between_sure_ones_does_not_flicker():
    result = result_of(np.full((3, 1, 2, 2), 0.95), [[0.9], [0.3], [0.9]])
    assert result.masks()[:, 0, 0, 0].tolist() == [1, 1, 1]


def test_confidence_is_the_expected_overlap_where_shown_and_certainty_of_absence_elsewhere():
    result = result_of(np.full((3, 1, 2, 2), 0.9), [[1.0], [1.0], [1.0]])
    np.testing.assert_allclose(result.confidence(), 0.8, atol=1e-6)
    result = result_of(np.full((3, 1, 2, 2), 0.9), [[0.1], [0.1], [0.1]])
    np.testing.assert_allclose(result.confidence(), 0.9, atol=1e-6)
