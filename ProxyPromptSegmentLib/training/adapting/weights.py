"""Which weights are trained, and how far they go: from those at the start towards the trained ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ProxyPromptSegmentLib.networks.backbones.sam import VIT_SIZES
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.training.adapting.settings import PROMPT

DECODER = "backbone.sam.mask_decoder."
# Kinship compares features, which stay as they are, and was fitted on many kinds of images. How much a slice's position
# counts cannot be learned from a few cases.
FROZEN = ("generator.kinship.", "generator.depth_scale")
BEFORE_MAP = ("generator.contextual_encoder.", "generator.bridge.")


def trained_names(model: ProxyPromptModel, trained: str) -> list[str]:
    """Return the names of the parameters that are trained, in the model's order.

    Args:
        model: The model; the decoder of official weights stays frozen, so that its file need not be stored.
        trained: See `AdaptSettings`.
    """
    left_out = FROZEN + (BEFORE_MAP if trained == PROMPT else ())
    wanted = ("generator.",) if model.backbone.name in VIT_SIZES else ("generator.", DECODER)
    return [name for name, _ in model.named_parameters() if name.startswith(wanted) and not name.startswith(left_out)]


def freeze_but(model: ProxyPromptModel, names: list[str]) -> list[torch.nn.Parameter]:
    """Freeze all parameters but the named ones, which are returned in this order."""
    chosen = dict(model.named_parameters())
    for parameter in chosen.values():
        parameter.requires_grad_(False)
    return [chosen[name].requires_grad_(True) for name in names]


def between(
    start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Return the weights at a share of the way from the first to the last ones."""
    return {name: torch.lerp(start[name], end[name], share) for name in end}


def put(model: ProxyPromptModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a model by name."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
