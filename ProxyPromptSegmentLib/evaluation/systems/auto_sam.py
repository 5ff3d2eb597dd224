"""AutoSAM: a network makes the dense prompt of the image alone, for a SAM that stays as it is.

References:
    Shaharabany et al., AutoSAM, 2023, section 3: g is trained through the frozen decoder, by cross-entropy and Dice,
    Adam at 3e-4 and weight decay 1e-4.

A trunk that was trained before stays as it is: changed versions of the few slices are then embedded once, and a step
costs a fifth. At the published rate, through the compact decoder, which draws nothing without a prompt, a training of
minutes leaves every image empty; the compact rate is that of this project's own AutoSAM models.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ProxyPromptSegmentLib.evaluation.few_shot_unet import several_loss
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.learning import copied, trained
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0
from ProxyPromptSegmentLib.networks.image_prompt.config import COMPACT, OFFICIAL
from ProxyPromptSegmentLib.networks.image_prompt.generator import ImagePromptGenerator
from ProxyPromptSegmentLib.networks.imagenet_trunk import load_imagenet
from ProxyPromptSegmentLib.networks.values import ImageFeatures, Prompt
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

NAME = "AutoSAM"
RATE, COMPACT_RATE, WEIGHT_DECAY = 3e-4, 2e-3, 1e-4


@dataclass(frozen=True, eq=False)
class AutoSam:
    """AutoSAM, trained on the few cases.

    Attributes:
        frozen: A SAM.
        trunk: File of ImageNet weights for g's trunk, see `imagenet_trunk.load_imagenet`; by default it begins as the
            trunk of the frozen model's image encoder, or at random where that has none.
    """

    frozen: Frozen
    trunk: Path | None = None
    name: str = NAME
    kind: Kind = Kind.FEW

    @property
    def source(self) -> str:
        """Where the method is published."""
        known = "Shaharabany et al. 2023, AutoSAM; EfficientNet-Lite0 in the place of HarDNet-85"
        if self.frozen.compact:
            known += f", frozen as the model's own, peak rate {COMPACT_RATE:g}"
        return known + self.frozen.stands_in("official SAM weights")

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Train g for the lesson's processor seconds.

        Raises:
            UsageError: If the model is no SAM.
            CheckpointError: If the trunk's file is unusable.
            CancelledError: If it was cancelled.
        """

        def make(sam: SamBackbone) -> AutoSamNetwork:
            return AutoSamNetwork(sam, len(lesson.few[0].objects), self._trunk())

        return trained(self.frozen, lesson, make, (RATE, COMPACT_RATE), WEIGHT_DECAY, progress, cancel)

    def _trunk(self) -> EfficientNetLite0 | None:
        """Return the trunk that g begins with."""
        if self.trunk is not None:
            return load_imagenet(self.trunk)
        own = getattr(self.frozen.segmenter.model.backbone.sam.image_encoder, "trunk", None)
        return own if isinstance(own, EfficientNetLite0) else None


class AutoSamNetwork(nn.Module):
    """g before a frozen SAM.

    Attributes:
        backbone: The frozen SAM.
        generator: g; only it is trained, without its trunk where that was trained before.
        keeps: Whether its trunk stays as it is.
    """

    def __init__(self, frozen: object, objects: int, trunk: EfficientNetLite0 | None = None) -> None:
        """Create g so that it begins as SAM's own prompt without a mask."""
        super().__init__()
        self.backbone: SamBackbone = copied(frozen)
        size = self.backbone.image_size
        base = OFFICIAL if size > COMPACT.image_size else COMPACT
        config = replace(
            base,
            image_size=size,
            grid=self.backbone.grid,
            channels=self.backbone.channels,
            read_size=min(base.read_size, size),
            classes=tuple(PromptClass(f"object {number + 1}") for number in range(objects)),
            presence=False,
            surrogate=False,
        )
        self.generator = ImagePromptGenerator(config)
        if trunk is not None:  # as a copy and not by its weights, for its norms may be folded into its convolutions
            stages = len(self.generator.encoder.trunk.blocks)
            own = copy.deepcopy(trunk).requires_grad_(False)
            own.blocks = own.blocks[:stages]
            self.generator.encoder.trunk = own
        self.keeps = trunk is not None
        self.generator.begin(self.backbone.sam.prompt_encoder.no_mask_embed.weight[0].detach())

    def draw(self, images: torch.Tensor, valid: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the logits of all objects; the truth is not looked at."""
        return self.decode(self.embed(images, valid))

    def embed(self, images: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return SAM's embedding, the valid positions, and the levels of g's trunk."""
        with torch.no_grad():
            top = self.backbone.encode(images, valid).top
        return top, valid, *self.generator.encoder.levels(images)

    def decode(self, embedded: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits of all objects of what `embed` returned."""
        top, valid, *levels = embedded
        features = ImageFeatures(top=top, positions=self.backbone.positions(), valid=valid)
        dense = self.generator.encoder.prompt_of(levels)[:, :, :-1]
        return self.backbone.decode(features, Prompt(dense=dense)).logits

    def loss(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return Dice plus cross-entropy."""
        return several_loss(logits, truth)
