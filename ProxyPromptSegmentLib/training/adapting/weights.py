"""Which weights are trained, and how far they go: from those at the start towards the trained ones."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch

from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES, ProxyPromptModel
from ProxyPromptSegmentLib.training.adapting.settings import ENCODER, PROMPT

DECODER = "backbone.sam.mask_decoder."
# Kinship compares features of whole images, and was fitted on many kinds of them. How much a slice's position
# counts cannot be learned from a few cases.
FROZEN = ("generator.kinship.", "generator.depth_scale")
IN_ENCODER = "image_encoder."
BRIDGE = "backbone.bridge."  # into SAM 2's memory attention; it belongs to the prompt
BEFORE_MAP = ("generator.contextual_encoder.", "generator.bridge.")


def trained_names(model: ProxyPromptModel, trained: str) -> list[str]:
    """Return the names of the parameters that are trained, in the model's order.

    Args:
        model: The model; official weights stay as they are, and adapters in them are trained.
        trained: See `AdaptSettings`.
    """
    left_out = FROZEN + (BEFORE_MAP if trained == PROMPT else ())
    names = [name for name, _ in model.named_parameters() if not name.startswith(left_out)]
    if is_official(model):
        adapted = ("mask_decoder.", IN_ENCODER) if trained == ENCODER else ("mask_decoder.",)
        return [name for name in names if name.startswith(("generator.", BRIDGE)) or _adapts(name, adapted)]
    encoder = trained == ENCODER
    return [name for name in names if name.startswith(("generator.", DECODER)) or (encoder and IN_ENCODER in name)]


def _adapts(name: str, places: tuple[str, ...]) -> bool:
    return "lora_" in name and any(place in name for place in places)


def of_encoder(names: Iterable[str]) -> list[str]:
    """Return the names that are the image encoder's."""
    return [name for name in names if IN_ENCODER in name]


def is_official(model: ProxyPromptModel) -> bool:
    """Return whether a model's backbone has official weights, which are in a file of their own."""
    return model.backbone.name not in COMPACT_NAMES


def twin(model: ProxyPromptModel, trained: Iterable[str]) -> ProxyPromptModel:
    """Return a copy of a model that has its own parameters of these names; nothing trains the others, it shares them.

    An image encoder of official weights has up to 2.5 GB.
    """
    own = set(trained)
    copied: ProxyPromptModel = copy.deepcopy(
        model, {id(value): value for name, value in model.named_parameters() if name not in own}
    )
    return copied


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
