"""Fitting the coefficients of presence and confidence, and their value on patients that they were not fitted on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.broad.confidence import spearman
from ProxyPromptSegmentLib.evaluation.calibration_data import Kind, Sample
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, PRESENCE, QUALITY, Calibration, terms
from ProxyPromptSegmentLib.inference.results import PRESENCE_THRESHOLD, confidence_of

EMPTIED_SHARE = 0.05
"""Weight of emptied masks in the fit of presence; the rest are slices with fitting supports, all data sets alike."""

FOLDS = 5
FARTHEST = 1.0
"""Share of the slices with a fitting support that are nearer to it than `Calibration.unlike`.

All of them: with 0.99 the farthest were those of a few sets of unlike images, skin and stained nuclei, and half of
those were refused. That a support shows another kind of image is for the network's kinship to say."""

MARGIN = 1.5
"""Factor of the farthest distance: resemblance is 0.5 at `Calibration.unlike`, and must not lower a presence there."""

OWN_PRESENCE = {"offset": 0.0, "presence": 1.0}
"""The network's own presence."""

_LEAST_RANKED = 10  # samples of a set and object for a rank correlation
_BINS = 10
_RIDGE = 1e-3


def fit(samples: Sequence[Sample]) -> Calibration:
    """Fit the coefficients on some samples.

    The network's own presence is kept where it is better calibrated over all slices than the fitted one, in which every
    data set counts alike: those of single images, which always show the object, would raise it for volumes.

    Supports of another organ are not fitted on: how far they are is known from those that fit.

    Raises:
        InputError: If the samples lack what is to be learned.
    """
    fitting = [one for one in samples if one.kind in (Kind.SAME, Kind.SISTER)]
    shown, drawn = ([one for one in fitting if getattr(one, name)] for name in ("shown", "drawn"))
    seen = [one for one in samples if one.kind in (Kind.SAME, Kind.EMPTIED)]
    if not shown or not drawn or all(one.shown for one in seen):
        raise InputError(
            f"{len(samples)} samples, {len(shown)} of them with something shown and {len(drawn)} with a mask, are not "
            "enough to fit presence and confidence; use more data sets or patients."
        )
    if not np.isfinite(_evidence(samples)).all():
        raise InputError("this model has no presence or no mask prior, from which a calibration is computed.")
    emptied = np.array([one.kind is Kind.EMPTIED for one in seen])
    weights = _weights([(one.kind, one.dataset) for one in seen])
    for mine, share in ((emptied, EMPTIED_SHARE), (~emptied, 1 - EMPTIED_SHARE)):
        weights[mine] *= share / max(weights[mine].sum(), 1e-9)
    presence = _logistic_fit(
        terms(_evidence(seen), PRESENCE), np.array([one.shown for one in seen], float), weights, PRESENCE
    )
    quality = _logistic_fit(
        terms(_evidence(drawn), QUALITY),
        np.array([one.dice if one.shown else 0.0 for one in drawn]),
        _weights([(one.dataset, one.object) for one in drawn]),
        QUALITY,
    )
    far = MARGIN * float(np.quantile(_evidence(shown)[:, EVIDENCE.index("distance")], FARTHEST))
    choices = [Calibration(presence=one, quality=quality, unlike=round(far, 4)) for one in (OWN_PRESENCE, presence)]
    evidence, truth = _evidence(samples), np.array([one.shown for one in samples])
    return min(choices, key=lambda choice: reliability(choice.presence_of(evidence), truth)[0])


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Samples with the presence and confidence that they get, ``(M,)`` each."""

    samples: tuple[Sample, ...]
    presence: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]

    @property
    def dice(self) -> npt.NDArray[np.float64]:
        """Dice of the masks that are drawn: none where presence is low."""
        drawn = self.drawn
        return np.array(
            [one.dice if here else float(not one.shown) for one, here in zip(self.samples, drawn, strict=True)]
        )

    @property
    def drawn(self) -> npt.NDArray[np.bool_]:
        """Whether a mask is drawn."""
        own = np.array([one.drawn for one in self.samples])
        return own & (self.presence > PRESENCE_THRESHOLD)


def judged(samples: Sequence[Sample], calibration: Calibration | None) -> Judged:
    """Return samples with presence and confidence by a calibration, or by the network's own values."""
    evidence = _evidence(samples)
    logit, iou = (evidence[:, EVIDENCE.index(name)] for name in ("presence", "iou"))
    presence = (1 / (1 + np.exp(-logit))).astype(np.float32)
    quality = iou * presence
    if calibration is not None:
        presence, quality = calibration.presence_of(evidence), calibration.quality_of(evidence)
    shown = np.array([one.drawn for one in samples]) & (presence > PRESENCE_THRESHOLD)
    return Judged(samples=tuple(samples), presence=presence, confidence=confidence_of(shown, quality, presence))


