"""A tracker that switches its support, predicts the last frame again, looks ahead and returns to a moment."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

from tracking_doubles import FIELDS, WINDOW, assert_same, difference, follow, started, support, sweep


def test_after_a_switch_the_new_support_speaks_as_if_it_began_there(segmenter, prepared, encode_calls):
    images = sweep(8)
    other = segmenter.prepare(support(2, seed=9, names=("other",)))
    tracker = started(segmenter, prepared, check_agreement=True)
    encode_calls.clear()
    follow(tracker, images[:4])
    tracker.switch(other)
    after = follow(tracker, images[4:])
    assert sum(encode_calls) == 8
    for one, fresh in zip(after, follow(started(segmenter, other, check_agreement=True), images[4:]), strict=True):
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(one, name), getattr(fresh, name))
        np.testing.assert_array_equal(one.agreement, fresh.agreement)
    assert tracker.names == ("other",)
    assert [one.index for one in after] == [4, 5, 6, 7]


def test_the_last_frame_is_predicted_anew_from_its_embedding(segmenter, prepared, encode_calls):
    images = sweep(4)
    other = segmenter.prepare(support(2, seed=9, names=("other",)))
    tracker = started(segmenter, prepared)
    follow(tracker, images[:3])
    embedding = tracker.encoded
    encode_calls.clear()
    tracker.switch(other)
    anew = tracker.again()
    assert encode_calls == []
    assert tracker.encoded is embedding
    fresh = started(segmenter, other)
    np.testing.assert_array_equal(anew.probability, fresh.step(images[2]).probability)
    assert anew.index == 2
    np.testing.assert_array_equal(tracker.step(images[3]).probability, fresh.step(images[3]).probability)


def test_predicting_anew_without_a_change_changes_nothing(segmenter, prepared):
    images = sweep(12)
    tracker, other = started(segmenter, prepared), started(segmenter, prepared)
    for image in images:
        answer = tracker.step(image)
        np.testing.assert_array_equal(tracker.again().probability, answer.probability)
        np.testing.assert_array_equal(other.step(image).probability, answer.probability)


def test_a_correction_right_after_a_switch_is_of_the_new_objects(segmenter, prepared):
    images = sweep(3)
    other = segmenter.prepare(support(2, seed=9, names=("other",)))
    tracker, fresh = started(segmenter, prepared), started(segmenter, other)
    follow(tracker, images[:2])
    tracker.switch(other)
    fresh.step(images[1])
    assert_same(tracker.correct(points=([(40, 30)], [1])), fresh.correct(points=([(40, 30)], [1])), atol=0)
    assert_same(tracker.step(images[2]), fresh.step(images[2]), atol=0)


def test_looking_ahead_leaves_no_trace(segmenter, prepared):
    images = sweep(11)
    tracker, undisturbed = started(segmenter, prepared), started(segmenter, prepared)
    last = follow(tracker, images[:9])[-1]
    follow(undisturbed, images[:9])
    ahead = tracker.peek(segmenter.encode(images[9:10], WINDOW), 9)
    assert_same(tracker.again(), last, atol=0)
    assert_same(tracker.step(images[9]), ahead, atol=0)
    undisturbed.step(images[9])
    assert_same(tracker.step(images[10]), undisturbed.step(images[10]), atol=0)


def test_tracking_can_return_to_a_moment_again_and_again(segmenter, prepared):
    images = sweep(9)
    tracker = started(segmenter, prepared)
    follow(tracker, images[:2])
    moment = tracker.mark()
    first, other, again = [], [], []
    for answers, some in ((first, images[2:]), (other, images[:1:-1]), (again, images[2:])):
        tracker.return_to(moment)
        answers += follow(tracker, some)
    for one, same in zip(first, again, strict=True):
        assert_same(one, same, atol=0)
    assert [answer.index for answer in again] == list(range(2, 9))
    assert difference(first[0], other[0]) > 1e-3


def test_another_support_of_the_same_objects_keeps_the_memory(segmenter, prepared):
    images = sweep(5)
    other = segmenter.prepare(support(2, seed=9))
    tracker = started(segmenter, prepared)
    follow(tracker, images[:4])
    tracker.switch(other)
    remembering = tracker.step(images[4])
    assert difference(remembering, started(segmenter, other).step(images[4])) > 1e-3
    tracker.switch(segmenter.prepare(support(2, seed=9, names=("box",))))
    np.testing.assert_allclose(
        tracker.step(images[4]).probability[0], started(segmenter, other).step(images[4]).probability[0], atol=1e-5
    )
