"""The embedded weights and a simulated user: a click on a real image draws what lies there, further ones mend it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import engine_doubles  # noqa: F401 - skips where a package is missing
from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.evaluation.clicks import corrected_by_clicks, next_click
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.by_hand.decode import corrected, nothing_yet
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt, Point
from ProxyPromptSegmentLib.inference.loading import load


@pytest.fixture(scope="module")
def segmenter():
    return load("sam-compact", "cpu").segmenter


@pytest.fixture(scope="module")
def eye(shared_data):
    return load_dataset(shared_data, "drishti_gs")[0]


def test_a_click_on_a_real_image_draws_what_lies_there(segmenter, eye):
    disc = eye.masks[0, 0]
    encoded = segmenter.encode(eye.images[:1])
    first = next_click(disc, np.zeros_like(disc))
    said = {0: HandPrompt((first,))}
    found = corrected(segmenter, encoded, said, nothing_yet(0, 1, disc.shape))
    mask = found.probability[0] > 0.5
    assert mask[int(first.row), int(first.column)]
    assert dice(disc, mask) > 0.5


def test_a_simulated_user_mends_a_real_image_click_by_click(segmenter, eye):
    disc = eye.masks[0, 0]
    course = corrected_by_clicks(segmenter, segmenter.encode(eye.images[:1]), disc, most=4, good=0.99)
    assert len(course.points) == 4 and course.clicks is None
    assert max(course.dice[1:]) >= course.dice[1] > 0.5


def test_the_next_click_is_in_the_middle_of_the_largest_error():
    truth, mask = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[2:9, 2:9], mask[12:15, 12:15] = 1, 1
    assert next_click(truth, mask) == Point(5, 5, True)
    mask[2:9, 2:9] = 1
    assert next_click(truth, mask) == Point(13, 13, False)
    assert next_click(truth, truth) is None
    # The image's edge is an edge of the piece: the click does not lie on it.
    truth[:], mask[:] = 0, 0
    truth[0:5, 0:20] = 1
    assert next_click(truth, mask).row == 2