def cross_validated(samples: Sequence[Sample]) -> Judged:
    """Return samples judged by calibrations that were fitted without their patients."""
    folds = np.array([_fold(one) for one in samples])
    parts = []
    for fold in range(FOLDS):
        mine = [one for one, where in zip(samples, folds, strict=True) if where == fold]
        if mine:
            parts.append(judged(mine, fit([one for one, n in zip(samples, folds, strict=True) if n != fold])))
    return Judged(
        samples=tuple(one for part in parts for one in part.samples),
        presence=np.concatenate([part.presence for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
    )


def summary(found: Judged) -> dict[str, Any]:
    """Return rank correlations, calibration error and refusals as JSON values.

    ``spearman`` has the mean over data sets and objects of the rank correlation of confidence with Dice over slices
    with fitting supports, ``spearman_drawn`` the same where something is drawn.
    """
    of_kind = {kind: np.array([one.kind is kind for one in found.samples]) for kind in Kind}
    fitting = of_kind[Kind.SAME] | of_kind[Kind.SISTER]
    shown = np.array([one.shown for one in found.samples])
    ranks = {"spearman": fitting, "spearman_drawn": fitting & found.drawn}
    refused = {f"refused, {kind.value}": _share(~found.drawn[of_kind[kind]]) for kind in (Kind.STRANGER, Kind.EMPTIED)}
    kept = {f"kept, {kind.value}": _share(found.drawn[of_kind[kind] & shown]) for kind in (Kind.SAME, Kind.SISTER)}
    error, bins = reliability(found.presence, shown)
    by_set = {name: _ranks(found, mask) for name, mask in ranks.items()}
    return {
        "samples": len(found.samples),
        **{name: _mean(values.values()) for name, values in by_set.items()},
        "dice": _mean(_group_means(found, fitting)),
        **kept,
        **refused,
        "ece_of_presence": error,
        "reliability": bins,
        "by_set": by_set,
    }


def reliability(presence: npt.NDArray[np.float32], shown: npt.NDArray[np.bool_]) -> tuple[float, list[dict[str, Any]]]:
    """Return the expected calibration error, and for each tenth of presence its mean and the share that is shown."""
    place = np.minimum((presence * _BINS).astype(int), _BINS - 1)
    bins = []
    for n in range(_BINS):
        if (mine := place == n).any():
            mean, true = float(presence[mine].mean()), float(shown[mine].mean())
            bins.append({"presence": round(mean, 4), "shown": round(true, 4), "count": int(mine.sum())})
    error = sum(one["count"] * abs(one["presence"] - one["shown"]) for one in bins) / max(1, len(presence))
    return round(float(error), 4), bins


def _evidence(samples: Iterable[Sample]) -> npt.NDArray[np.float32]:
    return np.stack([one.evidence for one in samples])


def _fold(sample: Sample) -> int:
    """Return the part of a patient, the same on every machine."""
    return int(hashlib.sha256(f"{sample.dataset}/{sample.unit}".encode()).hexdigest(), 16) % FOLDS


def _weights(groups: Sequence[tuple[Any, Any]]) -> npt.NDArray[np.float64]:
    """Return weights with which all groups count alike, summing to 1."""
    counts: dict[tuple[Any, Any], int] = {}
    for group in groups:
        counts[group] = counts.get(group, 0) + 1
    return np.array([1 / counts[group] / len(counts) for group in groups])


def _logistic_fit(
    values: npt.NDArray[np.float64],
    wanted: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    names: tuple[str, ...],
) -> dict[str, float]:
    """Fit ``sigmoid(values @ coefficients)`` to ``wanted`` (0..1) by weighted cross entropy.

    More of what speaks for a mask never means less: all coefficients but the offset are at least 0.

    Args:
        values: ``(M, F)``; the first column is 1.
        wanted: ``(M,)``.
        weights: ``(M,)``, summing to 1.
        names: Names of the columns.

    Returns:
        Coefficient by name.
    """
    from scipy.optimize import minimize

    center, scale = values[:, 1:].mean(axis=0), values[:, 1:].std(axis=0) + 1e-9
    scaled = np.concatenate([values[:, :1], (values[:, 1:] - center) / scale], axis=1)

    def loss(coefficients: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        total = scaled @ coefficients
        entropy = np.logaddexp(0, total) - wanted * total
        gradient = scaled.T @ (weights * (1 / (1 + np.exp(-total)) - wanted))
        gradient[1:] += 2 * _RIDGE * coefficients[1:]
        return float(weights @ entropy + _RIDGE * (coefficients[1:] ** 2).sum()), gradient

    bounds = [(None, None), *[(0, None)] * (len(names) - 1)]
    found = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B", bounds=bounds).x
    inner = found[1:] / scale
    offset = found[0] - float(inner @ center)
    return {name: round(float(value), 5) for name, value in zip(names, [offset, *inner], strict=True)}


def _ranks(found: Judged, among: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the rank correlation of confidence with Dice by data set and object, where there are enough samples."""
    score, ranks = found.dice, {}
    for group, mine in _groups(found, among).items():
        value = spearman(found.confidence[mine].tolist(), score[mine].tolist())
        if len(mine) >= _LEAST_RANKED and math.isfinite(value):
            ranks[group] = round(value, 4)
    return ranks


def _groups(found: Judged, among: npt.NDArray[np.bool_]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for n in np.flatnonzero(among).tolist():
        groups.setdefault(f"{found.samples[n].dataset}, {found.samples[n].object}", []).append(n)
    return groups


def _group_means(found: Judged, among: npt.NDArray[np.bool_]) -> list[float]:
    return [float(found.dice[mine].mean()) for mine in _groups(found, among).values()]


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(float(np.mean(listed)), 4) if listed else None


def _share(values: npt.NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None
