"""Med-SA: adapters in each block of the image encoder and a trained decoder, prompted with a point or box of the truth.

References:
    Wu et al., Medical SAM Adapter, 2023, section 3, and its public code for 2D images: adapters behind the attention
    and beside the hidden layers, Adam at 1e-4, cross-entropy with twice the weight inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.evaluation.systems.adapters import add_bottlenecks
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.learning import copied, trained
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.evaluation.systems.truth import Said, prompt_of
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.progress import CancelToken

RATE, COMPACT_RATE, INSIDE = 1e-4, 5e-4, 2.0
NOTHING = -20.0  # logit where the truth shows nothing to prompt with


@dataclass(frozen=True, eq=False)
class MedSa:
    """Med-SA on a frozen SAM.

    Attributes:
        frozen: A SAM, of which a copy is trained.
        said: With what of the truth it is prompted, in training and in use: `POINT` or `BOX`.
    """

    frozen: Frozen
    said: Said = Said.POINT
    kind: Kind = Kind.TRUTH

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return f"Med-SA, {self.said.value}"

    @property
    def source(self) -> str:
        """Where the method is published."""
        known = "Wu et al. 2023, Medical SAM Adapter (Med-SA), 2D; trained on the few cases, prompted with the truth"
        if not self.frozen.compact:
            return known
        return (
            f"{known}; {self.frozen.title} stands in for SAM's ViT-B: adapters in its two attention blocks and behind "
            f"the stages of its trunk, peak rate {COMPACT_RATE:g}"
        )

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Train for the lesson's processor seconds.

        Raises:
            UsageError: If the model is no SAM.
            CancelledError: If it was cancelled.
        """
        return trained(
            self.frozen, lesson, lambda sam: MedSaNetwork(sam, self.said), (RATE, COMPACT_RATE), 0.0, progress, cancel
        )


class MedSaNetwork(nn.Module):
    """A SAM with adapters.

    Attributes:
        backbone: A copy of the frozen one, with adapters; its mask decoder is trained as well.
    """

    def __init__(self, frozen: object, said: Said) -> None:
        """Copy the backbone and add what is trained."""
        super().__init__()
        self.backbone: SamBackbone = copied(frozen)
        add_bottlenecks(self.backbone.sam.image_encoder)
        self.backbone.sam.mask_decoder.requires_grad_(True)
        self._said = said

    def draw(self, images: torch.Tensor, valid: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the logits of all objects, prompted with the truth; where it shows none, that nothing is there."""
        features = self.backbone.encode(images, valid)
        there = masks.flatten(2).amax(dim=2) > 0.5
        tokens = torch.stack([torch.stack([self._tokens(mask) for mask in own]) for own in masks])
        logits = self.backbone.decode(features, Prompt(sparse=tokens.to(features.top))).logits
        return torch.where(there[..., None, None], logits, logits.new_full((), NOTHING))

    def _tokens(self, mask: torch.Tensor) -> torch.Tensor:
        """Return SAM's tokens of the prompt of one mask of the square, ``(t, C)``; of an empty one, of its corner."""
        truth = (mask > 0.5).to(torch.uint8).cpu().numpy()
        if not truth.any():
            truth = np.zeros_like(truth)
            truth[0, 0] = 1
        said, device = prompt_of(truth, self._said), mask.device
        with torch.no_grad():
            if said.box is not None:
                ends = torch.tensor([[said.box.left, said.box.top, said.box.right, said.box.bottom]], device=device)
                return self.backbone.prompt_points(None, None, ends)[0]
            places = torch.tensor([[(point.column, point.row) for point in said.points]], device=device)
            labels = torch.ones(1, len(said.points), dtype=torch.int32, device=device)
            return self.backbone.prompt_points(places.float(), labels)[0]

    def loss(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of the objects that are there, with twice the weight inside."""
        there = logits.flatten(2).amax(dim=2) > NOTHING
        weight = logits.new_full((), INSIDE)
        crossed = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="none")
        return (crossed.mean((2, 3)) * there).sum() / there.sum().clamp(min=1)
