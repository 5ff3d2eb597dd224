"""Matching of pretrained features: each position of a target takes over the labels of the positions most like it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import support_of
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import SupportPair

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.broad.trunk_matching import TrunkMatching

NAME = "matched features"


@dataclass(frozen=True, eq=False)
class FeatureMatching:
    """Training-free matching of features.

    Attributes:
        frozen: The model whose image encoder makes the features.
        trunk: File of the ImageNet weights that make them instead, see `imagenet_trunk.load_imagenet`; None for the
            model's own.
    """

    frozen: Frozen
    trunk: Path | None = None
    name: str = NAME
    kind: Kind = Kind.FREE

    @property
    def source(self) -> str:
        """Which features are compared."""
        features = f"the image encoder of {self.frozen.title}" if self.trunk is None else "EfficientNet-Lite0, ImageNet"
        return f"cosine and softmax over all positions of the supports, as in prototype-free matching; {features}"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Choose the supports of the few cases."""
        return _Matched(self._matching(), list(support_of(lesson.few).pairs))

    def _matching(self) -> TrunkMatching:
        import torch

        from ProxyPromptSegmentLib.evaluation.broad.trunk_matching import TrunkMatching

        if self.trunk is not None:
            from ProxyPromptSegmentLib.networks.imagenet_trunk import load_imagenet

            return TrunkMatching(load_imagenet(self.trunk))
        segmenter = self.frozen.segmenter
        backbone = segmenter.model.backbone

        def top(centred: torch.Tensor) -> list[torch.Tensor]:
            images = (0.5 * centred + 0.5).to(segmenter.device)
            parts = [backbone.encode(some).top for some in images.split(segmenter.batch)]
            return [torch.cat(parts).cpu()]

        return TrunkMatching(top, backbone.image_size, backbone.grid, backbone.keeps_aspect)


@dataclass(frozen=True, eq=False)
class _Matched:
    matching: TrunkMatching
    pairs: list[SupportPair]

    def segment(self, case: Case) -> np.ndarray:
        return self.matching.segment(case, self.pairs)
