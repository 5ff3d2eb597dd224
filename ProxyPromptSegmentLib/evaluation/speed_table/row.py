"""A row of the table of speed: what was timed against what, the ratio of both, and the goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.evaluation.speed_table.timing import Timed


@dataclass(frozen=True)
class Goal:
    """The ratios with which a goal is met; None for no limit."""

    least: float | None = None
    most: float | None = None

    def met(self, ratio: float) -> bool:
        """Return whether a ratio meets it."""
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)

    def __str__(self) -> str:
        """Word it."""
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        if self.least is not None:
            return f">= {self.least:g}"
        return "" if self.most is None else f"<= {self.most:g}"


NONE = Goal()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        what: What was measured.
        against: What it is compared with.
        device: Where it was computed.
        goal: The goal.
        ratios: The ratio of each repetition.
        seconds: Median seconds of both; empty where they are no times.
        clock: The clock that they were measured with.
        skipped: Why nothing was measured; empty if something was.
        notes: What else belongs to the figure.
        more: Further figures, as JSON values.
    """

    what: str
    against: str
    device: str
    goal: Goal = NONE
    ratios: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    clock: str = ""
    skipped: str = ""
    notes: str = ""
    more: dict[str, Any] | None = None

    @classmethod
    def of(
        cls, what: str, against: str, device: str, first: Timed, second: Timed, clock: str, goal: Goal = NONE,
        notes: str = "",
    ) -> Row:  # fmt: skip
        """Return the row of two calls that were timed in turns.

        Args:
            what: What the first call does.
            against: What the second call does.
            device: Where both compute.
            first: Times of the first call.
            second: Times of the second call.
            clock: The clock.
            goal: The goal.
            notes: What else belongs to the figure.
        """
        one, other = first.of(clock), second.of(clock)
        return cls(
            what=what,
            against=against,
            device=device,
            goal=goal,
            ratios=tuple((one / other).tolist()),
            seconds=(float(np.median(one)), float(np.median(other))),
            clock=clock,
            notes=notes,
        )

    @property
    def ratio(self) -> float:
        """The median ratio; NaN where the row was skipped."""
        return float(np.median(self.ratios)) if self.ratios else float("nan")

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the ratios."""
        low, high = np.percentile(self.ratios, (25, 75))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        shared = {"what": self.what, "against": self.against, "device": self.device, "goal": str(self.goal)}
        if self.skipped:
            return {**shared, "skipped": self.skipped}
        limits = (self.goal.least, self.goal.most)
        return {
            **shared,
            "ratio": round(self.ratio, 4),
            "quartiles": [round(value, 4) for value in self.spread],
            "ratios": [round(value, 4) for value in self.ratios],
            "met": None if limits == (None, None) else self.goal.met(self.ratio),
            "seconds": [round(value, 5) for value in self.seconds],
            "clock": self.clock,
            **({"notes": self.notes} if self.notes else {}),
            **(self.more or {}),
        }
