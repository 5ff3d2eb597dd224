"""The copied mean mask as a system: what is right in a table without any look at a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad.baselines import MEAN_MASK, copied_mean
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import marked_pairs, support_of
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import SupportPair


@dataclass(frozen=True)
class CopiedMeanMask:
    """The mean of the few cases' masks, copied onto every slice."""

    name: str = MEAN_MASK
    kind: Kind = Kind.FREE
    source: str = "trivial: no pixel of the target is read"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Keep the masks."""
        support_of(lesson.few)  # raises where nothing is marked
        return _Copied(marked_pairs(lesson.few))


@dataclass(frozen=True, eq=False)
class _Copied:
    pairs: list[SupportPair]

    def segment(self, case: Case) -> np.ndarray:
        return copied_mean(self.pairs, case)
