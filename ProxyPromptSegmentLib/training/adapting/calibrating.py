"""Presence and confidence of an adapted model, fitted on what the models of the folds drew on the cases left out.

A few cases cannot fit seven coefficients: they move those of the model at the start, as far as there are samples.
What is fitted is kept only if it is better than what it began from on folds that it was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.evaluation.broad.confidence import spearman
from ProxyPromptSegmentLib.evaluation.calibrating import Judged, judged
from ProxyPromptSegmentLib.evaluation.calibration_data import Kind, Sample
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, PRESENCE, QUALITY, Calibration, terms
from ProxyPromptSegmentLib.inference.results import THRESHOLD

Row = tuple[float, ...]
"""A slice of a left-out case and an object: number of the object, whether it is shown, whether a mask is drawn, its
Dice, and the evidence, see `calibration.EVIDENCE`."""

PULL = 1.0  # with which coefficients stay where they begin; as much as about eight samples
FARTHER = 1.25  # than the farthest slice that was left out may be what resembles the supports
LEAST_SAMPLES = 8
_LEAST = 1e-4

# What the network's own presence and estimate of its mask say, where there is nothing to begin from.
_OWN = Calibration(
    presence={"offset": 0.0, "presence": 1.0},
    quality={"offset": 0.0, "overlap": 0.5, "agreement": 0.0, "iou": 0.5, "presence": 0.0},
    unlike=_LEAST,
)


@dataclass(frozen=True)
class Value:
    """What a calibration is worth on some samples.

    Attributes:
        presence: Cross-entropy of presence.
        dice: Mean Dice of what is drawn, which depends on presence.
        confidence: Cross-entropy of confidence, of which Dice is the truth.
        rank: Rank correlation of confidence with Dice, the mean over objects; NaN if all of one are equal.
    """

    presence: float
    dice: float
    confidence: float
    rank: float

    def sees_at_least(self, other: Value) -> bool:
        """Return whether presence is nowhere worse than another's."""
        return self.presence <= other.presence and self.dice >= other.dice

    def expects_at_least(self, other: Value) -> bool:
        """Return whether confidence is nowhere worse than another's."""
        known = math.isfinite(self.rank) and math.isfinite(other.rank)
        return self.confidence <= other.confidence and (self.rank >= other.rank or not known)


def rows_of(
    evidence: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8], probability: npt.NDArray[np.float32]
) -> list[Row]:
    """Return the rows of a slice, none where the network lacks some of the evidence.

    Args:
        evidence: ``(N, E)``.
        truth: ``(N, H, W)``.
        probability: Of the masks without presence, ``(N, H, W)``.
    """
    rows: list[Row] = []
    for number in range(len(evidence)):
        if not np.isfinite(evidence[number]).all():
            continue
        mask = probability[number] > THRESHOLD
        numbers = (number, bool(truth[number].any()), bool(mask.any()), dice(truth[number], mask), *evidence[number])
        rows.append(tuple(float(one) for one in numbers))
    return rows


def refitted(folds: Sequence[Sequence[Row]], begun: Calibration | None) -> Calibration | None:
    """Return a calibration that was fitted on left-out slices; None if no part of it is better than at the start.

    Presence and confidence are judged apart, each on folds that it was not fitted on.

    Args:
        folds: The rows of each fold.
        begun: The calibration of the model at the start; None for the network's own presence and confidence.
    """
    samples = [[_sample(row, str(number)) for row in fold] for number, fold in enumerate(folds) if fold]
    everything = [one for fold in samples for one in fold]
    if len(everything) < LEAST_SAMPLES or len(samples) < 2:
        return None
    without = [[one for n, fold in enumerate(samples) for one in fold if n != number] for number in range(len(samples))]
    kept: Calibration | None = None
    starts = [begun or _OWN] * len(samples)  # confidence depends on presence, which has not seen the fold either
    value = value_of(judged(everything, begun))
    for moved, better in ((_presence_moved, Value.sees_at_least), (_quality_moved, Value.expects_at_least)):
        fits = [moved(others, one) for others, one in zip(without, starts, strict=True)]
        tried = value_of(_joined([judged(mine, fit) for mine, fit in zip(samples, fits, strict=True)]))
        start = kept or begun or _OWN
        found = moved(everything, start)
        if better(tried, value) and found != start:
            kept, value, starts = found, tried, fits
    return kept


