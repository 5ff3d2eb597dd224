"""Fitting presence and confidence: what it is fitted on, what it finds, and where it is stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from broad_cases import BRIGHT, BroadFolder, spots, square
from command_cases import InContextModel
from ProxyPromptSegmentLib.commands import calibrate
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.calibrating import (
    MARGIN,
    OWN_PRESENCE,
    cross_validated,
    fit,
    judged,
    reliability,
    summary,
)
from ProxyPromptSegmentLib.evaluation.calibration_data import MOST_SLICES, Kind, Sample, collect, few_slices
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, Calibration
from ProxyPromptSegmentLib.inference.loading import LoadedModel
from ProxyPromptSegmentLib.inference.results import ModelFacts
from ProxyPromptSegmentLib.inference.segmenter import Segmenter


class PriorModel(InContextModel):
    """An in-context model whose prior is its own mask."""

    def predict(self, features, support, chosen=None):
        decoded, prompt = super().predict(features, support, chosen)
        prompt.prior = torch.sigmoid(decoded.logits)
        return decoded, prompt


def samples(count=1500, seed=0):
    """Samples of a network that thinks everything present, and whose doubt shows in the overlap of its masks."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        kind = (Kind.SAME, Kind.SAME, Kind.SISTER, Kind.STRANGER, Kind.EMPTIED)[n % 5]
        shown = kind in (Kind.SAME, Kind.SISTER) and rng.random() < 0.7
        good = rng.beta(4, 1.5)
        known = {
            "presence": rng.normal(4.0 if shown or kind is Kind.STRANGER else 2.0, 0.4),
            "iou": rng.uniform(0.4, 0.9),
            "overlap": np.clip(0.5 + 0.5 * good + rng.normal(0, 0.03), 0.01, 0.99),
            "agreement": np.clip(good + rng.normal(0, 0.2), 0.01, 0.99),
            "distance": rng.normal(24 if kind is Kind.STRANGER else 8, 0.8),
        }
        dice = float(np.clip(good + rng.normal(0, 0.05), 0, 1)) if shown else 0.0
        evidence = np.array([known[name] for name in EVIDENCE], np.float32)
        place = {"dataset": f"set{n % 3}", "unit": f"p{n % 30}", "object": "gland"}
        found.append(Sample(kind=kind, evidence=evidence, shown=shown, drawn=True, dice=dice, **place))
    return found


@pytest.fixture(scope="module")
def drawn():
    return samples()


def test_a_fit_refuses_strangers_and_emptied_masks_that_the_network_draws_and_keeps_what_is_there(drawn):
    own, better = (summary(judged(drawn, one)) for one in (None, fit(drawn)))
    assert own["refused, another organ"] < 0.05 and own["refused, emptied masks"] < 0.05
    assert better["refused, another organ"] > 0.95 and better["refused, emptied masks"] > 0.95
    assert better["kept, same set"] > 0.95 and better["kept, sister set"] > 0.95
    assert better["ece_of_presence"] < 0.1 < own["ece_of_presence"]


def test_confidence_ranks_better_after_the_fit_and_no_worse_on_patients_it_was_not_fitted_on(drawn):
    ways = (judged(drawn, None), judged(drawn, fit(drawn)), cross_validated(drawn))
    own, better, held = (summary(one) for one in ways)
    assert own["spearman_drawn"] < 0.5 < better["spearman_drawn"]
    assert held["spearman_drawn"] == pytest.approx(better["spearman_drawn"], abs=0.05)
    assert held["samples"] == len(drawn) and set(held["by_set"]["spearman"]) == {f"set{n}, gland" for n in range(3)}


def test_more_of_what_speaks_for_a_mask_never_means_less_even_if_the_samples_say_otherwise(drawn):
    column = EVIDENCE.index("overlap")
    turned = [Sample(**{**vars(one), "evidence": one.evidence.copy()}) for one in drawn]
    for one in turned:
        one.evidence[column] = 1.0 - one.evidence[column]
    assert fit(turned).quality["overlap"] == 0 and fit(drawn).quality["overlap"] > 0.3
    found = fit(drawn)
    assert min(value for name, value in {**found.quality, **found.presence}.items() if name != "offset") >= 0


def test_unlike_is_far_beyond_every_fitting_support(drawn):
    near = [one.evidence[-1] for one in drawn if one.kind in (Kind.SAME, Kind.SISTER) and one.shown]
    assert fit(drawn).unlike == pytest.approx(MARGIN * max(near), abs=1e-3)


def test_the_networks_own_presence_is_kept_if_it_is_right_on_volumes_though_single_images_always_show_the_object():
    rng, made = np.random.default_rng(1), []
    for n, one in enumerate(samples()):
        single = n % 3 == 0
        if one.kind is Kind.SAME and (not single or n % 45 == 0):
            chance = 0.5 if single else rng.choice([0.05, 0.3, 0.7, 0.95])
            one.evidence[0] = np.log(chance / (1 - chance))
            made.append(Sample(**{**vars(one), "shown": single or bool(rng.random() < chance)}))
    assert fit(made).presence == OWN_PRESENCE
    for one in made:
        one.evidence[0] -= 3.0
    assert fit(made).presence != OWN_PRESENCE


