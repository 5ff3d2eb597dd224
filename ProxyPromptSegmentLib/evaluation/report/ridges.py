"""Ridge plots: the distribution of the patients' values, one system above the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.evaluation.report import svg

ROW, TALL = 34, 52
LEAST_RIDGE = 8
"""Number of patients from which a distribution is drawn."""
_POINTS = 120
_LEAST_WIDTH = 0.01  # of the axis, of the kernel: equal values are a narrow hill and not nothing


def ridge_plot(systems: Mapping[str, Mapping[str, float]], title: str, share: bool = True) -> str:
    """Return the distributions of systems with enough patients; "" if there are none.

    Args:
        systems: System -> patient -> value.
        title: What the values are, with their unit.
        share: Whether they are 0 to 1.
    """
    enough = [name for name, patients in systems.items() if len(patients) >= LEAST_RIDGE]
    if not enough:
        return ""
    axis = svg.axis_for([value for name in enough for value in systems[name].values()], title, share)
    bottom = svg.MARGIN + TALL + ROW * (len(enough) - 1)
    parts = axis.drawn(svg.MARGIN, bottom)
    at = np.linspace(axis.low, axis.high, _POINTS)
    hills = {name: density(np.array(list(systems[name].values())), at) for name in enough}
    for row, name in enumerate(enough):
        base = svg.MARGIN + TALL + ROW * row
        color = svg.color_class(list(systems).index(name))
        highest = float(hills[name].max())  # of its own: a narrow hill would flatten the others
        outline = [(axis.at(x), base - y / highest * TALL) for x, y in zip(at, hills[name], strict=True)]
        parts.append(svg.shape([(axis.at(axis.low), base), *outline, (axis.at(axis.high), base)], f"fill {color}"))
        parts.append(svg.path(outline, f"edge {color}"))
        parts.append(svg.text(0, base - 4, name, room=svg.NAMES - 10))
    return svg.chart(bottom + 42, f"Ridge plot: {title} of {', '.join(enough)}", parts)


def density(values: npt.NDArray[np.float64], at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the density of values by Gaussian kernels, reflected at the ends of the axis.

    Args:
        values: Finite values.
        at: Where it is wanted: from one end of the axis to the other.

    References:
        The width is that of Silverman, Density estimation for statistics and data analysis, 1986, equation 3.31.
    """
    low, high = float(at[0]), float(at[-1])
    quartiles = np.percentile(values, (25, 75))
    spread = min(float(values.std(ddof=1)), float(quartiles[1] - quartiles[0]) / 1.34) or float(values.std(ddof=1))
    width = max(0.9 * spread * len(values) ** -0.2, _LEAST_WIDTH * (high - low))
    mirrored = np.concatenate([values, 2 * low - values, 2 * high - values])
    kernels = np.exp(-0.5 * ((at[:, None] - mirrored[None]) / width) ** 2)
    found: npt.NDArray[np.float64] = kernels.sum(axis=1) / (len(values) * width * np.sqrt(2 * np.pi))
    return found
