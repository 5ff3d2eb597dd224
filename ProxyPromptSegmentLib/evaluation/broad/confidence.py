"""Saying when it does not know: whether confidence ranks, slices are missed, and presence is calibrated.

Everything is computed from the scores by slice that the measurements keep; nothing is segmented again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad import in_context, refusal
from ProxyPromptSegmentLib.evaluation.broad.records import Record

BINS = 10
RESAMPLES = 1000


@dataclass(frozen=True)
class Ranking:
    """The rank correlation of confidence with Dice.

    Attributes:
        correlation: Spearman's, over slices or images; NaN if all are alike.
        low: Lower end of its 95 % interval over cases.
        high: Upper end.
        count: Number of slices or images.
    """

    correlation: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Gaps:
    """What is missing: in images as a whole, and along volumes and sweeps.

    Attributes:
        ends_missed: Share of the first and last slices of an object on which nothing is drawn; NaN of single images.
        ends: Their number.
        gaps: Slices between two drawn slices of an object that show it, and on which nothing is drawn.
        missed: All slices that show an object and on which nothing is drawn.
        shown: All slices that show an object.
    """

    ends_missed: float
    ends: int
    gaps: int
    missed: int
    shown: int


@dataclass(frozen=True)
class Bin:
    """Slices with a similar presence: from ``low`` to ``high``, its mean, and the share that shows the object."""

    low: float
    high: float
    count: int
    presence: float
    shown: float


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the rank correlation with mean ranks for ties; NaN if either is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (one, other)]
    if min(np.ptp(rank) if len(rank) else 0 for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def ranking(records: Sequence[Record], drawn_only: bool = False) -> Ranking:
    """Return how confidence ranks the slices of some records; slices of one case stay together in the resampling.

    Args:
        records: The records; those without confidence are left out.
        drawn_only: Whether slices on which nothing is drawn are left out.
    """
    pairs = [_pairs(record, drawn_only) for record in records if "confidence" in record.slices]
    count = sum(len(one) for one, _ in pairs)
    whole = _correlation(pairs, range(len(pairs)))
    rng = np.random.default_rng(0)
    drawn = [_correlation(pairs, rng.integers(len(pairs), size=len(pairs))) for _ in range(RESAMPLES if pairs else 0)]
    finite = [value for value in drawn if np.isfinite(value)]
    low, high = np.percentile(finite, (2.5, 97.5)) if finite else (float("nan"), float("nan"))
    return Ranking(whole, float(low), float(high), count)


def gaps(records: Iterable[Record]) -> Gaps:
    """Return what is missing in some records."""
    ends_missed = ends = between = missed = shown_in_all = 0
    for record in records:
        truth, drawn = (np.array(record.slices.get(name, []), bool) for name in ("truth", "drawn"))
        shown = np.flatnonzero(truth)
        if not len(shown):
            continue
        found, empty = np.flatnonzero(drawn), shown[~drawn[shown]]
        missed, shown_in_all = missed + len(empty), shown_in_all + len(shown)
        if len(truth) > 1:
            ends += 2
            ends_missed += int(not drawn[shown[0]]) + int(not drawn[shown[-1]])
        if len(found):
            between += int(((empty > found[0]) & (empty < found[-1])).sum())
    return Gaps(ends_missed / ends if ends else float("nan"), ends, between, missed, shown_in_all)


def calibration(records: Iterable[Record]) -> tuple[float, list[Bin]]:
    """Return the expected calibration error of presence, and its reliability in ten bins (empty ones left out)."""
    presence, shown = [], []
    for record in records:
        if "presence" in record.slices:
            presence += record.slices["presence"]
            shown += record.slices["truth"]
    given, truth = np.array(presence, float), np.array(shown, float)
    if not len(given):
        return float("nan"), []
    place = np.minimum((given * BINS).astype(int), BINS - 1)
    bins = [
        Bin(n / BINS, (n + 1) / BINS, int(mine.sum()), float(given[mine].mean()), float(truth[mine].mean()))
        for n in range(BINS)
        if (mine := place == n).any()
    ]
    error = sum(one.count * abs(one.presence - one.shown) for one in bins) / len(given)
    return float(error), bins


def judged(records: Iterable[Record], supports: int) -> tuple[list[Record], list[Record]]:
    """Return the model's records in context with ``K`` supports, and those with supports of another organ."""
    kept = [record for record in records if record.method == "model" and record.supports == supports]
    context = [record for record in kept if record.measure == in_context.NAME]
    foreign = [record for record in kept if (record.measure, record.condition) == (refusal.NAME, refusal.FOREIGN)]
    return context, foreign


def _pairs(record: Record, drawn_only: bool) -> tuple[list[float], list[float]]:
    """Return the confidence and the Dice of a record's slices."""
    kept = [bool(drawn) or not drawn_only for drawn in record.slices["drawn"]]
    confidence, score = (
        [value for value, keep in zip(record.slices[name], kept, strict=True) if keep]
        for name in ("confidence", "dice")
    )
    return confidence, score


def _correlation(pairs: Sequence[tuple[list[float], list[float]]], chosen: Iterable[int]) -> float:
    taken = [pairs[int(n)] for n in chosen]
    return spearman(*([value for pair in taken for value in pair[side]] for side in (0, 1)))
