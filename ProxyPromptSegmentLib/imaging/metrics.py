"""Overlap and slice consistency of a predicted mask against the reference mask (the truth).

Two empty masks agree: their Dice is 1. An empty mask against a non-empty one has Dice 0, so that it is counted and
never silently averaged away.

References:
    Dice 1945, Measures of the amount of ecologic association between species.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.errors import InputError

CONSISTENCY_DROP = 0.2


@dataclass(frozen=True)
class Summary:
    """The mean over patients with its spread and uncertainty.

    Attributes:
        mean: Mean of the finite values.
        sd: Population standard deviation (divided by n, not n - 1), as in the paper's tables.
        low: Lower end of the 95 % bootstrap interval of the mean.
        high: Upper end.
        count: Number of finite values.
        missing: Number of NaN values that were excluded.
    """

    mean: float
    sd: float
    low: float
    high: float
    count: int
    missing: int


def _pair(truth: np.ndarray, predicted: np.ndarray, ndim: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or (ndim is not None and truth.ndim != ndim):
        axes = "" if ndim is None else f" of {ndim} axes (S, H, W)"
        raise InputError(
            f"truth has shape {truth.shape}, prediction {predicted.shape}; both must share one shape{axes}. Resample "
            "one of them."
        )
    return truth.astype(bool), predicted.astype(bool)


def dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the Dice over all voxels; over a whole volume this is the paper's score.

    Args:
        truth: Reference mask, 0 or 1, any shape.
        predicted: Mask of the same shape.

    Returns:
        ``2 |A and B| / (|A| + |B|)``; 1 if both are empty.

    Raises:
        InputError: If the shapes differ.
    """
    a, b = _pair(truth, predicted)
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else 1.0


def dice_per_slice(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the Dice of every slice; float64, shape ``(S,)``; both masks have shape ``(S, H, W)``."""
    a, b = _pair(truth, predicted, ndim=3)
    return np.array([dice(t, p) for t, p in zip(a, b, strict=True)], dtype=np.float64)


def foreground_dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the Dice over the slices whose truth is not empty; NaN if there are none.

    The difference to ``dice`` is the cost of false positives on slices without the object.
    """
    a, b = _pair(truth, predicted, ndim=3)
    shown = a.any(axis=(1, 2))
    return dice(a[shown], b[shown]) if shown.any() else float("nan")


def inconsistent_slices(truth: np.ndarray, predicted: np.ndarray, drop: float = CONSISTENCY_DROP) -> int:
    """Count the slices whose Dice falls more than ``drop`` below both neighbours.

    The first and the last slice have one neighbour and are never counted. Masks have shape ``(S, H, W)``.
    """
    scores = dice_per_slice(truth, predicted)
    inner = scores[1:-1]
    return int(np.count_nonzero((scores[:-2] - inner > drop) & (scores[2:] - inner > drop)))


def summarize(values: Sequence[float], seed: int = 0, draws: int = 10_000) -> Summary:
    """Compute mean, population SD and the 95 % percentile bootstrap interval of the mean.

    Args:
        values: One score per patient (not per slice: slices of a patient are not independent).
            NaN values are excluded and counted.
        seed: Seed of the resampling.
        draws: Number of resamples.

    Returns:
        The summary.

    Raises:
        InputError: If no value is finite.
    """
    given = np.asarray(values, dtype=np.float64).reshape(-1)
    finite = given[np.isfinite(given)]
    if finite.size == 0:
        raise InputError(f"none of {given.size} scores is a number; at least one is required. Score a case first.")
    chosen = np.random.default_rng(seed).integers(finite.size, size=(draws, finite.size))
    low, high = np.percentile(finite[chosen].mean(axis=1), (2.5, 97.5))
    return Summary(
        mean=float(finite.mean()),
        sd=float(finite.std()),
        low=float(low),
        high=float(high),
        count=int(finite.size),
        missing=int(given.size - finite.size),
    )
