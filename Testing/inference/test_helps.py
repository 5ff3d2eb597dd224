"""What is known of slices beside their images: it reaches the network, slice by slice, and is ignored by others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, EchoModel, tiny_model
from ProxyPromptSegmentLib.inference.helps import Helps, HelpsUsed, mask_logits
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.letterbox import Letterbox
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.support.registration.prior import Registered

DEPTHS = np.linspace(-1, 1, 5, dtype=np.float32)


def stack(count=5, shape=(40, 56)):
    images = np.random.default_rng(0).uniform(0, 60, (count, *shape)).astype(np.float32)
    for number in range(count):
        images[number, 8 + number : 24 + number, 10 : 30 + number] += 100
    return images


def support(depths=(-0.5, 0.5)):
    masks = np.zeros((1, 40, 56), np.uint8)
    masks[0, 8:24, 10:30] = 1
    pairs = [SupportPair(i, masks, (1.0, 1.0), (0, 160), depth=d) for i, d in zip(stack(2), depths, strict=True)]
    return SupportSet(tuple(pairs), ("box",))


def a_prior():
    """A box on the slices 1 to 3."""
    prior = np.zeros((5, 1, 40, 56), np.float32)
    prior[1:4, 0, 10:30, 10:40] = 0.9
    return prior


@pytest.fixture(scope="module")
def segmenter():
    model = tiny_model(**EVERYTHING, depth=True)
    with torch.no_grad():
        model.generator.depth_scale.fill_(3.0)
    return Segmenter(model, "cpu", batch=2)


def test_positions_decide_which_supports_are_read(segmenter):
    plain = segmenter.segment(stack(), support())
    known = segmenter.segment(stack(), support(), helps=Helps(depths=DEPTHS))
    assert np.abs(plain.probability - known.probability).max() > 1e-4
    turned = segmenter.segment(stack(), support((0.5, -0.5)), helps=Helps(depths=-DEPTHS))
    np.testing.assert_allclose(turned.probability, known.probability, atol=1e-5)


def test_a_support_without_position_makes_all_positions_unknown(segmenter):
    plain = segmenter.segment(stack(), support())
    mixed = segmenter.segment(stack(), support((0.5, None)), helps=Helps(depths=DEPTHS))
    np.testing.assert_allclose(mixed.probability, plain.probability, atol=1e-6)


def test_a_prior_can_be_read_as_a_mask_prompt(segmenter):
    plain = segmenter.segment(stack(), support())
    known = segmenter.segment(stack(), support(), helps=Helps(prior=a_prior(), as_prompt=True, joined_with=0))
    assert np.abs(plain.probability - known.probability).max() > 1e-4


def test_a_prior_is_joined_with_the_prediction_in_log_odds(segmenter):
    def odds(values):
        return np.log(values / (1 - values))

    plain = segmenter.segment(stack(), support()).probability
    known = segmenter.segment(stack(), support(), helps=Helps(prior=a_prior(), joined_with=0.5)).probability
    shares = np.clip(a_prior(), 0.02, 0.98)
    np.testing.assert_allclose(odds(known), odds(plain) + 0.5 * odds(shares), atol=1e-2)
    still = segmenter.segment(stack(), support(), helps=Helps(prior=a_prior(), joined_with=0)).probability
    np.testing.assert_array_equal(still, plain)


def test_every_slice_has_its_own_position_and_prior_whatever_the_batches_and_the_order(segmenter):
    helps = Helps(depths=DEPTHS, prior=a_prior(), as_prompt=True)
    together = segmenter.segment(stack(), support(), helps=helps)
    alone = Segmenter(segmenter.model, "cpu", batch=1).segment(stack(), support(), slices=[3, 0, 1], helps=helps)
    np.testing.assert_allclose(alone.probability[[0, 1, 3]], together.probability[[0, 1, 3]], atol=1e-5)


def test_cached_embeddings_know_no_position(segmenter):
    cache = {}
    known = segmenter.segment(stack(), support(), encoded=cache, helps=Helps(depths=DEPTHS))
    assert all(one.features.depth is None for one in cache.values())
    again = segmenter.segment(stack(), support(), encoded=cache)
    plain = segmenter.segment(stack(), support())
    np.testing.assert_allclose(again.probability, plain.probability, atol=1e-6)
    assert np.abs(again.probability - known.probability).max() > 1e-4


def test_a_prepared_pair_is_the_same_alone_and_in_a_support(segmenter):
    whole = segmenter.prepare(support())
    np.testing.assert_allclose(whole.depth.numpy(), [-0.5, 0.5])
    parts = [
        segmenter.prepare_embedded(pair, ("box",), segmenter.encode(pair.image[None], pair.window, pair.spacing_mm))
        for pair in support().pairs
    ]
    np.testing.assert_allclose(parts[0].concatenate(parts).depth.numpy(), whole.depth.numpy())


@pytest.mark.parametrize("model", [tiny_model(**EVERYTHING), EchoModel()])
def test_a_model_without_the_coordinate_ignores_both(model):
    segmenter = Segmenter(model, "cpu", batch=2)
    assert not segmenter.reads_depth
    assert not segmenter.reads_prior
    plain = segmenter.segment(stack(), support())
    known = segmenter.segment(
        stack(), support(), helps=Helps(depths=DEPTHS, prior=a_prior(), as_prompt=True, joined_with=0)
    )
    np.testing.assert_array_equal(plain.probability, known.probability)


def test_the_mask_prompt_lies_where_the_prior_lies_and_expects_nothing_in_the_padding():
    prior = np.zeros((1, 2, 50, 100), np.float32)
    prior[0, 0, 25:, :50] = 1.0
    prior[0, 1] = 0.5
    logits = mask_logits(prior, Letterbox(64, (50, 100)), 32)
    assert logits.shape == (1, 2, 32, 32)
    assert (logits[0, 0, 9:15, 1:15] > 6).all()
    assert (logits[0, 0, :7] < -6).all()
    assert (logits[0, 0, 9:15, 17:] < -6).all()
    assert (logits[0, :, 17:] < -6).all()  # the slice fills the upper half
    assert logits[0, 1, 1:15].abs().max() < 1e-4
    assert torch.isfinite(logits).all()


def test_what_was_used_is_said_in_a_sentence():
    one = Registered(name="old", similarity=0.4, deformed=True, seconds=1.0)
    assert HelpsUsed().sentence == ""
    assert "position" in HelpsUsed(position=True).sentence
    both = HelpsUsed(position=True, registered=(one, replace(one, name="odd", problem="it is strange")))
    assert both.names == ("old",)
    assert "(old)" in both.sentence
    assert "odd" not in both.sentence
