"""Corrections of the last frame: given masks and clicks replace the prediction and are remembered."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.networks.letterbox import Letterbox
from ProxyPromptSegmentLib.tracking.inputs import points_of_correction
from tracking_doubles import assert_same, corner_mask, difference, follow, started, sweep


@pytest.mark.parametrize("far", [1, 12])
def test_a_given_mask_enters_the_bank_and_changes_later_frames(segmenter, prepared, far):
    images = sweep(2 + far)
    plain = follow(started(segmenter, prepared), images)
    tracker = started(segmenter, prepared)
    follow(tracker, images[:2])
    corrected = tracker.correct(mask=corner_mask(), object_index="rest")
    np.testing.assert_array_equal(corrected.masks()[1], corner_mask())
    np.testing.assert_array_equal(corrected.probability[0], plain[1].probability[0])
    assert corrected.presence[1] == corrected.quality[1] == 1
    later = follow(tracker, images[2:])
    assert np.abs(later[-1].probability[1] - plain[-1].probability[1]).max() > 1e-4
    # the other object was not touched, although both are decoded together otherwise
    np.testing.assert_allclose(later[-1].probability[0], plain[-1].probability[0], atol=1e-5)
    kept = tracker._now.banks[1].read(2 + far)
    assert [(m.frame, m.conditioning) for m in kept][0] == (1, True)
    assert sum(m.frame == 1 for m in kept) == 1


def test_masks_of_all_objects_at_once_are_each_alone(segmenter, prepared):
    images, masks = sweep(3), np.stack([corner_mask(), corner_mask()[::-1]])
    together, one_by_one = started(segmenter, prepared), started(segmenter, prepared)
    for tracker in (together, one_by_one):
        follow(tracker, images[:2])
    together.correct(masks)
    one_by_one.correct(masks[0], object_index=0)
    assert_same(one_by_one.correct(masks[1:], object_index=1), together.again(), atol=0)
    assert_same(together.step(images[2]), one_by_one.step(images[2]))


def test_an_empty_mask_says_that_nothing_is_there(segmenter, prepared):
    tracker = started(segmenter, prepared)
    follow(tracker, sweep(2))
    corrected = tracker.correct(np.zeros((40, 56), np.uint8))
    assert corrected.presence[0] == 0
    assert not corrected.masks()[0].any()
    np.testing.assert_allclose(corrected.confidence()[0], 1)


def test_clicks_are_joined_to_the_proxy_prompt_and_remembered(segmenter, prepared, encode_calls, monkeypatch):
    images, read = sweep(4), []
    plain = follow(started(segmenter, prepared), images)
    tracker, backbone = started(segmenter, prepared), segmenter.model.backbone
    follow(tracker, images[:3])
    encode_calls.clear()
    original = backbone.decode

    def decode(features, prompt, memories=(), frame=0):
        read.append((prompt, [memory.frame for memory in memories], frame))
        return original(features, prompt, memories, frame)

    with monkeypatch.context() as patched:
        patched.setattr(backbone, "decode", decode)
        clicked = tracker.correct(points=([(40.0, 30.0), (5.0, 5.0)], [1, 0]), object_index=1)
    ((prompt, memories, frame),) = read
    assert prompt.sparse.shape == (1, 1, 3, 32)
    assert prompt.memory.shape[:2] == (1, 1)
    assert (memories, frame) == ([0, 1], 2)
    assert np.abs(clicked.probability[1] - plain[2].probability[1]).max() > 1e-4
    np.testing.assert_array_equal(clicked.probability[0], plain[2].probability[0])
    later = tracker.step(images[3])
    assert encode_calls == [1]
    assert np.abs(later.probability[1] - plain[3].probability[1]).max() > 1e-4
    assert [(m.frame, m.conditioning) for m in tracker._now.banks[1].read(3)] == [(2, True), (0, False), (1, False)]


def test_a_second_correction_of_a_frame_replaces_the_first(segmenter, prepared):
    images = sweep(3)
    twice, once = started(segmenter, prepared), started(segmenter, prepared)
    for tracker in (twice, once):
        follow(tracker, images[:2])
    twice.correct(corner_mask()[::-1])
    for tracker in (twice, once):
        tracker.correct(corner_mask())
    np.testing.assert_array_equal(twice.again().masks()[0], corner_mask())
    np.testing.assert_array_equal(twice.step(images[2]).probability, once.step(images[2]).probability)


def test_a_correction_after_a_skipped_frame_still_counts(segmenter, prepared):
    images = sweep(4)
    late, early = started(segmenter, prepared), started(segmenter, prepared)
    for tracker in (late, early):
        follow(tracker, images[:2])
    early.correct(corner_mask())
    for tracker in (late, early):
        tracker.skip()
    late.correct(corner_mask())
    np.testing.assert_array_equal(late.step(images[3]).probability, early.step(images[3]).probability)


def test_without_memory_a_correction_stays_where_it_is(segmenter, prepared):
    images = sweep(3)
    tracker = started(segmenter, prepared, "proxy_only")
    plain = follow(started(segmenter, prepared, "proxy_only"), images)
    follow(tracker, images[:2])
    np.testing.assert_array_equal(tracker.correct(corner_mask()).masks()[0], corner_mask())
    assert difference(tracker.correct(points=([(3, 3)], [1])), plain[1]) > 1e-4
    np.testing.assert_array_equal(tracker.step(images[2]).probability, plain[2].probability)


def test_corrections_that_make_no_sense_are_refused(segmenter, prepared):
    tracker = started(segmenter, prepared)
    follow(tracker, sweep(2))
    before = tracker.again()
    for error, told, call in (
        (UsageError, "either a mask or points", {}),
        (UsageError, "either a mask or points", {"mask": corner_mask(), "points": ([(1, 1)], [1])}),
        (
            UsageError,
            "object 'cup' does not exist; the objects are box, rest",
            {"mask": corner_mask(), "object_index": "cup"},
        ),
        (UsageError, "object 2 does not exist", {"mask": corner_mask(), "object_index": 2}),
        (InputError, r"\(40, 56\) pixels and 2 objects", {"mask": corner_mask()[:20]}),
        (InputError, "pixels and 2 objects", {"mask": np.stack([corner_mask()] * 3)}),
        (InputError, "outside", {"points": ([(56, 3)], [1])}),
        (UsageError, "as many labels", {"points": ([(5, 3)], [1, 0])}),
        (UsageError, "as many labels", {"points": ([(5, 3)], [2])}),
    ):
        with pytest.raises(error, match=told):
            tracker.correct(**call)
    assert_same(tracker.again(), before, atol=0)


def test_a_click_is_the_pixel_that_was_clicked():
    box = Letterbox(64, (40, 56), (2.0, 1.0))
    assert box.valid == (64, 45)
    where = points_of_correction([(0, 0), (55, 39), (27.5, 19.5)], [1, 1, 0], box)
    np.testing.assert_allclose(where[2], (45 / 2 - 0.5, 64 / 2 - 0.5), atol=1e-4)
    np.testing.assert_allclose(where[0], (45 / 56 / 2 - 0.5, 64 / 40 / 2 - 0.5), atol=1e-4)
    np.testing.assert_allclose(where[0] + where[1], 2 * where[2], atol=1e-4)
