"""Means with their intervals as text and as values; an interval of one or two patients is never shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

LEAST = 3
"""Patients from which a bootstrap interval says something: of one it is a point, of two it has two values."""


class Interval(Protocol):
    """A mean over patients with its 95 % bootstrap interval, of scores or of differences."""

    @property
    def mean(self) -> float:
        """The mean."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end."""

    @property
    def count(self) -> int:
        """Number of patients."""


def of_patients(values: npt.NDArray[np.float64], patients: Sequence[str]) -> list[float]:
    """Return the mean of each patient, since targets of one patient are not independent of each other.

    Args:
        values: A value for each target.
        patients: The patient of each target; without any, each target is of another one.
    """
    grouped: dict[str, list[float]] = {}
    for number, value in enumerate(values.tolist()):
        grouped.setdefault(patients[number] if patients else str(number), []).append(value)
    return [float(np.mean(found)) for found in grouped.values()]


def ends(found: Interval, digits: int = 4) -> list[float] | None:
    """Return both ends of an interval, rounded; None if the patients are too few for one."""
    return [round(found.low, digits), round(found.high, digits)] if found.count >= LEAST else None


def brackets(found: Interval, form: str = ".3f") -> str:
    """Return an interval in brackets, or how many there are if they are too few for one."""
    return f"[{found.low:{form}}, {found.high:{form}}]" if found.count >= LEAST else f"[n = {found.count}]"


def with_interval(found: Interval, form: str = ".3f") -> str:
    """Return a mean with its interval in one cell."""
    return f"{found.mean:{form}} {brackets(found, form)}"


def interval_text(found: list[float] | None) -> str:
    """Return the ends of an interval in a cell of its own; ``-`` without one."""
    return "-" if found is None else f"{found[0]:.3f} to {found[1]:.3f}"
