"""The tracker: causal, streaming, bounded; it can be switched, corrected, turned round and doubted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from engine_doubles import EVERYTHING, tiny_model
from ProxyPromptSegmentLib.errors import DeviceError, InputError, SupportError, UsageError
from ProxyPromptSegmentLib.inference.calibration import Calibration
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, masks_to_tensor
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.protocols import Prompt
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.tracking.inputs import points_of_correction
from ProxyPromptSegmentLib.tracking.tracker import FramePrediction, Tracker, TrackingMode
from ProxyPromptSegmentLib.tracking.volume import track_volume
from tracking_doubles import (
    FIELDS,
    JUMPS,
    STAYS,
    WINDOW,
    assert_same,
    difference,
    follow,
    growth,
    spots,
    started,
    sticky,
    support,
    sweep,
)

# Following


def test_frames_are_predicted_on_their_own_grid(segmenter, prepared):
    answers = follow(started(segmenter, prepared), sweep())
    assert [answer.index for answer in answers] == [0, 1, 2, 3, 4]
    for answer in answers:
        assert answer.probability.shape == (2, 40, 56)
        assert answer.probability.dtype == np.float32
        assert answer.presence.shape == answer.quality.shape == answer.confidence().shape == (2,)
        assert answer.masks().dtype == np.uint8
        assert answer.masks().any()
    # the memory matters, so that the comparisons below say something
    alone = follow(started(segmenter, prepared, "proxy_only"), sweep())
    assert difference(alone[0], answers[0]) < 1e-6
    assert difference(alone[4], answers[4]) > 1e-3
    assert difference(answers[3], answers[4]) > 1e-3


def test_masks_and_confidence_are_of_what_is_probable_and_present():
    nothing = np.zeros(3, np.float32)
    probability = np.full((3, 2, 2), 0.8, np.float32)
    presence, quality = np.array([1.0, 0.7, 0.1], np.float32), np.array([0.9, 0.63, 0.09], np.float32)
    answer = FramePrediction(
        index=4,
        probability=probability,
        presence=presence,
        quality=quality,
        agreement=nothing,
        disagrees=nothing.astype(bool),
    )
    assert answer.masks()[:, 0, 0].tolist() == [1, 1, 0]
    assert answer.masks(0.6)[:, 0, 0].tolist() == [1, 0, 0]
    np.testing.assert_allclose(answer.confidence(), [0.9, 0.63, 0.9], atol=1e-6)


def test_a_calibration_of_the_weights_judges_frames_as_well_as_slices(segmenter, prepared):
    fitted = Calibration(
        presence={"offset": 0.5, "presence": 0.3},
        quality={"offset": 0.1, "overlap": 0.2, "agreement": 0.3, "iou": 0.2, "presence": 0.1},
        unlike=9.0,
    )
    images = sweep()
    plain = follow(started(segmenter, prepared), images)
    judging = Segmenter(segmenter.model, "cpu", calibration=fitted)
    for before, after in zip(plain, follow(started(judging, prepared), images), strict=True):
        np.testing.assert_array_equal(after.probability, before.probability)
        np.testing.assert_array_equal(after.evidence, before.evidence)
        np.testing.assert_allclose(after.presence, fitted.presence_of(before.evidence), rtol=1e-6)
        np.testing.assert_allclose(after.quality, fitted.quality_of(before.evidence), rtol=1e-6)
        assert np.abs(after.presence - before.presence).max() > 0.01
    stack = track_volume(Tracker(judging), images, prepared, WINDOW)
    np.testing.assert_allclose(stack.presence, fitted.presence_of(stack.evidence), rtol=1e-6)


def test_each_frame_reads_the_supports_most_like_it(segmenter):
    prepared = segmenter.prepare(support(pairs=6))
    choosing, images = segmenter.reading(1), sweep()
    frames, read = follow(started(choosing, prepared, "proxy_only"), images), []
    for image, frame in zip(images, frames, strict=True):
        own = choosing.read_by(segmenter.encode(image[None], WINDOW), prepared)
        assert_same(frame, started(segmenter, prepared.supports(own), "proxy_only").step(image))
        read.append(own)
    assert {len(own) for own in read} <= {2}, "as many as objects, so that each can be shown"
    every = follow(started(segmenter, prepared, "proxy_only"), images)
    assert max(difference(one, other) for one, other in zip(frames, every, strict=True)) > 1e-4


def test_what_comes_later_changes_nothing_before(segmenter, prepared):
    images = sweep()
    changed = images.copy()
    changed[3:] = changed[3:][:, ::-1, ::-1]
    first, second = (follow(started(segmenter, prepared, check_agreement=True), some) for some in (images, changed))
    for t in range(3):
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(first[t], name), getattr(second[t], name))
    assert difference(first[3], second[3]) > 1e-3
    assert difference(first[4], second[4]) > 1e-3


def test_ring_buffers_change_nothing_of_what_is_said(segmenter, prepared):
    """The network reads the whole history, as its authors wrote it, and the tracker's banks."""
    images, backbone = sweep(18), segmenter.model.backbone
    tracker, history = started(segmenter, prepared), []
    with torch.inference_mode():
        for frame, image in enumerate(images):
            answer = tracker.step(image)
            encoded = segmenter.encode(image[None], WINDOW)
            prompt = segmenter.model.generator.prompt(encoded.features, prepared)
            decoded = backbone.decode(encoded.features, prompt, history, frame)
            history.append(backbone.remember(encoded.features, decoded, frame))
            np.testing.assert_allclose(answer.quality, decoded.quality[0].numpy() * answer.presence, atol=1e-5)
            np.testing.assert_allclose(answer.presence, torch.sigmoid(decoded.presence)[0].numpy(), atol=1e-5)


