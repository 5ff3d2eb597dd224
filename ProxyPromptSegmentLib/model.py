"""A backbone and a prompt generator side by side, and how a named model is built."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from ProxyPromptSegmentLib.backbones.lora import inject_lora
from ProxyPromptSegmentLib.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.prompting.proxy.config import COMPACT, PRESETS, ProxyPromptConfig
from ProxyPromptSegmentLib.prompting.proxy.generator import PreparedSupport, ProxyPromptGenerator
from ProxyPromptSegmentLib.protocols import Decoded, ImageFeatures, Prompt


class ProxyPromptModel(nn.Module):
    """Proxy Prompt on one backbone: tensors in, tensors out; `Segmenter` owns sizes, caches and NumPy.

    Attributes:
        backbone: SAM.
        generator: CSM and CCM.
        lora_rank: Rank of the adapters in the backbone; 0 where there are none.
    """

    def __init__(self, backbone: SamBackbone, generator: ProxyPromptGenerator, lora_rank: int = 0) -> None:
        """Joins the two.

        Raises:
            UsageError: If the generator was configured for another grid or width.
        """
        super().__init__()
        wanted = (generator.config.image_size, generator.config.grid, generator.config.channels)
        offered = (backbone.image_size, backbone.grid, backbone.channels)
        if wanted != offered:
            raise UsageError(
                f"the prompt generator is made for size, grid and channels {wanted}, "
                f"the backbone {backbone.name} has {offered}; choose a generator for this backbone"
            )
        self.backbone = backbone
        self.generator = generator
        self.lora_rank = lora_rank

    def prepare(
        self,
        images: torch.Tensor,
        masks: torch.Tensor,
        names: tuple[str, ...] = (),
        valid: torch.Tensor | None = None,
    ) -> PreparedSupport:
        """Computes everything that depends on the supports alone.

        Args:
            images: ``(K, 3, size, size)`` in 0..1.
            masks: ``(K, N, size, size)``, 0 or 1.
            names: The ``N`` objects.
            valid: Feature positions that are not padding, bool ``(K, g, g)``.
        """
        return self.generator.prepare(self.backbone.encode(images, valid), images, masks, names)

    def predict(
        self, features: ImageFeatures, support: PreparedSupport, chosen: torch.Tensor | None = None
    ) -> tuple[Decoded, Prompt]:
        """Prompts and decodes ``B`` embedded targets for all objects of the support."""
        prompt = self.generator.prompt(features, support, chosen)
        return self.backbone.decode(features, prompt), prompt

    def describe(self) -> dict[str, Any]:
        """The metadata from which `build_model` builds the same architecture again."""
        return {
            "backbone": self.backbone.name,
            "generator": self.generator.config.to_dict(),
            "lora_rank": self.lora_rank,
        }


def build_model(
    backbone: str = "sam-compact",
    generator: ProxyPromptConfig | str | None = None,
    lora_rank: int | None = None,
    base: dict[str, torch.Tensor] | None = None,
) -> ProxyPromptModel:
    """Builds a model; weights that are not given are random.

    Args:
        backbone: A name of `SAM_NAMES`.
        generator: A configuration, or the name of a preset (``paper``, ``robust``, ``compact``); by default
            the one that fits the backbone.
        lora_rank: Rank of the adapters; by default 4 on an official backbone, which stays frozen, and 0 on
            the compact one, which is trained as a whole.
        base: State dict of `segment_anything.modeling.Sam`, as official checkpoints have it; it is loaded before the
            adapters change the names.

    Raises:
        UsageError: If a name is unknown or the two do not fit.
        CheckpointError: If ``base`` does not fit the backbone exactly.
    """
    if generator is None:
        generator = COMPACT if backbone == "sam-compact" else PRESETS["robust"]
    if isinstance(generator, str):
        if generator not in PRESETS:
            raise UsageError(f"there is no preset '{generator}'; choose one of {', '.join(PRESETS)}")
        generator = PRESETS[generator]
    made = SamBackbone(backbone)
    if base is not None:
        try:
            made.sam.load_state_dict(base)
        except RuntimeError as error:
            raise CheckpointError(f"these weights are not those of {backbone}: {error}") from error
    if lora_rank is None:
        lora_rank = 0 if backbone == "sam-compact" else 4
    if lora_rank:
        inject_lora(made, rank=lora_rank, alpha=lora_rank)
    if backbone == "sam-compact" and (generator.grid, generator.channels) == (64, 256):
        # The paper's choices at the compact size, for reproductions that two cores can train.
        generator = dataclasses.replace(
            generator,
            image_size=made.image_size,
            grid=made.grid,
            channels=made.channels,
            vim_dim=COMPACT.vim_dim,
            vim_depth=COMPACT.vim_depth,
            vim_state=COMPACT.vim_state,
            bridge_width=COMPACT.bridge_width,
            ccm_width=COMPACT.ccm_width,
            ccm_heads=COMPACT.ccm_heads,
            ccm_ffn=COMPACT.ccm_ffn,
        )
    return ProxyPromptModel(made, ProxyPromptGenerator(generator), lora_rank)
