"""Whether one system is better than another on the same patients, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ProxyPromptSegmentLib.evaluation.statistics.summaries import RESAMPLES, Line
from ProxyPromptSegmentLib.imaging.metrics import summarize

LEAST_PATIENTS = 6
"""With fewer, no difference however large has a two-sided p below 0.05 in a test of signed ranks."""


@dataclass(frozen=True)
class Paired:
    """The difference of two systems on the patients that both have.

    Attributes:
        mean: Mean of the first minus the second.
        low: Lower end of its 95 % bootstrap interval over patients.
        high: Upper end.
        p: Two-sided p of Wilcoxon's signed-rank test; 1 where no patient differs.
        count: Number of patients.
    """

    mean: float
    low: float
    high: float
    p: float
    count: int


@dataclass(frozen=True)
class Comparison:
    """A system beside the one that a table is about, on one object.

    Attributes:
        dataset: The data set.
        object: The object.
        system: The system that is compared with.
        paired: The reference minus that system.
        holm: The p after Holm's correction for all comparisons of the table.
    """

    dataset: str
    object: str
    system: str
    paired: Paired
    holm: float = 1.0


def paired(one: Mapping[str, float], other: Mapping[str, float]) -> Paired | None:
    """Compare two systems by patient.

    Args:
        one: Value of each patient, see `summaries.by_patient`.
        other: The same of the other system.

    Returns:
        One minus the other; None if they have no patient in common.

    References:
        Wilcoxon, Individual comparisons by ranking methods, 1945. Patients without a difference are ranked and then
        left out, as Pratt proposed in 1959.
    """
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return None
    gains = np.array([one[name] - other[name] for name in shared])
    found = summarize(gains.tolist(), draws=RESAMPLES)
    return Paired(found.mean, found.low, found.high, _signed_ranks(gains), found.count)


def compare(lines: Sequence[Line], reference: str) -> list[Comparison]:
    """Compare one system with all others, object by object, in the order of the lines.

    Args:
        lines: Lines of one measure, see `summaries.lines_of`.
        reference: Name of the system that the others are compared with.
    """
    ours = {(line.dataset, line.object): line.patients for line in lines if line.system == reference}
    found = []
    for line in lines:
        mine = ours.get((line.dataset, line.object))
        both = None if mine is None or line.system == reference else paired(mine, line.patients)
        if both is not None:
            found.append(Comparison(line.dataset, line.object, line.system, both))
    adjusted = holm([one.paired.p for one in found])
    return [replace(one, holm=p) for one, p in zip(found, adjusted, strict=True)]


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's step-down procedure, in the order given.

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda n: values[n])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def _signed_ranks(gains: np.ndarray) -> float:
    """Return the two-sided p of the signed ranks: exact up to 13 patients, and without ties up to 50."""
    from scipy.stats import rankdata, wilcoxon

    gains = np.round(gains, 9)  # what differs by rounding alone is a tie
    if not gains.any():
        return 1.0
    if len(gains) > 13:
        return float(wilcoxon(gains, zero_method="pratt").pvalue)
    ranks = rankdata(np.abs(gains))[gains != 0]
    signs = np.sign(gains[gains != 0])
    every = np.array(np.meshgrid(*[(-1, 1)] * len(ranks))).reshape(len(ranks), -1)
    sums = np.abs(ranks @ every)
    return float(np.mean(sums >= abs(float(ranks @ signs)) - 1e-9))
