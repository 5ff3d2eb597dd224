"""Evidence about a prediction, and presence and confidence estimated from it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import random_features, tiny_config, tiny_model
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, PRESENCE, QUALITY, Calibration, resemblance, terms
from ProxyPromptSegmentLib.inference.evidence import evidence_of, expected_dice, prior_agreement
from ProxyPromptSegmentLib.inference.likeness import coarse, distances
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, PreparedSupport, Prompt
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.weights import registry

FITTED = Calibration(
    presence={"offset": 1.0, "presence": 0.5},
    quality={"offset": 0.1, "overlap": 0.4, "agreement": 0.3, "iou": 0.2, "presence": 0.1},
    unlike=9.0,
)
KNOWN = {"presence": 2.0, "iou": 0.8, "overlap": 0.9, "agreement": 0.7, "distance": 8.0}


def evidence(**changed):
    return np.array([{**KNOWN, **changed}[name] for name in EVIDENCE], np.float32)


def logit(share):
    return np.log(share / (1 - share))


def logistic(value):
    return 1 / (1 + np.exp(-value))


def test_presence_and_quality_are_the_formulas_of_the_docstring():
    presence = logistic(1 + 0.5 * 2) * logistic(20 * np.log(9 / 8))
    quality = logistic(0.1 + 0.4 * logit(0.9) + 0.3 * logit(0.7) + 0.2 * logit(0.8) + 0.1 * 2)
    assert FITTED.presence_of(evidence()) == pytest.approx(presence, abs=1e-6)
    assert FITTED.quality_of(evidence()) == pytest.approx(quality, abs=1e-6)
    stacked = np.stack([[evidence(), evidence(distance=9.5)], [evidence(presence=-3), evidence(distance=50)]])
    found = FITTED.presence_of(stacked)
    assert found.shape == (2, 2) and (found[0, 0] > [*found[0, 1:], *found[1]]).all()


def test_resemblance_is_sure_nearby_and_gone_far_away():
    found = resemblance(np.array([0.0, 4.5, 8.0, 9.0, 10.0, 18.0], np.float32), 9.0)
    np.testing.assert_allclose(
        found, [1, 1, logistic(20 * np.log(9 / 8)), 0.5, logistic(20 * np.log(0.9)), 0], atol=1e-5
    )
    assert (np.diff(found) <= 0).all()


def test_extreme_evidence_gives_finite_terms():
    ends = [evidence(presence=v, iou=q, overlap=q, agreement=q, distance=d)
            for v, q, d in ((-1e4, 0.0, 0.0), (1e4, 1.0, 1e6))]  # fmt: skip
    for names in (PRESENCE, QUALITY):
        assert np.isfinite(terms(np.stack(ends), names)).all()
    assert np.isfinite(FITTED.presence_of(np.stack(ends))).all()


@pytest.mark.parametrize(
    "wrong", [{"presence": {"offset": 1.0}}, {"quality": {**FITTED.quality, "more": 1.0}}, {"unlike": "x"}]
)
def test_a_calibration_that_is_not_complete_is_refused_with_what_it_needs(wrong):
    with pytest.raises(CheckpointError, match="needs exactly|must be a number"):
        Calibration.from_dict({**FITTED.to_dict(), **wrong})
    assert Calibration.from_dict(json.loads(json.dumps(FITTED.to_dict()))) == FITTED


def test_a_decided_mask_expects_more_of_itself_than_an_undecided_one():
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 5:15, 5:15] = 1.0
    assert float(expected_dice(mask)) == pytest.approx(1.0)
    undecided = mask.clone()
    undecided[..., 5:15, 5] = 0.6
    undecided[..., 5:15, 15] = 0.4
    expected = 2 * (90 + 6) / (90 + 6 + 4 + 100)
    assert float(expected_dice(undecided)) == pytest.approx(expected)
    assert float(expected_dice(0.4 * mask)) == 0.0


def test_a_prediction_agrees_with_a_prior_of_its_own_shape():
    prior = torch.zeros(1, 1, 4, 4)
    prior[..., 1:3, 1:3] = 1.0
    same = prior.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert float(prior_agreement(prior, same)) == pytest.approx(1.0)
    assert float(prior_agreement(prior, same.roll(8, 3))) == pytest.approx(0.0, abs=1e-6)
    assert float(prior_agreement(0 * prior, 0 * same)) == 0.0


def a_support(features, images):
    config = tiny_config()
    side = config.grid
    top = features.top[images]
    return PreparedSupport(
        features=top.flatten(2),
        aggregated=torch.zeros(len(images), 1, config.channels, side * side),
        occupancy=torch.ones(len(images), 1, side * side),
        valid=features.valid[images].flatten(1),
        names=("gland",),
    )


def test_an_image_is_at_distance_zero_from_itself_and_nearer_to_what_is_like_it():
    features = random_features(3, tiny_config())
    features.top[1] = features.top[0] + 0.1 * features.top[2]
    found = distances(features.select([0]), a_support(features, [0, 1, 2]))
    assert found.shape == (1, 3)
    assert float(found[0, 0]) == pytest.approx(0.0, abs=2e-2)
    assert float(found[0, 1]) < 0.7 * float(found[0, 2])


def test_padding_counts_neither_in_the_target_nor_in_the_support():
    features = random_features(2, tiny_config())
    valid = features.valid.clone()
    valid[:, 4:] = False
    cut = ImageFeatures(top=features.top, positions=features.positions, valid=valid)
    expected = distances(cut.select([0]), a_support(cut, [1]))
    noisy = features.top.clone()
    noisy[:, :, 4:] = 1e3
    padded = ImageFeatures(top=noisy, positions=features.positions, valid=valid)
    torch.testing.assert_close(distances(padded.select([0]), a_support(padded, [1])), expected)
    means, covered = coarse(padded.top, padded.valid)
    assert means.shape[:2] == covered.shape and covered.float().mean() == 0.5


def a_prediction(features, prior=True):
    side = features.top.shape[-1]
    logits = torch.full((len(features.top), 1, 32, 32), -4.0)
    logits[:, :, 8:24, 8:24] = 4.0
    decoded = Decoded(logits=logits, quality=torch.full((len(logits), 1), 1.3))
    shown = torch.full((len(logits), 1, side, side), 0.25) if prior else None
    return decoded, Prompt(presence=torch.full((len(logits), 1), 2.5), prior=shown, names=("gland",))


def test_evidence_has_a_column_for_each_name_and_nan_for_what_a_network_lacks():
    features = random_features(3, tiny_config())
    support = a_support(features, [1, 2])
    found = evidence_of(*a_prediction(features), features, distances(features, support).amin(dim=1))
    assert found.shape == (3, 1, len(EVIDENCE)) and found.dtype == np.float32
    column = dict(zip(EVIDENCE, found[:, 0].T, strict=True))
    np.testing.assert_allclose(column["presence"], 2.5)
    np.testing.assert_allclose(column["iou"], 1.0)
    assert column["distance"][1] == pytest.approx(0, abs=2e-2) and column["distance"][0] > 1
    assert (column["overlap"] > 0.9).all() and (column["agreement"] > 0).all()
    lacking = evidence_of(*a_prediction(features, prior=False), features, None)
    assert np.isnan(lacking[0, 0]).tolist() == [name in ("agreement", "distance") for name in EVIDENCE]


@pytest.fixture(scope="module")
def asked():
    """A segmenter with random weights, images, and a support."""
    rng = np.random.default_rng(0)
    model = tiny_model(prompt="both", mask_prior=True, presence=True, positions="sam_dense")
    images = rng.normal(100, 20, (3, 64, 64)).astype(np.float32)
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[:, 20:40, 20:40] = 1
    pairs = tuple(
        SupportPair(rng.normal(100, 20, (64, 64)).astype(np.float32), mask, (1.0, 1.0), (0, 200)) for _ in "ab"
    )
    return Segmenter(model), images, SupportSet(pairs, ("gland",))


def test_without_a_calibration_presence_and_quality_are_the_networks_own(asked):
    segmenter, images, support = asked
    result = segmenter.segment(images, support)
    np.testing.assert_allclose(result.presence[:, 0], logistic(result.evidence[:, 0, 0]), rtol=1e-5)
    np.testing.assert_allclose(result.quality[:, 0], result.evidence[:, 0, 1] * result.presence[:, 0], rtol=1e-6)


def test_with_a_calibration_they_are_its_own_and_the_masks_own_probability_stays(asked):
    segmenter, images, support = asked
    plain = segmenter.segment(images, support)
    fitted = Segmenter(segmenter.model, calibration=FITTED).segment(images, support)
    np.testing.assert_array_equal(fitted.probability, plain.probability)
    np.testing.assert_array_equal(fitted.evidence, plain.evidence)
    np.testing.assert_allclose(fitted.presence, FITTED.presence_of(plain.evidence), rtol=1e-6)
    np.testing.assert_allclose(fitted.quality, FITTED.quality_of(plain.evidence), rtol=1e-6)
    assert np.abs(fitted.presence - plain.presence).max() > 0.01


def test_a_network_that_lacks_evidence_keeps_its_own_presence(asked):
    _, images, support = asked
    model = tiny_model(prompt="both", mask_prior=False, presence=True, positions="sam_dense")
    plain, fitted = (Segmenter(model, calibration=one).segment(images, support) for one in (None, FITTED))
    np.testing.assert_array_equal(fitted.presence, plain.presence)


def test_the_calibration_of_weights_is_found_by_their_hash_whatever_their_name(tmp_path, monkeypatch):
    models = [{"name": "one", "file": "one.safetensors", "sha256": "ab" * 32, "calibration": FITTED.to_dict()}]
    models.append({"name": "two", "file": "two.safetensors", "sha256": "cd" * 32})
    (tmp_path / "registry.json").write_text(json.dumps({"format": 2, "models": models}), encoding="utf-8")
    monkeypatch.setattr(registry, "models_folder", lambda: tmp_path)
    assert loading.calibration_of("AB" * 32) == FITTED
    assert loading.calibration_of("cd" * 32) is None
    entry = registry.find("one")
    assert Calibration.from_dict(entry.to_dict()["calibration"]) == FITTED
    assert replace(entry, name="three").calibration == entry.calibration and hash(entry)
