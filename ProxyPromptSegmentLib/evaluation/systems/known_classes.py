"""Models of ours that know classes by name as systems: AutoMedSAM, and AutoSAM trained on whole sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.values import PreparedClasses
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.weights.classes import models_knowing

AUTO_MED_SAM, AUTO_SAM = "AutoMedSAM", "AutoSAM, trained on the whole set"
CLASS_MODEL, IMAGE_MODELS = "classes-compact", "autosam-"


@dataclass(frozen=True)
class KnownClasses:
    """A model that answers by the names of the objects; it learned from the training parts of whole data sets.

    Attributes:
        name: Its name in the tables.
        starts: How the names of the models that count begin; the first one that knows the objects is taken.
        device: The device to compute on.
    """

    name: str = AUTO_MED_SAM
    starts: str = CLASS_MODEL
    device: str = "cpu"
    kind: Kind = Kind.FULL

    @property
    def source(self) -> str:
        """Where the method is published."""
        known = "Huang et al. 2025, AutoMedSAM" if self.name == AUTO_MED_SAM else "Shaharabany et al. 2023, AutoSAM"
        return f"{known}; our own weights {self.starts}{'*' if self.starts.endswith('-') else ''} of this program"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Find the model that knows the lesson's objects.

        Raises:
            UsageError: If none does.
        """
        names = (lesson.few or lesson.full)[0].objects
        able = [one for one in models_knowing(names) if one.startswith(self.starts)]
        if not able:
            raise UsageError(
                f"no model of '{self.name}' knows {', '.join(names)}; leave this row out of the table, or name the "
                "objects as the model does."
            )
        segmenter = Frozen(able[0], self.device).segmenter
        return Knowing(segmenter, segmenter.model.generator.prepare_classes(names))


@dataclass(frozen=True, eq=False)
class Knowing:
    """A model with the classes that it is asked for.

    Attributes:
        segmenter: The model.
        prepared: The classes.
    """

    segmenter: Segmenter
    prepared: PreparedClasses

    def segment(self, case: Case) -> np.ndarray:
        """Segment every slice; uint8 ``(S, N, H, W)``."""
        return self.segmenter.segment(case.images, self.prepared, spacing_mm=spacing_of(case)).masks()