def test_frames_one_by_one_are_a_stack_in_one_go(segmenter, prepared):
    images = sweep(6)
    single = follow(started(segmenter, prepared), images)
    whole = track_volume(Tracker(segmenter, check_agreement=False), images, prepared, WINDOW, start=0)
    for t, answer in enumerate(single):
        np.testing.assert_array_equal(whole.probability[t], answer.probability)
        np.testing.assert_array_equal(whole.presence[t], answer.presence)
        np.testing.assert_array_equal(whole.quality[t], answer.quality)


def test_frames_embedded_together_are_frames_embedded_alone(segmenter, prepared, encode_calls):
    images = sweep()
    single = follow(started(segmenter, prepared), images)
    together = segmenter.encode(images, WINDOW)
    encode_calls.clear()
    tracker = started(segmenter, prepared)
    for t, image in enumerate(images):
        assert_same(tracker.step(image, encoded=together.one(t)), single[t], atol=1e-4)
    assert encode_calls == []


def test_an_embedding_of_another_size_is_refused(segmenter, prepared):
    other = segmenter.encode(sweep(1, (60, 40)), WINDOW)
    with pytest.raises(UsageError, match="another size"):
        started(segmenter, prepared).step(sweep(1)[0], encoded=other)


def test_nothing_grows_once_the_ring_buffers_are_full(segmenter, prepared):
    full, later = growth(started(segmenter, prepared, check_agreement=True), sweep(4), (18, 34))
    assert full[0] >= 2 * 6 * 8 * 8 * 8 * 4  # objects, memories, channels, grid, bytes
    assert later == full


def test_nothing_grows_over_500_frames():
    full, middle, end = growth(sticky(reanchor=False), spots(*STAYS, *JUMPS), (20, 260, 500))
    assert full[0] >= 2 * 3 * 64 * 64 * 4
    assert middle == end == full


def test_two_objects_at_once_are_each_alone(segmenter, prepared):
    images = sweep(4)
    both = follow(started(segmenter, prepared), images)
    for number in (0, 1):
        alone = follow(started(segmenter, prepared.objects([number])), images)
        for t in range(4):
            np.testing.assert_allclose(alone[t].probability[0], both[t].probability[number], atol=1e-5)
            np.testing.assert_allclose(alone[t].quality[0], both[t].quality[number], atol=1e-5)