def test_too_few_samples_and_networks_without_evidence_are_refused(drawn):
    with pytest.raises(InputError, match="not enough"):
        fit([one for one in drawn if one.shown])
    with pytest.raises(InputError, match="no presence or no mask prior"):
        fit([Sample(**{**vars(one), "evidence": one.evidence * np.nan}) for one in drawn])


def test_reliability_compares_presence_with_what_is_shown():
    presence = np.array([0.05, 0.05, 0.95, 0.95], np.float32)
    error, bins = reliability(presence, np.array([False, False, True, False]))
    assert [(one["count"], one["shown"]) for one in bins] == [(2, 0.0), (2, 0.5)]
    assert error == pytest.approx((2 * 0.05 + 2 * 0.45) / 4, abs=1e-4)


def test_long_volumes_are_sampled_evenly():
    images = np.arange(40, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    case = Case(
        dataset="x", patient="p", images=images, masks=np.ones((40, 1, 4, 4), np.uint8), objects=("o",), spacing_mm=None
    )
    kept = few_slices(case).images[:, 0, 0]
    assert len(kept) == MOST_SLICES and kept[0] == 1 and kept[-1] == 38 and set(np.diff(kept)) <= {2, 3}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> BroadFolder:
    """Prostates, two sets of chests that are sisters, and strangers."""
    monkeypatch.setitem(splits.COUNTS, "promise12", (3, 2))
    made = BroadFolder(tmp_path / "data")
    for n in range(6):
        made.add_volume("promise12", f"case{n}", square(BRIGHT, seed=n))
    for n in range(12):
        made.add_picture("jtsc_wbc", f"i{n}", spots((180,), n), "1 nucleus", "train")
        made.add_picture("shenzhen_cxr", f"i{n}", spots((120,), n), "1 lungs", "train")
        made.add_picture("montgomery_cxr", f"i{n}", spots((120,), n), "1 lungs", "train")
    return made


def test_samples_come_from_the_same_set_from_sisters_from_strangers_and_with_emptied_masks(folder):
    found = collect(Segmenter(PriorModel(), "cpu"), folder.path, "validation", 2)
    assert {one.kind for one in found} == set(Kind)
    sisters = {one.dataset for one in found if one.kind is Kind.SISTER}
    assert sisters == {"montgomery_cxr", "shenzhen_cxr"}
    for one in found:
        assert np.isfinite(one.evidence).all()
        assert not (one.shown and one.kind in (Kind.STRANGER, Kind.EMPTIED))
    assert any(one.shown for one in found if one.kind is Kind.SAME and one.dataset == "promise12")
    emptied = [one.evidence[EVIDENCE.index("distance")] for one in found if one.kind is Kind.EMPTIED]
    same = [one.evidence[EVIDENCE.index("distance")] for one in found if one.kind is Kind.SAME]
    np.testing.assert_allclose(sorted(emptied), sorted(same), rtol=1e-4)


@pytest.fixture
def known(monkeypatch) -> str:
    """The double is loaded for every name; returns the hash that its weights have."""
    facts = ModelFacts(name="double", sha256="ab" * 32, path=Path("double.safetensors"))
    loaded = LoadedModel(segmenter=Segmenter(PriorModel(), "cpu"), facts=facts)
    monkeypatch.setattr(loading, "load", lambda model, device: loaded)
    return facts.sha256


def test_the_command_fits_prints_and_writes_the_coefficients_beside_the_hash(folder, known, tmp_path, capsys):
    registry = tmp_path / "registry.json"
    known_and_other = (("a", known), ("b", "cd" * 32))
    models = [{"name": name, "file": f"{name}.safetensors", "sha256": digest} for name, digest in known_and_other]
    registry.write_text(json.dumps({"format": 2, "models": models}), encoding="utf-8")
    words = ["--data", str(folder.path), "--supports", "2", "--out", str(tmp_path / "found.json")]
    assert calibrate.main([*words, "--registry", str(registry)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert {"own", "cross_validated", "calibration"} <= printed.keys()
    first, second = json.loads(registry.read_text("utf-8"))["models"]
    assert Calibration.from_dict(first["calibration"]).to_dict() == printed["calibration"]
    assert second == models[1]
    assert calibrate.main([*words[:4], "--part", "test"]) == 0
    assert "calibration" not in json.loads(capsys.readouterr().out)


def test_a_registry_without_the_weights_is_refused(folder, known, tmp_path, capsys):
    registry = tmp_path / "registry.json"
    registry.write_text('{"format": 2, "models": []}', encoding="utf-8")
    words = ["--data", str(folder.path), "--supports", "2", "--registry", str(registry)]
    assert calibrate.main(words) == 7
    assert "has no model with the SHA-256 abababababab" in capsys.readouterr().err
    assert registry.read_text("utf-8") == '{"format": 2, "models": []}'
