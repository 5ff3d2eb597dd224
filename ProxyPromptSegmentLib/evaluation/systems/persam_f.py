"""PerSAM-F: two weights of the decoder's three readings are learned on the annotated image.

References:
    Zhang et al. 2023, section 3.4, and its public ``persam_f.py``: AdamW at 1e-3 with eps 1e-4, cosine schedule over
    1000 steps, Dice plus focal loss; the feature is half the mean and half the maximum under the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.errors import CancelledError
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen, check_sam
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import support_of
from ProxyPromptSegmentLib.evaluation.systems.persam import (
    READINGS,
    SOURCE,
    Personal,
    features_of,
    point_at,
    refined,
    similarity,
)
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.inference.by_hand.decode import tokens_of
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.networks.letterbox import logits_to_slice, masks_to_tensor
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import SupportPair

NAME = "PerSAM-F"
RATE, STEPS, EPSILON = 1e-3, 1000, 1e-4
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


@dataclass(frozen=True, eq=False)
class PerSamF:
    """PerSAM with learned weights of the three readings.

    Attributes:
        frozen: A SAM.
        steps: Steps of each object's two weights.
    """

    frozen: Frozen
    steps: int = STEPS
    name: str = NAME
    kind: Kind = Kind.FEW

    @property
    def source(self) -> str:
        """Where the method is published."""
        return SOURCE + self.frozen.stands_in("official SAM weights")

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Learn two weights of each object.

        Raises:
            UsageError: If the model is no SAM.
            CancelledError: If it was cancelled.
        """
        segmenter, pairs = self.frozen.segmenter, support_of(lesson.few).pairs
        check_sam(segmenter)
        count, features, weights = len(lesson.few[0].objects), [], []
        with torch.inference_mode():
            for one in features_of(segmenter, pairs, count):
                features.append(one.amax(0) / 2 + one.mean(0) / 2)
        for number, feature in enumerate(features):
            drawn = [drawn_readings(segmenter, pair, number, feature) for pair in pairs if pair.masks[number].any()]

            def tell(done: float, number: int = number) -> None:
                if progress is not None:
                    progress((number + done) / count)

            weights.append(learned_weights(drawn, self.steps, tell, cancel))
        return _Weighted(segmenter, torch.stack(features), torch.stack(weights))


def drawn_readings(
    segmenter: Segmenter, pair: SupportPair, number: int, feature: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of the three readings of a support, ``(3, positions)``, and its truth, ``(positions)``.

    The positions are those of the decoder's own grid that show the image. The public code has the image's pixels, to
    which the logits are only interpolated; on a processor a thousand steps over them would take an hour.
    """
    with torch.inference_mode():
        encoded = segmenter.encode(pair.image[None], pair.window, pair.spacing_mm)
        _, logits = three_readings(segmenter, encoded, feature)
        rows, columns = (-(-side * logits.shape[-1] // encoded.box.size) for side in encoded.box.valid)
        whole = masks_to_tensor(pair.masks[None, [number]], encoded.box)
        truth = functional.adaptive_avg_pool2d(whole, logits.shape[-2:])[0, 0, :rows, :columns].flatten()
        inside = logits[:, :rows, :columns].flatten(1).float().cpu()
    return inside.clone(), truth.clone()


def three_readings(
    segmenter: Segmenter, encoded: EncodedSlices, feature: torch.Tensor
) -> tuple[HandPrompt, torch.Tensor]:
    """Return the positive point on a slice, and the logits of the decoder's three readings of it, ``(3, 4g, 4g)``."""
    backbone = check_sam(segmenter)
    said = HandPrompt(points=(point_at(similarity(encoded, feature), True),))
    tokens = tokens_of(backbone, said, encoded.box, encoded.features.top)
    return said, backbone.decode_masks(encoded.features, Prompt(sparse=tokens), READINGS)[0][0, 0]


def learned_weights(
    drawn: Sequence[tuple[torch.Tensor, torch.Tensor]],
    steps: int = STEPS,
    progress: Callable[[float], None] | None = None,
    cancel: CancelToken | None = None,
) -> torch.Tensor:
    """Return the weights ``(3,)`` of the three readings, which add up to 1; the mean loss of all supports counts."""
    free = torch.nn.Parameter(torch.ones(2) / 3)
    optimizer = torch.optim.AdamW([free], lr=RATE, eps=EPSILON)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        if cancel is not None and cancel.cancelled:
            raise CancelledError("the training of PerSAM-F's weights was cancelled")
        weights = torch.cat([1 - free.sum(0, keepdim=True), free])
        losses = [dice_and_focal(weights @ logits, truth) for logits, truth in drawn]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        schedule.step()
        if progress is not None and step % 50 == 49:
            progress((step + 1) / steps)
    return torch.cat([1 - free.sum(0, keepdim=True), free]).detach()


def dice_and_focal(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return soft Dice with 1 in both parts of the fraction, plus the focal loss; both ``(pixels,)``."""
    probability = torch.sigmoid(logits)
    dice = 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    right = probability * truth + (1 - probability) * (1 - truth)
    share = FOCAL_ALPHA * truth + (1 - FOCAL_ALPHA) * (1 - truth)
    crossed = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return dice + (share * crossed * (1 - right) ** FOCAL_GAMMA).mean()


@dataclass(frozen=True, eq=False)
class _Weighted(Personal):
    weights: torch.Tensor  # (N, 3)

    def object(self, encoded: EncodedSlices, number: int) -> np.ndarray:
        """Draw one object on one embedded slice; uint8 ``(H, W)``."""
        said, logits = three_readings(self.segmenter, encoded, self.features[number])
        first = torch.einsum("k,khw->hw", self.weights[number].to(logits), logits)
        shown = (logits_to_slice(first, encoded.box) > 0).to(torch.uint8).cpu().numpy()
        boxed = HandPrompt(said.points, HandPrompt(mask=shown).extent)
        return refined(check_sam(self.segmenter), encoded, boxed, first)
