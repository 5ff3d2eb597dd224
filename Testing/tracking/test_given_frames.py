"""SAM 2 alone: without a proxy prompt the tracker follows frames whose masks are given."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.networks.letterbox import masks_to_tensor
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from tracking_doubles import WINDOW, difference, follow, support, sweep


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
