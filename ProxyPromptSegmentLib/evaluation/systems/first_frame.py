"""SAM 2 with an annotated frame of another patient as frame 0, as Medical SAM 2 uses a template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import support_of
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.evaluation.tracking import SWEEPS, check_memory
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.tracker import Tracker

NAME = "Medical SAM 2"


@dataclass(frozen=True, eq=False)
class FirstFrame:
    """The supports are SAM 2's annotated frames, and the target is what follows.

    Attributes:
        frozen: A model with a memory.
        most: Number of support frames, rounded up to as many of each case, at least one.
    """

    frozen: Frozen
    most: int = 8
    name: str = NAME
    kind: Kind = Kind.FREE

    @property
    def source(self) -> str:
        """Where the method is published."""
        return (
            "Zhu et al. 2024, Medical SAM 2: one-prompt segmentation by a template frame; without its training and its "
            f"confidence-ordered bank{self.frozen.stands_in('official SAM 2 weights')}"
        )

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Choose the support frames.

        Raises:
            UsageError: If the model has no memory.
        """
        check_memory(self.frozen.segmenter)
        return Following(self.frozen.segmenter, support_of(lesson.few, self.most))


@dataclass(frozen=True, eq=False)
class Following:
    """A model with a memory that follows objects through a sweep or volume.

    Attributes:
        segmenter: The model.
        support: Its supports.
        mode: What a frame is predicted from; by default the supports are given frames.
    """

    segmenter: Segmenter
    support: SupportSet
    mode: TrackingMode = TrackingMode.BANK_ONLY

    def segment(self, case: Case) -> np.ndarray:
        """Follow a sweep or volume slice after slice; uint8 ``(S, N, H, W)``."""
        window = intensity_window(case.images[:1] if case.dataset in SWEEPS else case.images)
        tracker = Tracker(self.segmenter, self.mode)
        tracker.start(self.support, window, spacing_of(case))
        return np.stack([tracker.step(image).masks() for image in case.images])