def test_objects_may_overlap(segmenter):
    given = support()
    pair = given.pairs[0]
    twice = SupportSet((replace(pair, masks=pair.masks[[0, 0]]),), ("one", "other"))
    answer = follow(started(segmenter, twice), sweep(3))[-1]
    np.testing.assert_allclose(answer.probability[0], answer.probability[1], atol=1e-6)
    assert (answer.masks()[0] & answer.masks()[1]).any()


def test_several_supports_speak_together(segmenter):
    images, three = sweep(3), support(3)
    answers = follow(started(segmenter, three), images)
    turned = SupportSet(three.pairs[::-1], three.objects)
    for t, other in enumerate(follow(started(segmenter, turned), images)):
        assert_same(other, answers[t], atol=2e-5)
    assert difference(answers[2], follow(started(segmenter, support(1)), images)[2]) > 2e-4


def test_without_memory_the_order_of_frames_does_not_matter(segmenter, prepared):
    images = sweep()
    forwards = follow(started(segmenter, prepared, "proxy_only"), images)
    backwards = follow(started(segmenter, prepared, "proxy_only"), images[::-1])[::-1]
    for t in range(5):
        np.testing.assert_array_equal(forwards[t].probability, backwards[t].probability)
    slices = segmenter.segment(images, prepared, WINDOW)
    np.testing.assert_allclose(slices.probability[2], forwards[2].probability, atol=1e-5)
    remembering = follow(started(segmenter, prepared), images[::-1])[::-1]
    assert difference(remembering[0], follow(started(segmenter, prepared), images)[0]) > 1e-3


def test_a_new_sequence_knows_nothing_of_the_last(segmenter, prepared):
    tracker = started(segmenter, prepared)
    first = follow(tracker, sweep(3))
    tracker.reset()
    for one, other in zip(follow(tracker, sweep(3)), first, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)
        assert one.index == other.index
    tracker.start(prepared, WINDOW)
    tracker.step(sweep(1, (64, 64))[0])


# Bad frames


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (np.zeros((40, 50), np.float32), "40 x 50 pixels, but earlier frames have 40 x 56"),
        (np.full((40, 56), np.nan, np.float32), "NaN"),
        (np.zeros((40, 56, 4), np.float32), "allowed are"),
        (np.zeros(40, np.float32), "allowed are"),
    ],
)
def test_a_bad_frame_is_refused_and_leaves_no_trace(segmenter, prepared, bad, told):
    images = sweep(4)
    undisturbed, tracker = started(segmenter, prepared), started(segmenter, prepared)
    follow(undisturbed, images[:3])
    follow(tracker, images[:3])
    with pytest.raises(InputError, match=told):
        tracker.step(bad)
    np.testing.assert_array_equal(tracker.step(images[3]).probability, undisturbed.step(images[3]).probability)


def test_a_skipped_frame_lets_time_pass_and_is_not_remembered(segmenter, prepared, monkeypatch):
    images, read = sweep(4), []
    tracker, original = started(segmenter, prepared), segmenter.model.backbone.decode

    def decode(features, prompt, memories=(), frame=0):
        read.append((frame, [memory.frame for memory in memories]))
        return original(features, prompt, memories, frame)

    follow(tracker, images[:2])
    monkeypatch.setattr(segmenter.model.backbone, "decode", decode)
    tracker.skip()
    assert tracker.step(images[3]).index == 3
    assert read == [(3, [0, 1])]
    assert tracker.step(images[2], index=17).index == 17
    tracker.skip(18)
    assert tracker.step(images[2]).index == 19


