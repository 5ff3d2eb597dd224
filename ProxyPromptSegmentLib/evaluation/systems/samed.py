"""SAMed: LoRA in the image encoder, mask decoder and prompt encoder trained, and no prompt at all.

Objects may overlap here, so that each has a sigmoid of its own where the paper has a softmax over exclusive classes.

References:
    Zhang and Liu 2023, section 3; its public ``sam_lora_image_encoder.py`` and ``trainer.py``: rank 4, AdamW with
    weight decay 0.1, 0.2 cross-entropy + 0.8 Dice, peak rate 0.005.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.evaluation.systems.adapters import add_lora
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.learning import copied, trained
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.progress import CancelToken

NAME = "SAMed"
RANK, RATE, COMPACT_RATE, WEIGHT_DECAY = 4, 5e-3, 5e-4, 0.1
DICE_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class Samed:
    """SAMed on a frozen SAM.

    Attributes:
        frozen: A SAM, of which a copy is trained.
    """

    frozen: Frozen
    name: str = NAME
    kind: Kind = Kind.FEW

    @property
    def source(self) -> str:
        """Where the method is published."""
        known = "Zhang and Liu 2023, Customized Segment Anything Model for Medical Image Segmentation (SAMed)"
        if not self.frozen.compact:
            return known
        return (
            f"{known}; {self.frozen.title} stands in for SAM's ViT-B: LoRA of rank {RANK} in its two attention blocks "
            f"and in the 1 x 1 convolutions of its trunk, peak rate {COMPACT_RATE:g}"
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
            self.frozen,
            lesson,
            lambda sam: SamedNetwork(sam, len(lesson.few[0].objects)),
            (RATE, COMPACT_RATE),
            WEIGHT_DECAY,
            progress,
            cancel,
        )


class SamedNetwork(nn.Module):
    """A SAM that draws all objects without a prompt.

    Attributes:
        backbone: A copy of the frozen one, with LoRA, and a decoder with a mask for each object and the background.
    """

    def __init__(self, frozen: object, objects: int) -> None:
        """Copy the backbone and add what is trained."""
        super().__init__()
        self.backbone: SamBackbone = copied(frozen)
        add_lora(self.backbone.sam.image_encoder, RANK)
        decoder = self.backbone.sam.mask_decoder
        with_masks(decoder, max(objects + 1, int(decoder.num_mask_tokens)))  # fewer would be another decoder
        for part in (self.backbone.sam.mask_decoder, self.backbone.sam.prompt_encoder):
            part.requires_grad_(True)
        self._objects = objects

    def draw(self, images: torch.Tensor, valid: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the logits of all objects; the truth is not looked at."""
        features = self.backbone.encode(images, valid)
        encoder, decoder = self.backbone.sam.prompt_encoder, self.backbone.sam.mask_decoder
        empty = features.top.new_zeros(1, 0, self.backbone.channels)
        dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, *features.top.shape[-2:])
        # The package's decoder pairs one image with many prompts.
        drawn = [
            decoder.predict_masks(
                image_embeddings=features.top[n : n + 1],
                image_pe=features.positions.unsqueeze(0),
                sparse_prompt_embeddings=empty,
                dense_prompt_embeddings=dense,
            )[0]
            for n in range(len(images))
        ]
        return torch.cat(drawn)[:, 1 : self._objects + 1]

    def loss(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return 0.2 cross-entropy + 0.8 Dice with squared denominator, of each object over the whole batch."""
        p, over = torch.sigmoid(logits), (0, 2, 3)
        overlap = 2 * (p * truth).sum(over) + 1e-5
        dice = 1 - overlap / (p.square().sum(over) + truth.square().sum(over) + 1e-5)
        crossed = functional.binary_cross_entropy_with_logits(logits, truth)
        return (1 - DICE_SHARE) * crossed + DICE_SHARE * dice.mean()


def with_masks(decoder: nn.Module, count: int) -> None:
    """Give SAM's decoder so many masks, in place; those beyond its own four begin as copies of the last."""
    known = int(decoder.num_mask_tokens)  # type: ignore[arg-type]
    chosen = [min(n, known - 1) for n in range(count)]
    with torch.no_grad():
        tokens = decoder.mask_tokens
        assert isinstance(tokens, nn.Embedding)
        decoder.mask_tokens = nn.Embedding.from_pretrained(tokens.weight[chosen].clone(), freeze=False)
        networks = decoder.output_hypernetworks_mlps
        assert isinstance(networks, nn.ModuleList)
        decoder.output_hypernetworks_mlps = nn.ModuleList(copy.deepcopy(networks[n]) for n in chosen)
        last = decoder.iou_prediction_head.layers[-1]  # type: ignore[union-attr, index]
        assert isinstance(last, nn.Linear)
        wider = nn.Linear(last.in_features, count)
        wider.weight.copy_(last.weight[chosen])
        wider.bias.copy_(last.bias[chosen])
        decoder.iou_prediction_head.layers[-1] = wider  # type: ignore[union-attr, index, operator]
    decoder.num_mask_tokens, decoder.num_multimask_outputs = count, count - 1  # type: ignore[assignment]
