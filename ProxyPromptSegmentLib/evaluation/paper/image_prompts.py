"""Systems of AutoSAM's and AutoMedSAM's tables: models that need no support, a small decoder, masks as prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.known_classes import Knowing
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.by_hand.decode import corrected, nothing_yet
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.asked import AskedObjects

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter


class Drawn(Enum):
    """What draws the mask."""

    MODEL = "the model"
    SURROGATE = "the model's own small decoder"


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassModel:
    """A model that makes prompts of a class, or of the image alone.

    Attributes:
        frozen: The model.
        drawn: What draws the mask.
        name: Its name in the tables.
    """

    frozen: Frozen
    drawn: Drawn = Drawn.MODEL
    name: str = "AutoSAM"
    kind: Kind = Kind.FULL

    @property
    def source(self) -> str:
        """Where the method is published, with what stands in for it."""
        return f"AutoSAM, arXiv:2306.06370; AutoMedSAM, arXiv:2502.06817; the model {self.frozen.title} of this project"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Look up the classes; nothing is trained.

        Raises:
            UsageError: If the model reads supports, does not know one of the objects, or has no small decoder.
        """
        segmenter = self.frozen.segmenter
        prepared = segmenter.prepare_classes(AskedObjects(lesson.few[0].objects))
        return Knowing(segmenter if self.drawn is Drawn.MODEL else segmenter.with_surrogate(), prepared)


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskPrompt:
    """SAM's own mask prompt: another system's mask, or the true one.

    Attributes:
        frozen: The SAM that is prompted.
        by: The system that draws the prompt; None for the truth.
        name: Its name in the tables.
    """

    frozen: Frozen
    by: ClassModel | None
    name: str

    @property
    def kind(self) -> Kind:
        """How it knows what to segment."""
        return Kind.TRUTH if self.by is None else self.by.kind

    @property
    def source(self) -> str:
        """Where the method is published."""
        return "Kirillov et al., Segment Anything, 2023: a low-resolution mask as the prompt, with the box around it"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Fit the system that draws the prompt."""
        first = None if self.by is None else self.by.fit(lesson, progress, cancel)
        return _Redrawn(self.frozen.segmenter, first)


@dataclass(frozen=True, eq=False)
class _Redrawn:
    segmenter: Segmenter
    first: Fitted | None

    def segment(self, case: Case) -> np.ndarray:
        prompts = case.masks if self.first is None else self.first.segment(case)
        found = np.zeros_like(case.masks)
        window, spacing, count = intensity_window(case.images), spacing_of(case), len(case.objects)
        for index in np.flatnonzero(prompts.any(axis=(1, 2, 3))):
            said = {n: HandPrompt(mask=prompts[index, n]) for n in range(count) if prompts[index, n].any()}
            encoded = self.segmenter.encode(case.images[index : index + 1], window, spacing)
            shape = (int(case.images.shape[1]), int(case.images.shape[2]))
            drawn = corrected(self.segmenter, encoded, said, nothing_yet(0, count, shape))
            found[index] = drawn.probability * drawn.presence[:, None, None] > THRESHOLD
        return found