def test_when_memory_runs_out_a_sentence_says_so_and_the_tracker_goes_on(segmenter, prepared, monkeypatch):
    images = sweep(9)
    tracker, undisturbed = started(segmenter, prepared), started(segmenter, prepared)
    for one in (tracker, undisturbed):
        last = follow(one, images[:8])[-1]

    def full(*_):
        raise torch.cuda.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(segmenter.model.backbone, "decode", full)
        with pytest.raises(DeviceError, match="does not fit into the memory of cpu") as caught:
            tracker.step(images[8])
    assert caught.value.remedy == Remedy(kind=RemedyKind.SAVE_MEMORY, device="cpu")
    assert_same(tracker.again(), last, atol=0)
    for one in (tracker, undisturbed):
        one.correct(corner_mask())
    assert_same(tracker.step(images[8]), undisturbed.step(images[8]), atol=0)


def test_what_cannot_be_followed_is_refused(segmenter, prepared):
    with pytest.raises(UsageError, match="has no memory"):
        Tracker(Segmenter(tiny_model(**EVERYTHING)))
    with pytest.raises(UsageError, match="choose one of proxy"):
        Tracker(segmenter, "bank")
    with pytest.raises(UsageError, match="allowed are True, False and 'exact'"):
        Tracker(segmenter, check_agreement="often")
    tracker = Tracker(segmenter)
    for call in (lambda: tracker.step(sweep(1)[0]), lambda: tracker.switch(prepared), tracker.again, tracker.correct):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(UsageError, match="needs a support"):
        tracker.start(None, WINDOW)
    with pytest.raises(UsageError, match="window"):
        tracker.start(prepared, (1.0, 1.0))
    with pytest.raises(SupportError):
        tracker.start(SupportSet((), ()), WINDOW)


# Switching


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


# Correcting


def corner_mask():
    mask = np.zeros((40, 56), np.uint8)
    mask[26:38, 30:52] = 1
    return mask


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


# SAM 2 alone


def test_without_a_proxy_prompt_given_frames_are_followed(segmenter):
    images, given = sweep(3), support(2)
    tracker = Tracker(segmenter, "bank_only")
    tracker.start(None, WINDOW)
    with pytest.raises(UsageError, match="call anchor"):
        tracker.step(images[0])
    tracker.anchor(given.pairs[0].image, given.pairs[0].masks)
    answers = follow(tracker, images)
    assert answers[0].probability.shape == (2, 40, 56)
    assert np.isnan(answers[2].agreement).all()
    backbone = segmenter.model.backbone
    with torch.inference_mode():
        first, target = (segmenter.encode(image[None], WINDOW).features for image in (given.pairs[0].image, images[0]))
        masks = masks_to_tensor(given.pairs[0].masks[None], segmenter.letterbox((40, 56)))
        memory = backbone.remember_mask(first, masks, 0)
        decoded = backbone.decode(target, Prompt(), [memory], 1)
    np.testing.assert_allclose(decoded.quality[0].numpy() * answers[0].presence, answers[0].quality, atol=1e-6)
    other = Tracker(segmenter, "bank_only")
    other.start(None, WINDOW)
    other.anchor(given.pairs[0].image, given.pairs[0].masks[:, ::-1])
    assert difference(other.step(images[0]), answers[0]) > 1e-4
    with pytest.raises(UsageError, match="before the first step"):
        other.anchor(given.pairs[0].image, given.pairs[0].masks)


def test_a_support_without_a_proxy_prompt_is_given_as_frames(segmenter, prepared):
    images, given = sweep(2), support(2)
    by_hand, by_support = Tracker(segmenter, "bank_only"), Tracker(segmenter, "bank_only")
    by_hand.start(None, WINDOW)
    for pair in given.pairs:
        by_hand.anchor(pair.image, pair.masks)
    by_support.start(given, WINDOW)
    for one, other in zip(follow(by_hand, images), follow(by_support, images), strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)
    with pytest.raises(UsageError, match="give a SupportSet"):
        by_support.switch(prepared)
    by_support.switch(support(1, seed=9, names=("box",)))
    anew = by_support.again()
    assert anew.probability.shape == (1, 40, 56)
    fresh = Tracker(segmenter, "bank_only")
    fresh.start(support(1, seed=9, names=("box",)), WINDOW)
    np.testing.assert_array_equal(anew.probability, fresh.step(images[1]).probability)
    np.testing.assert_array_equal(by_support.step(images[0]).probability, fresh.step(images[0]).probability)


