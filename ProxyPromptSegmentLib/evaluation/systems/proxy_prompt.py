"""Proxy Prompt as the model is: the few cases are its supports, nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import support_of
from ProxyPromptSegmentLib.evaluation.systems.stacks import marked_stacks, stack_of
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.inference.helps import REGISTER, Helps
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.stack import Planned, planned_for, segment_planned
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import MOST_READ, SupportSet
from ProxyPromptSegmentLib.support.registration.prior import FEWEST_SLICES, MarkedStack, register

NAME = "model as given"


@dataclass(frozen=True, eq=False)
class InContext:
    """The model as given, with the few cases as supports, as `segment` runs it.

    Attributes:
        frozen: The model.
        register: Whether supports that are volumes are registered to targets that are.
    """

    frozen: Frozen
    register: bool = REGISTER
    name: str = NAME
    kind: Kind = Kind.FREE

    @property
    def source(self) -> str:
        """Where the method is published."""
        return "Proxy Prompt, section 3, without its training on the set"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Choose the supports of the few cases."""
        return Supported(
            self.frozen.segmenter.reading(MOST_READ),
            support_of(lesson.few),
            marked_stacks(lesson.few) if self.register else [],
        )


@dataclass(eq=False)
class Supported:
    """A model with its supports; what depends on them alone is computed once for each size of slices.

    Attributes:
        segmenter: The model.
        support: The supports.
        volumes: The annotated volumes among them, to be registered to targets.
    """

    segmenter: Segmenter
    support: SupportSet
    volumes: list[MarkedStack] = field(default_factory=list)
    _planned: dict[tuple[tuple[int, int], tuple[float, float]], Planned] = field(default_factory=dict)

    def segment(self, case: Case) -> np.ndarray:
        """Segment every slice; uint8 ``(S, N, H, W)``."""
        key = ((int(case.images.shape[1]), int(case.images.shape[2])), spacing_of(case))
        if key not in self._planned:
            before = next(iter(self._planned.values()), None)
            self._planned = {key: planned_for(self.segmenter, self.support, *key, before=before)}  # the last size alone
        planned, helps = self._planned[key], None
        if self.volumes and len(case.images) >= FEWEST_SLICES and planned.plan.in_whole:
            helps = Helps(prior=register(self.volumes, stack_of(case)).masks)
        return segment_planned(planned, case.images, self.support, spacing_mm=spacing_of(case), helps=helps).masks()
