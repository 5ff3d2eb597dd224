"""MONAI's U-Net from random weights, on the few cases or on all of the set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.few_shot_unet import FewShotRecipe, FewShotUnet, train_few_shot
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import annotated_slices, may_mirror
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.networks.threads import computing_with
from ProxyPromptSegmentLib.progress import CancelToken

FEW, ALL = "U-Net", "U-Net on all training cases"


@dataclass(frozen=True)
class UnetSystem:
    """The U-Net.

    Attributes:
        full: Whether it learns from all training cases of the set, an upper row; else from the few.
        mirror: Whether slices are mirrored left to right in training; by default where an adaptation mirrors them, too.
    """

    full: bool = False
    mirror: bool | None = None
    source: str = "Ronneberger et al. 2015, as MONAI builds it: 2D, 16 to 256 channels; see evaluation/few_shot_unet.py"

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return ALL if self.full else FEW

    @property
    def kind(self) -> Kind:
        """How it knows what to segment."""
        return Kind.FULL if self.full else Kind.FEW

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Train for the lesson's processor seconds.

        Raises:
            UsageError: If it learns from all cases and the table gives none.
            InputError: If the slices differ in their channels.
            CancelledError: If it was cancelled.
        """
        if self.full and not lesson.full:
            raise UsageError(
                f"'{self.name}' learns from all training cases of a set, and this table gives none; leave this row out."
            )
        cases = lesson.full if self.full else lesson.few
        mirror = may_mirror(cases) if self.mirror is None else self.mirror
        slices = annotated_slices(cases)
        recipe = FewShotRecipe(seconds=lesson.seconds, mirror=mirror, seed=lesson.seed)
        with computing_with(lesson.threads):
            return _Trained(train_few_shot(slices, recipe, progress, cancel))


@dataclass(frozen=True, eq=False)
class _Trained:
    unet: FewShotUnet

    def segment(self, case: Case) -> np.ndarray:
        return self.unet.segment(case.images, intensity_window(case.images))
