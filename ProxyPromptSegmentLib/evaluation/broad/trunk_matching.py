"""Matching of the features of a trunk that learned nothing but to name photographs: what training has to beat.

Positions of the target are compared with those of all supports (cosine, the mean over three levels), and take over the
supports' labels with weights from a softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
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
_TOGETHER = 512  # positions of a target that are compared at once

Trunk = Callable[[torch.Tensor], Sequence[torch.Tensor]]
"""Makes levels ``(S, C, h, w)``, of which the last three are compared, of images ``(S, 3, size, size)`` in -1..1."""


class TrunkMatching:
    """A segmenter without any training on segments.

    Attributes:
        trunk: The trunk.
    """

    def __init__(self, trunk: Trunk, size: int = SIZE, grid: int = GRID, keep_aspect: bool = True) -> None:
        """Keep the trunk; embeddings of the last target are kept until the next.

        Args:
            trunk: The trunk.
            size: Side of its input in pixels.
            grid: Side of the largest level that is compared.
            keep_aspect: Whether images are letterboxed; else they are squashed to the square.
        """
        self.trunk, self._size, self._grid, self._keep_aspect = trunk, size, grid, keep_aspect
        self._embedded: tuple[Case, torch.Tensor] | None = None

    def segment(self, case: Case, pairs: list[SupportPair]) -> np.ndarray:
        """Segment every slice of a case; uint8 ``(S, N, H, W)``."""
        with torch.inference_mode():
            keys, labels = [], []
            for pair in pairs:
                box = self._box(pair.image, pair.spacing_mm)
                valid = valid_tokens(box, self._grid).flatten()
                keys.append(self._features(pair.image[None], pair.window, box)[0][:, valid])
                filled = functional.adaptive_avg_pool2d(masks_to_tensor(pair.masks[None], box), self._grid)
                labels.append(filled[0].flatten(1)[:, valid])
            box = self._box(case.images[0], spacing_of(case))
            found = [transfer(one, torch.cat(keys, 1), torch.cat(labels, 1)) for one in self._target(case, box)]
            maps = logits_to_slice(torch.stack(found).unflatten(-1, (self._grid, self._grid)), box)
        return (maps > 0.5).to(torch.uint8).numpy()

    def _box(self, image: np.ndarray, spacing_mm: tuple[float, float]) -> Letterbox:
        return Letterbox(self._size, (image.shape[0], image.shape[1]), spacing_mm, self._keep_aspect)

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
    parts = [labels @ (part.T @ keys / TEMPERATURE).softmax(dim=1).T for part in features.split(_TOGETHER, dim=1)]
    return torch.cat(parts, dim=1)
