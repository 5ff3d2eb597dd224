"""Whether a system knows how good it is: the Dice that it reached against the confidence that it stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.evaluation.report import svg

SIDE = 320
BINS = 5
LEAST = 5
"""Number of masks from which it is worth a chart."""


@dataclass(frozen=True)
class Bin:
    """Masks with a similar confidence: their number, mean confidence and mean Dice."""

    count: int
    confidence: float
    dice: float


def bins_of(pairs: Sequence[tuple[float, float]]) -> list[Bin]:
    """Return masks in bins with the same number of them, the least sure first.

    Args:
        pairs: Confidence and Dice of each mask, 0 to 1.
    """
    ordered = np.array(sorted(pairs)).reshape(-1, 2)
    parts = np.array_split(ordered, min(BINS, len(ordered))) if len(ordered) else []
    return [Bin(len(part), float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]


def calibration_error(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the mean distance of confidence and Dice over the bins, weighted by their size; NaN without masks.

    References:
        Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, 2015, with bins of equal counts.
    """
    bins = bins_of(pairs)
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.dice) for one in bins) / total if total else float("nan")


def confidence_plot(systems: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a dot for each mask, and connected means of the bins of each system; "" if there are too few masks.

    Args:
        systems: System -> confidence and Dice of each mask; without those that state no confidence.
    """
    if max((len(pairs) for pairs in systems.values()), default=0) < LEAST:
        return ""
    axis = svg.Axis(0.0, 1.0, "confidence that it stated", 40, 40 + SIDE)
    top, bottom = svg.MARGIN, svg.MARGIN + SIDE
    parts = axis.drawn(top, bottom)

    def up(value: float) -> float:
        return bottom - value * SIDE

    for value in svg.ticks(0, 1):
        parts += [
            svg.line(40, up(value), 40 + SIDE, up(value), "grid"),
            svg.text(34, up(value) + 4, f"{value:g}", "end"),
        ]
    parts += [svg.line(40, bottom, 40 + SIDE, top, "axis"), svg.text(46, top + 14, "Dice that it reached")]
    row = 0
    for place, (name, pairs) in enumerate(systems.items()):
        if not pairs:
            continue
        color = svg.color_class(place)
        parts += [svg.dot(axis.at(sure), up(reached), 2.2, f"dot {color}") for sure, reached in pairs]
        parts.append(svg.path([(axis.at(one.confidence), up(one.dice)) for one in bins_of(pairs)], f"edge {color}"))
        y = top + 20 + 22 * row
        row += 1
        said = f"{name}: off by {calibration_error(pairs):.2f} on average"
        parts += [
            svg.dot(SIDE + 70, y - 4, 5, f"dot {color}"),
            svg.text(SIDE + 82, y, said, room=svg.WIDTH - SIDE - 90),
        ]
    return svg.chart(bottom + 42, f"Confidence against Dice of {', '.join(systems)}", parts)