def _joined(parts: Sequence[Judged]) -> Judged:
    return Judged(
        samples=tuple(one for part in parts for one in part.samples),
        presence=np.concatenate([part.presence for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
    )


def value_of(found: Judged) -> Value:
    """Return what presence and confidence of some samples are worth."""
    shown, score = np.array([one.shown for one in found.samples], float), found.dice
    objects = np.array([int(one.object) for one in found.samples])
    ranks = []
    for number in np.unique(objects):
        mine = objects == number
        ranks.append(spearman(found.confidence[mine].tolist(), score[mine].tolist()))
    known = [rank for rank in ranks if math.isfinite(rank)]
    return Value(
        presence=_entropy(found.presence, shown),
        dice=float(score.mean()),
        confidence=_entropy(found.confidence, score),
        rank=float(np.mean(known)) if known else math.nan,
    )


def _entropy(guess: npt.NDArray[np.float32], truth: npt.NDArray[np.float64]) -> float:
    """Return the mean cross-entropy."""
    p = guess.astype(np.float64).clip(_LEAST, 1 - _LEAST)
    return float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())


def _sample(row: Row, unit: str) -> Sample:
    number, shown, drawn, score, *evidence = row
    return Sample(
        kind=Kind.SAME,
        dataset="",
        unit=unit,
        object=str(int(number)),
        evidence=np.array(evidence, np.float32),
        shown=bool(shown),
        drawn=bool(drawn),
        dice=score,
    )


def _presence_moved(samples: Sequence[Sample], start: Calibration) -> Calibration:
    """Move presence towards what some samples say, its coefficients only if they show both of its values."""
    evidence, shown = np.stack([one.evidence for one in samples]), np.array([one.shown for one in samples])
    presence, unlike = start.presence, start.unlike
    if shown.any() and not shown.all():
        presence = _fit(terms(evidence, PRESENCE), shown.astype(float), presence, PRESENCE)
    if shown.any():
        farthest = float(evidence[shown, EVIDENCE.index("distance")].max())
        unlike = round(max(unlike, FARTHER * farthest), 4)
    return replace(start, presence=presence, unlike=unlike)


def _quality_moved(samples: Sequence[Sample], start: Calibration) -> Calibration:
    """Move the confidence in masks towards what some samples say."""
    drawn = [one for one in samples if one.drawn]
    if not drawn:
        return start
    evidence, wanted = np.stack([one.evidence for one in drawn]), [one.dice if one.shown else 0.0 for one in drawn]
    return replace(start, quality=_fit(terms(evidence, QUALITY), np.array(wanted), start.quality, QUALITY))


def _fit(
    values: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], start: Mapping[str, float], names: Sequence[str]
) -> dict[str, float]:
    """Fit ``sigmoid(values @ coefficients)`` to ``wanted`` (0..1), with coefficients that stay near those at the start.

    More of what speaks for a mask never means less: all coefficients but the offset are at least 0.

    Args:
        values: ``(M, F)``; the first column is 1.
        wanted: ``(M,)``.
        start: Coefficient by name.
        names: Names of the columns.
    """
    from scipy.optimize import minimize

    first = np.array([start[name] for name in names])
    center, scale = values[:, 1:].mean(axis=0), values[:, 1:].std(axis=0)
    scale = np.where(scale > _LEAST, scale, 1.0)  # a column without differences says nothing
    scaled = np.concatenate([values[:, :1], (values[:, 1:] - center) / scale], axis=1)
    before, pull = values @ first, PULL / len(values)

    def loss(moved: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        total = before + scaled @ moved
        entropy = np.logaddexp(0, total) - wanted * total
        gradient = scaled.T @ (1 / (1 + np.exp(-total)) - wanted) / len(values) + 2 * pull * moved
        return float(entropy.mean() + pull * (moved**2).sum()), gradient

    bounds = [(None, None), *((-one, None) for one in first[1:] * scale)]
    moved = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B", bounds=bounds).x
    inner = moved[1:] / scale
    found = first + np.concatenate([[moved[0] - inner @ center], inner])
    return {name: round(float(value), 5) for name, value in zip(names, found, strict=True)}
