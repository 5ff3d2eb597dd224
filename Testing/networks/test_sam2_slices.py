"""SAM 2 as a segmenter of slices."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.values import presence_of
from sam2_package import add_to_score, enliven
from slice_cases import stack, support


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = build_model("sam2-compact").eval()
    enliven(made.backbone)
    return made


def test_a_stack_is_segmented_slice_by_slice_and_presence_is_the_decoders_objectness(model):
    segmenter = Segmenter(model, batch=2)
    images, prepared = stack(3), segmenter.prepare(support(seed=0))
    before = segmenter.segment(images, prepared)
    assert before.probability.shape == (3, 2, 40, 56)
    assert before.done.all()
    assert np.ptp(before.probability) > 1e-2
    encoded = segmenter.encode(images, (float(images.min()), float(images.max())))
    add_to_score(model.backbone, 1.5)
    after = segmenter.segment(images, prepared)

    def logit(p):
        return np.log(p / (1 - p))

    np.testing.assert_allclose(logit(after.presence) - logit(before.presence), 1.5, atol=1e-4)
    np.testing.assert_array_equal(after.probability, before.probability)
    with torch.inference_mode():
        answer, prompt = model.predict(encoded.features, prepared)
    assert prompt.presence is None
    assert presence_of(answer, prompt) is answer.presence
    assert answer.presence.shape == (3, 2)


def test_an_object_that_the_decoder_does_not_see_is_not_shown(model):
    images, given = stack(2), support(seed=0)
    add_to_score(model.backbone, 30)
    shown = Segmenter(model, across_slices=False).segment(images, given)
    add_to_score(model.backbone, -60)
    hidden = Segmenter(model, across_slices=False).segment(images, given)
    np.testing.assert_allclose(shown.presence, 1, atol=1e-6)
    np.testing.assert_allclose(hidden.presence, 0, atol=1e-6)
    assert shown.masks().any()
    assert not hidden.masks().any()


def test_slices_in_batches_and_from_a_cache_are_slices_alone(model):
    images, cache = stack(4), {}
    alone = Segmenter(model, batch=1).segment(images, support(seed=0))
    for made in (
        Segmenter(model, batch=3).segment(images, support(seed=0), encoded=cache),
        Segmenter(model, batch=4).segment(images, support(seed=0), encoded=cache),
    ):
        for field in ("probability", "presence", "quality"):
            np.testing.assert_allclose(getattr(made, field), getattr(alone, field), atol=1e-4)


def test_images_are_squashed_for_the_official_weights_and_letterboxed_for_the_compact_ones(model, monkeypatch):
    segmenter = Segmenter(model)
    assert segmenter.letterbox((40, 56)).valid == (91, 128)
    monkeypatch.setattr(model.backbone, "name", "sam2.1-hiera-tiny")
    assert segmenter.letterbox((40, 56)).valid == (128, 128)
    assert segmenter.encode(stack(1)).features.valid.all()
