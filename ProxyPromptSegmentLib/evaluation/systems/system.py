"""What a compared system is: it learns from annotated cases, then segments others.

A table asks each of its systems in the same way, so that all of them get the same training cases, the same targets and
the same processor time. Systems that are prompted with what only the truth knows (SAM with a box, say) say so in their
kind: their rows are upper bounds of what a person could reach by hand and never count as automatic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.progress import CancelToken


class Kind(Enum):
    """How a system knows what to segment; the values are the words of the tables."""

    TRUTH = "prompted with the truth"
    FREE = "no training"
    FEW = "trained on the few cases"
    FULL = "trained on all of the set"


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What every system of a table may use before it sees a target.

    Attributes:
        few: Annotated cases, with the same objects in the same order; all that a few-shot system may learn from.
        full: All training cases of the set, for systems of kind `FULL` alone; empty where a table has none.
        seconds: Processor seconds that a training may take, with all that is needed before its first target.
        seed: Seed of every draw.
        threads: Processor threads.
    """

    few: tuple[Case, ...]
    full: tuple[Case, ...] = ()
    seconds: float = 900.0
    seed: int = 0
    threads: int = 2


class Fitted(Protocol):
    """A system that knows what to segment."""

    def segment(self, case: Case) -> np.ndarray:
        """Return the masks of the objects of the lesson on a target.

        Args:
            case: The target, with the lesson's objects in the same order. Only systems of kind `TRUTH` read its masks.

        Returns:
            uint8, ``(S, N, H, W)``, 1 inside; the shape of ``case.masks``.
        """
        ...


class System(Protocol):
    """One compared system."""

    @property
    def name(self) -> str:
        """Its name in the tables, such as ``"PerSAM-F"``."""

    @property
    def kind(self) -> Kind:
        """How it knows what to segment."""

    @property
    def source(self) -> str:
        """Where its method is published, with a note on whatever stands in for what cannot be had."""

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Learn from the lesson's cases.

        Args:
            lesson: Cases, budget and seed.
            progress: Called with the share of the work that is done, 0 to 1.
            cancel: Ends the training with `errors.CancelledError`.
        """
        ...