@pytest.mark.parametrize(
    ("image", "masks", "told"),
    [
        (np.zeros((40, 56)), np.zeros((2, 40, 50)), "both must have the same"),
        (np.zeros((40, 56)), np.zeros((3, 40, 56)), "3 masks are given for 2 objects"),
        (np.full((40, 56), np.inf), np.zeros((2, 40, 56)), "infinite"),
    ],
)
def test_a_given_frame_that_does_not_fit_is_refused(segmenter, image, masks, told):
    tracker = Tracker(segmenter, "bank_only")
    tracker.start(support(), WINDOW)
    with pytest.raises(InputError, match=told):
        tracker.anchor(image, masks)


# Training

BY_DESIGN_WITHOUT_GRADIENT = {
    "sam_prompt_encoder.point_embeddings": "there are no clicks",
    "sam_prompt_encoder.mask_downscaling": "a mask is a prompt only where it is given",
    "mask_downsample": "a mask is a prompt only where it is given",
    "output_hypernetworks_mlps.1": "only the single mask is used",
    "output_hypernetworks_mlps.2": "only the single mask is used",
    "output_hypernetworks_mlps.3": "only the single mask is used",
    "no_mem_pos_enc": "the package's own code reads it only without directly_add_no_mem_embed",
    "no_mem_embed": "with a proxy prompt no frame stands alone",
}


def test_gradients_reach_every_trained_parameter_through_a_clip():
    torch.manual_seed(0)
    model = build_model("sam2-compact").train()
    backbone = model.backbone
    clip, pairs = torch.rand(3, 3, 128, 128), torch.rand(2, 3, 128, 128)
    masks = torch.zeros(2, 2, 128, 128)
    masks[:, 0, 20:60, 20:70] = 1
    masks[:, 1, 60:110, 50:100] = 1
    given = model.prepare(pairs, masks, ("a", "b"))
    features = backbone.encode(clip)
    with torch.no_grad():
        # One object present and one absent, because both leave other things in the memory.
        first = features.select([0])
        score = backbone.decode(first, model.generator.prompt(first, given)).presence[0]
        backbone.sam2.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.sub_(score.mean())
    loss, bank = torch.zeros(()), []
    for frame in range(3):
        current = features.select([frame])
        prompt = model.generator.prompt(current, given)
        if frame == 1:  # as training does now and then
            prompt = replace(prompt, dense=None)
        decoded = backbone.decode(current, prompt, bank, frame)
        if frame == 0:
            assert decoded.presence.min() < 0 < decoded.presence.max()
        bank.append(backbone.remember(current, decoded, frame))
        weight = torch.randn_like(decoded.logits)
        loss = loss + (decoded.logits * weight).mean() + decoded.presence.sum() + decoded.quality.sum()
        loss = loss + prompt.prior.square().mean()
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    unexpected = [name for name in without if not any(part in name for part in BY_DESIGN_WITHOUT_GRADIENT)]
    assert not unexpected, f"no gradient reaches {unexpected}"
    for part in BY_DESIGN_WITHOUT_GRADIENT:
        assert any(part in name for name in without), f"{part} has a gradient; take it off the list"
    # The unused mask tokens share a parameter with the used one, and the decoder's tokens attend to each other.
    assert backbone.sam2.sam_mask_decoder.mask_tokens.weight.grad[0].any()


@pytest.mark.parametrize("mode", list(TrackingMode))
def test_a_mode_is_written_as_its_word_in_sentences_and_in_json(mode):
    assert f"{mode}" == str(mode) == mode.value and json.dumps({"mode": mode}) == f'{{"mode": "{mode.value}"}}'
    assert TrackingMode(mode.value) is mode
