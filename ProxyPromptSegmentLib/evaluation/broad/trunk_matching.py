"""Matching of the features of a trunk that learned nothing but to name photographs: what training has to beat.

Positions of the target are compared with those of all supports (cosine, the mean over three levels), and take over the
supports' labels with weights from a softmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0
from ProxyPromptSegmentLib.networks.letterbox import (
    Letterbox,
    images_to_tensor,
    logits_to_slice,
    masks_to_tensor,
    valid_tokens,
)

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.support.pairs import SupportPair

SIZE, GRID, TEMPERATURE = 256, 32, 0.03


class TrunkMatching:
    """A segmenter without any training on segments.

    Attributes:
        trunk: The trunk.
    """

    def __init__(self, trunk: EfficientNetLite0) -> None:
        """Keep the trunk; embeddings of the last target are kept until the next."""
        self.trunk = trunk
        self._embedded: tuple[Case, torch.Tensor] | None = None

    def segment(self, case: Case, pairs: list[SupportPair]) -> np.ndarray:
        """Segment every slice of a case; uint8 ``(S, N, H, W)``."""
        with torch.inference_mode():
            keys, labels = [], []
            for pair in pairs:
                box = Letterbox(SIZE, (pair.image.shape[0], pair.image.shape[1]), pair.spacing_mm)
                valid = valid_tokens(box, GRID).flatten()
                keys.append(self._features(pair.image[None], pair.window, box)[0][:, valid])
                filled = functional.adaptive_avg_pool2d(masks_to_tensor(pair.masks[None], box), GRID)
                labels.append(filled[0].flatten(1)[:, valid])
            spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
            box = Letterbox(SIZE, (case.images.shape[1], case.images.shape[2]), spacing)
            found = [transfer(one, torch.cat(keys, 1), torch.cat(labels, 1)) for one in self._target(case, box)]
            maps = logits_to_slice(torch.stack(found).unflatten(-1, (GRID, GRID)), box)
        return (maps > 0.5).to(torch.uint8).numpy()

    def _target(self, case: Case, box: Letterbox) -> torch.Tensor:
        """Return the features of a target, computed once for all draws of supports."""
        if self._embedded is None or self._embedded[0] is not case:
            window = intensity_window(case.images)
            parts = [self._features(image[None], window, box) for image in case.images]
            self._embedded = (case, torch.cat(parts))
        return self._embedded[1]

    def _features(self, images: np.ndarray, window: tuple[float, float], box: Letterbox) -> torch.Tensor:
        """Return the features of slices, ``(S, C, P)``, so that a product is the mean cosine over the levels."""
        levels = self.trunk((images_to_tensor(images, window, box) - 0.5) / 0.5)[-3:]  # strides 8, 16 and 32
        side = levels[0].shape[-2:]
        unit = [functional.normalize(level, dim=1) for level in levels]
        wide = [functional.interpolate(level, size=side, mode="bilinear", align_corners=False) for level in unit]
        return torch.cat([functional.normalize(level, dim=1) for level in wide], dim=1).flatten(2) / len(levels) ** 0.5


def transfer(features: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return labels ``(N, P)`` for target features ``(C, P)`` from keys ``(C, M)`` and their labels ``(N, M)``."""
    weight = (features.T @ keys / TEMPERATURE).softmax(dim=1)
    return labels @ weight.T
