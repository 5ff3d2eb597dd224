"""Box plots: how the patients' values of several systems are spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ProxyPromptSegmentLib.evaluation.report import svg

ROW = 38
LEAST_BOX = 5
"""Number of patients from which quartiles are drawn; of fewer the values and their mean say all."""
_WHISKER = 1.5  # of the interquartile range, as Tukey drew them


def box_plot(systems: Mapping[str, Mapping[str, float]], title: str, share: bool = True) -> str:
    """Return a box for each system, with a dot for each patient and a diamond at the mean.

    Args:
        systems: System -> patient -> value; systems without a value keep their place.
        title: What the values are, with their unit.
        share: Whether they are 0 to 1.
    """
    every = [value for patients in systems.values() for value in patients.values()]
    if not every:
        return ""
    axis = svg.axis_for(every, title, share)
    bottom = svg.MARGIN + ROW * len(systems)
    parts = axis.drawn(svg.MARGIN, bottom)
    for place, (name, patients) in enumerate(systems.items()):
        middle = svg.MARGIN + ROW * (place + 0.5)
        parts.append(svg.text(0, middle + 4, name, room=svg.NAMES - 10))
        if patients:
            parts += _drawn(axis, middle, patients, svg.color_class(place))
    return svg.chart(bottom + 42, f"Box plot: {title} of {', '.join(systems)}", parts)


def _drawn(axis: svg.Axis, middle: float, patients: Mapping[str, float], color: str) -> list[str]:
    values = np.array(list(patients.values()))
    parts = []
    if len(values) >= LEAST_BOX:
        first, median, third = (float(q) for q in np.percentile(values, (25, 50, 75)))
        reach = _WHISKER * (third - first)
        low, high = float(values[values >= first - reach].min()), float(values[values <= third + reach].max())
        left, right = axis.at(first), axis.at(third)
        parts += [
            svg.line(axis.at(low), middle, left, middle, f"edge {color}"),
            svg.line(right, middle, axis.at(high), middle, f"edge {color}"),
            svg.box(left, middle - 11, right - left, 22, f"fill {color}"),
            svg.box(left, middle - 11, right - left, 22, f"edge {color}"),
            svg.line(axis.at(median), middle - 11, axis.at(median), middle + 11, f"edge {color}"),
        ]
    for place, (name, value) in enumerate(sorted(patients.items())):
        aside = (place % 5 - 2) * 3  # so that equal values are seen
        parts.append(svg.dot(axis.at(value), middle + aside, 3, f"dot {color}", f"{name}: {value:.3f}"))
    mean = axis.at(float(values.mean()))
    parts.append(svg.shape([(mean, middle - 6), (mean + 6, middle), (mean, middle + 6), (mean - 6, middle)], "mean"))
    return parts
