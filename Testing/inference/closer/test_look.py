"""The second look at small structures: finer where both agree, ignored where they do not, and the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, tiny_model
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.closer.choice import WEIGHT, crop_around
from ProxyPromptSegmentLib.inference.helps import Helps
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.worker.tasks import LiveTask, SegmentTask
from tile_cases import PerfectModel
from worker_doubles import Talk, an_engine

SHAPE, WINDOW = (512, 480), (0.0, 100.0)


def star(middle, radius=30, shape=SHAPE):
    """A shape with fine detail, uint8 ``(H, W)``."""
    rows, columns = np.indices(shape)
    down, right = rows - middle[0], columns - middle[1]
    angle = np.arctan2(down, right)
    return (np.hypot(down, right) <= radius * (0.75 + 0.25 * np.sign(np.sin(9 * angle)))).astype(np.uint8)


def pair(mask, *others):
    return SupportPair(100.0 * mask.astype(np.float32), np.stack([mask, *others]), (1.0, 1.0), WINDOW)


STARS = np.stack([star((200, 150)), star((300, 260)), np.zeros(SHAPE, np.uint8)])
IMAGES = 100.0 * STARS.astype(np.float32)
SUPPORT = SupportSet((pair(star((250, 200))),), ("star",))


@pytest.fixture
def segmenter():
    return Segmenter(PerfectModel(), "cpu", batch=2)


def found(segmenter, **options):
    return segment_stack(segmenter, IMAGES, SUPPORT, WINDOW, **options)


def test_fine_detail_of_a_small_structure_is_found_by_looking_closer(segmenter):
    plain, closer = found(segmenter, closer=False), found(segmenter)
    before, after = (dice(STARS[:2], result.masks()[:2, 0]) for result in (plain, closer))
    assert before < 0.93
    assert after > before + 0.02
    assert closer.done.all() and not closer.cancelled
    for field in ("presence", "quality", "evidence"):
        np.testing.assert_array_equal(getattr(closer, field), getattr(plain, field))


def test_outside_the_crop_and_where_nothing_was_found_everything_stays(segmenter):
    plain, closer = found(segmenter, closer=False), found(segmenter)
    crop = crop_around(plain.probability[0, 0] > 0.5, (1.0, 1.0))
    outside = np.ones(SHAPE, bool)
    outside[crop] = False
    np.testing.assert_array_equal(closer.probability[0, 0][outside], plain.probability[0, 0][outside])
    np.testing.assert_array_equal(closer.probability[2], plain.probability[2])


def test_an_object_that_is_not_found_from_close_by_is_left_as_it_was(segmenter, monkeypatch):
    plain = found(segmenter, closer=False)
    decode = segmenter.model.backbone.decode

    def blind_from_close_by(features, prompt):
        decoded = decode(features, prompt)
        near = features.top.mean() > 0.05  # an enlarged structure fills more of the picture
        return replace(decoded, logits=decoded.logits - 60) if near else decoded

    monkeypatch.setattr(segmenter.model.backbone, "decode", blind_from_close_by)
    np.testing.assert_array_equal(found(segmenter).probability, plain.probability)


def test_both_looks_are_joined_with_their_weights(segmenter, monkeypatch):
    plain = found(segmenter, closer=False)
    predict = segmenter.predict
    seen = []

    def watched(encoded, support, *more, **options):
        answers = predict(encoded, support, *more, **options)
        seen.append(answers[0].probability)
        return answers

    monkeypatch.setattr(segmenter, "predict", watched)
    closer = found(segmenter)
    crop = crop_around(plain.probability[0, 0] > 0.5, (1.0, 1.0))
    near = next(one for one in seen if one.shape[1:] == plain.probability[0, 0][crop].shape)
    expected = (1 - WEIGHT) * plain.probability[0, 0][crop] + WEIGHT * near[0]
    np.testing.assert_allclose(closer.probability[0, 0][crop], expected, atol=1e-6)


def test_what_was_registered_is_cut_with_the_image(segmenter):
    prior = np.zeros((3, 1, *SHAPE), np.float32)
    prior[0, 0, 190:210, 140:160] = 1
    helps = Helps(prior=prior, joined_with=30.0)  # so heavy that the prior alone is drawn
    closer, plain = found(segmenter, helps=helps), found(segmenter, helps=helps, closer=False)
    assert plain.masks()[0, 0].sum() == 400
    assert dice(closer.masks()[0, 0], plain.masks()[0, 0]) > 0.99


def test_objects_of_a_large_slice_share_are_segmented_as_before():
    model = Segmenter(tiny_model(**EVERYTHING), "cpu", batch=1)
    mask = np.zeros((90, 70), np.uint8)
    mask[10:80, 10:60] = 1
    images = np.random.default_rng(0).uniform(0, 100, (2, 90, 70)).astype(np.float32)
    support = SupportSet((SupportPair(images[0], mask[None], (1.0, 1.0), WINDOW),), ("organ",))
    with_look, without = (segment_stack(model, images, support, WINDOW, closer=on) for on in (True, False))
    np.testing.assert_array_equal(with_look.probability, without.probability)


def test_cancelling_between_two_looks_keeps_the_slices_that_are_finished(segmenter, monkeypatch):
    cancel, embedded = CancelToken(), segmenter.embedded
    calls = []

    def cancelling(images, *more):
        calls.append(images.shape)
        if len(images) == 1:  # the crop of the first slice
            cancel.cancel()
        return embedded(images, *more)

    monkeypatch.setattr(segmenter, "embedded", cancelling)
    result = found(segmenter, cancel=cancel)
    assert result.cancelled
    assert result.done.tolist() == [True, False, False]
    assert not result.probability[1].any() and not result.presence[1].any()


def test_a_failure_in_a_look_leaves_no_slice_half_done(segmenter, monkeypatch):
    from ProxyPromptSegmentLib.inference.closer.look import CloserLook

    into, results = CloserLook.into, []

    def failing(self, result, images, index, *more):
        results.append(result)
        if index == 1:
            raise RuntimeError("out of memory")
        into(self, result, images, index, *more)

    monkeypatch.setattr(CloserLook, "into", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        found(segmenter)
    assert results[0].done.tolist() == [True, False, False]


def volume_of(masks):
    geometry = VolumeGeometry((SHAPE[1], SHAPE[0], len(masks)), (0.5, 0.5, 3.0))
    return Volume(100.0 * masks.astype(np.float32), geometry), Segmentation([Segment("star", masks)], geometry)


@pytest.fixture
def job():
    support = SupportCase(*volume_of(np.stack([star((250, 200)), star((240, 210))])))
    return replace(plan([support], volume_of(STARS)[0]), window=WINDOW)


def test_the_engine_looks_closer_as_arrays_are_looked_at_and_says_so(segmenter, job):
    engine, talk = an_engine(segmenter), Talk()
    result = talk.do(SegmentTask(job), engine)
    images, view = job.view.take(job.target.array), job.view
    expected = segment_stack(segmenter, images, job.support, job.window, view.spacing_mm)
    np.testing.assert_array_equal(result.result.probability, expected.probability)
    np.testing.assert_array_equal(talk.masks(result.masks.shape), result.masks)
    assert result.helps.closer == ("star",)
    assert result.helps.sentence == "Used in addition to whole slices: a closer look at star."
    off = Talk().do(SegmentTask(job, closer=False), engine)
    assert off.helps.sentence == "" and np.abs(off.result.probability - expected.probability).max() > 0.1


def test_a_second_run_embeds_no_crop_and_the_live_preview_shows_what_the_run_gives(segmenter, job):
    engine, seen = an_engine(segmenter), segmenter.model.backbone.seen
    result = Talk().do(SegmentTask(job, across_slices=False), engine)
    seen.clear()
    again = Talk().do(SegmentTask(job, across_slices=False, threshold=0.4), engine)
    assert again.masks.any() and seen == []
    live = Talk().do(LiveTask(job, 1), engine)
    np.testing.assert_array_equal(live.masks, result.masks[1])


def test_the_prompt_of_a_look_is_that_of_its_objects_alone(segmenter, monkeypatch):
    """Beside a structure that fills the slice, only the small one is enlarged."""
    large = np.zeros(SHAPE, np.uint8)
    large[20:480, 20:460] = 1
    names = []
    decode = segmenter.model.backbone.decode

    def watched(features, prompt: Prompt):
        names.append(prompt.names)
        return decode(features, prompt)

    monkeypatch.setattr(segmenter.model.backbone, "decode", watched)
    scattered = star((60, 60)) + star((400, 400))
    both = SupportSet((pair(star((250, 200)), scattered),), ("star", "stars"))
    segment_stack(segmenter, IMAGES, both, WINDOW)
    assert names.count(("star",)) == 2 and ("star", "stars") in names
