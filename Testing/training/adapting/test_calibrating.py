"""The calibration of an adapted model: its own where that is better on left-out slices, else that of its parent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from adapt_cases import CALIBRATION, QUICK, checked, write_cases
from ProxyPromptSegmentLib.evaluation.calibrating import judged
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, Calibration
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.training.adapting import calibrating
from ProxyPromptSegmentLib.training.adapting import run as running
from ProxyPromptSegmentLib.training.adapting.calibrating import Value, refitted, rows_of
from ProxyPromptSegmentLib.training.adapting.run import adapt

PARENT = Calibration(
    presence={"offset": 0.0, "presence": 1.0},
    quality={"offset": 0.0, "overlap": 0.3, "agreement": 0.3, "iou": 0.3, "presence": 0.1},
    unlike=1.0,
)


def drawn_rows(count: int, seed: int, shift: float = 0.0, distance: float = 0.2) -> list[tuple[float, ...]]:
    """Rows whose Dice is what a calibration with another offset of quality expects, half of them with an object."""
    rng = np.random.default_rng(seed)
    evidence = np.zeros((count, len(EVIDENCE)), np.float32)
    for name in ("iou", "overlap", "agreement"):
        evidence[:, EVIDENCE.index(name)] = rng.uniform(0.2, 0.98, count)
    evidence[:, EVIDENCE.index("presence")] = rng.normal(0, 3, count) + 4 * (np.arange(count) % 2) - 2
    evidence[:, EVIDENCE.index("distance")] = distance
    truth = replace(PARENT, quality={**PARENT.quality, "offset": shift}).quality_of(evidence)
    rows = []
    for n in range(count):
        shown = bool(n % 2)
        rows.append((0.0, float(shown), 1.0, float(truth[n]) if shown else 0.0, *map(float, evidence[n])))
    return rows


def samples_of(folds):
    return [calibrating._sample(row, "0") for fold in folds for row in fold]


def test_what_a_parent_expects_wrongly_is_fitted_and_is_better_on_new_slices():
    folds = [drawn_rows(40, seed, shift=-2.5) for seed in range(4)]
    found = refitted(folds, PARENT)
    assert found is not None
    new = samples_of([drawn_rows(400, 9, shift=-2.5)])
    mine, before = (calibrating.value_of(judged(new, one)) for one in (found, PARENT))
    assert mine.confidence < before.confidence - 0.05 and mine.rank >= before.rank - 0.01
    assert all(value >= 0 for key, value in found.quality.items() if key != "offset")


def test_a_few_slices_move_a_calibration_less_than_many():
    few = calibrating._quality_moved(samples_of([drawn_rows(10, 1, shift=-2.5)]), PARENT)
    many = calibrating._quality_moved(samples_of([drawn_rows(400, 1, shift=-2.5)]), PARENT)
    assert many.quality["offset"] < few.quality["offset"] < 0


@pytest.mark.parametrize("worse", ["presence", "dice", "confidence", "rank"])
def test_a_part_that_sees_or_expects_worse_on_left_out_slices_is_not_kept(monkeypatch, worse):
    folds = [drawn_rows(40, seed, shift=-2.5) for seed in range(4)]
    parent = Value(presence=0.5, dice=0.5, confidence=0.5, rank=0.5)
    changed = 0.4 if worse in ("dice", "rank") else 0.6
    tried = replace(parent, **{worse: changed})
    values = iter([parent, tried if worse in ("presence", "dice") else parent, tried])
    monkeypatch.setattr(calibrating, "value_of", lambda _: next(values))
    found = refitted(folds, PARENT)
    assert (found.presence == PARENT.presence) == (worse in ("presence", "dice"))
    assert (found.quality == PARENT.quality) == (worse in ("confidence", "rank"))


def test_where_nothing_is_better_nothing_is_kept(monkeypatch):
    parent = Value(presence=0.5, dice=0.5, confidence=0.5, rank=math.nan)
    worse = Value(presence=0.6, dice=0.5, confidence=0.6, rank=0.5)
    values = iter([parent, worse, worse])
    monkeypatch.setattr(calibrating, "value_of", lambda _: next(values))
    assert refitted([drawn_rows(40, seed) for seed in range(2)], PARENT) is None
    assert replace(parent, rank=0.1).expects_at_least(parent)  # a rank that is not known is not compared


def test_presence_that_has_nothing_to_learn_from_is_not_called_fitted(monkeypatch):
    value = Value(presence=0.5, dice=0.5, confidence=0.5, rank=0.5)
    values = iter([value, value, replace(value, confidence=0.6)])
    monkeypatch.setattr(calibrating, "value_of", lambda _: next(values))
    shown = [[row for row in drawn_rows(40, seed) if row[1]] for seed in range(2)]
    assert refitted(shown, PARENT) is None


def test_each_fold_is_judged_by_a_fit_without_it(monkeypatch):
    folds = [drawn_rows(8, seed, distance=0.1 + seed) for seed in range(3)]
    seen, move = [], calibrating._quality_moved
    monkeypatch.setattr(calibrating, "_quality_moved", lambda *asked: seen.append(asked[0]) or move(*asked))
    refitted(folds, PARENT)
    assert [{one.unit for one in samples} for samples in seen[:3]] == [{"1", "2"}, {"0", "2"}, {"0", "1"}]


def test_confidence_is_judged_with_a_presence_that_has_not_seen_the_fold_either(monkeypatch):
    folds = [drawn_rows(30, seed, shift=-2.5, distance=1.0 + seed) for seed in range(3)]
    monkeypatch.setattr(Value, "sees_at_least", lambda *_: True)
    seen, judge = [], calibrating.judged
    monkeypatch.setattr(calibrating, "judged", lambda samples, one: seen.append((samples, one)) or judge(samples, one))
    refitted(folds, PARENT)
    for_confidence = seen[-3:]
    assert [{one.unit for one in samples} for samples, _ in for_confidence] == [{"0"}, {"1"}, {"2"}]
    farthest = [max(row[-len(EVIDENCE) + EVIDENCE.index("distance")] for row in fold) for fold in folds]
    for number, (_, calibration) in enumerate(for_confidence):
        others = [far for n, far in enumerate(farthest) if n != number]
        assert calibration.unlike == pytest.approx(calibrating.FARTHER * max(others))


def test_slices_of_the_cases_resemble_each_other_even_if_the_parent_thinks_otherwise():
    found = calibrating._presence_moved(samples_of([drawn_rows(12, 1, distance=3.0)]), PARENT)
    assert found.unlike == pytest.approx(3.75)
    assert calibrating._presence_moved(samples_of([drawn_rows(12, 1)]), PARENT).unlike == PARENT.unlike


def test_without_a_slice_that_shows_nothing_presence_stays():
    rows = [row for row in drawn_rows(40, 1, shift=-2.5) if row[1]]
    assert calibrating._presence_moved(samples_of([rows]), PARENT).presence == PARENT.presence
    assert calibrating._quality_moved(samples_of([rows]), PARENT).quality != PARENT.quality


def test_a_network_without_presence_or_prior_and_too_few_slices_fit_nothing():
    evidence = np.zeros((1, len(EVIDENCE)), np.float32)
    mask, probability = np.ones((1, 4, 4), np.uint8), np.ones((1, 4, 4), np.float32)
    assert rows_of(evidence, mask, probability) == [(0.0, 1.0, 1.0, 1.0, *[0.0] * len(EVIDENCE))]
    evidence[0, EVIDENCE.index("presence")] = np.nan
    assert rows_of(evidence, mask, probability) == []
    assert refitted([drawn_rows(3, 1), drawn_rows(4, 2)], PARENT) is None
    assert refitted([drawn_rows(30, 1), []], PARENT) is None


def test_confidence_of_an_adapted_model_is_its_own_and_not_its_parents(clinic, monkeypatch):
    asked = []

    def fitted(folds, begun):
        asked.append((folds, begun))
        return PARENT

    monkeypatch.setattr(running, "refitted", fitted)
    kept = adapt(checked(write_cases(clinic / "cases", 2)), "mine", QUICK, "cpu", keep_anyway=True)
    ((folds, begun),) = asked
    assert begun == Calibration.from_dict(CALIBRATION)
    assert [len(fold) for fold in folds] == [4, 4]  # three slices with the object and one without, of each case
    assert [sorted(row[1] for row in fold) for fold in folds] == [[0.0, 1.0, 1.0, 1.0]] * 2
    assert load("mine", "cpu").segmenter.calibration == PARENT
    assert load("small", "cpu").segmenter.calibration == begun
    assert load(str(kept.path), "cpu").segmenter.calibration == PARENT
    assert "fitted on these left-out slices" in kept.path.with_suffix(".md").read_text(encoding="utf-8")


def test_a_model_whose_fit_is_not_better_has_its_parents_confidence(clinic, monkeypatch):
    monkeypatch.setattr(running, "refitted", lambda *_: None)
    kept = adapt(checked(write_cases(clinic / "cases", 2)), "mine", QUICK, "cpu", keep_anyway=True)
    assert load("mine", "cpu").segmenter.calibration == Calibration.from_dict(CALIBRATION)
    assert "estimated as before" in kept.path.with_suffix(".md").read_text(encoding="utf-8")
