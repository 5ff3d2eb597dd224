"""The tracker: causal, streaming, bounded; frames that cannot be used leave no trace."""

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
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.tracking.tracker import FramePrediction, Tracker, TrackingMode
from ProxyPromptSegmentLib.tracking.volume import track_volume
from tracking_doubles import (
    FIELDS,
    JUMPS,
    STAYS,
    WINDOW,
    assert_same,
    corner_mask,
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


@pytest.mark.parametrize("mode", list(TrackingMode))
def test_a_mode_is_written_as_its_word_in_sentences_and_in_json(mode):
    assert f"{mode}" == str(mode) == mode.value and json.dumps({"mode": mode}) == f'{{"mode": "{mode.value}"}}'
    assert TrackingMode(mode.value) is mode
