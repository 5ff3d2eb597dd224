"""A prompt generator with random weights on a copy of a frozen backbone, with the choices of a recipe."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.networks.backbones.lora import SAM2_DECODER, SAM_DECODER, inject_lora
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.model import LORA_RANK, ProxyPromptModel
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT, PRESETS, ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.training.adapting.beginning import NEW_GENERATOR

FEW = "few"
"""The choices that a few cases can train from random weights in minutes, those of an adaptation."""
RECIPES = {FEW: "robust"}  # whose optimiser, losses and numbers of supports they are trained with
RATES = {FEW: 1e-3}
"""Peak learning rates in the place of a recipe's; that of ``robust`` is for days, and draws nothing after minutes."""
COMPACT_SIZES = ("vim_dim", "vim_depth", "vim_state", "bridge_width", "ccm_width", "ccm_heads", "ccm_ffn")
ENCODERS = {"vim": ("vim", "vim"), "vit": ("vit_compact", "vit_b"), "resnet": ("resnet_compact", "resnet50")}
GENERATOR, DECODERS = "generator.", (".mask_decoder.", ".sam_mask_decoder.")


def generator_config(frozen: Frozen, preset: str, changes: Mapping[str, Any], encoder: str = "") -> ProxyPromptConfig:
    """Return the configuration of a generator for a backbone: a preset's choices, on a compact backbone its sizes.

    Args:
        frozen: The backbone.
        preset: Name of a preset, or `FEW`.
        changes: Keys that differ from it.
        encoder: ``vim``, ``vit`` or ``resnet``, at the size that fits the backbone; empty for the preset's.

    Raises:
        UsageError: If a key has a value that does not exist.
    """
    if encoder and encoder not in ENCODERS:
        raise UsageError(f"the contextual encoder is '{encoder}'; choose one of {', '.join(ENCODERS)}")
    backbone, sizes = frozen.segmenter.model.backbone, {}
    if frozen.compact:
        sizes = {key: getattr(COMPACT, key) for key in COMPACT_SIZES}
    if encoder:
        sizes["encoder"] = ENCODERS[encoder][0 if frozen.compact else 1]
    own = {"image_size": backbone.image_size, "grid": backbone.grid, "channels": backbone.channels}
    chosen = NEW_GENERATOR if preset == FEW else PRESETS[preset]
    return replace(chosen, **{**sizes, **own, **changes})


def new_model(frozen: Frozen, config: ProxyPromptConfig, seed: int) -> ProxyPromptModel:
    """Return a model whose generator and mask decoder are trained; of official weights adapters in the decoder alone.

    Args:
        frozen: The backbone, of which a copy is taken.
        config: The generator's configuration.
        seed: Seed of its weights.
    """
    backbone = copy.deepcopy(frozen.segmenter.model.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = ProxyPromptGenerator(config).to(frozen.segmenter.device)
        rank: int | tuple[int, int] = 0
        if not frozen.compact:
            sam = isinstance(backbone, SamBackbone)
            modules = backbone.sam if isinstance(backbone, SamBackbone) else backbone.sam2  # type: ignore[attr-defined]
            inject_lora(modules, LORA_RANK, LORA_RANK, (SAM_DECODER if sam else SAM2_DECODER,))
            modules.to(frozen.segmenter.device)
            rank = (0, LORA_RANK)
    model = ProxyPromptModel(backbone, generator, rank)
    for name, parameter in model.named_parameters():
        decoder = any(part in name for part in DECODERS) and (frozen.compact or "lora_" in name)
        parameter.requires_grad_(name.startswith(GENERATOR) or decoder)
    return model
