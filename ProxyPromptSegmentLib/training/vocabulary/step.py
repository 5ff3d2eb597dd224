"""The loss of one step: what the frozen decoder draws of a generated prompt, and the prompt beside that of a box."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.class_prompt.diffusion import MOST_LOGIT
from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedClasses, Prompt
from ProxyPromptSegmentLib.training.broad.manual import boxes
from ProxyPromptSegmentLib.training.losses import binary_cross_entropy, gate_by_presence, intersection_over_union
from ProxyPromptSegmentLib.training.vocabulary.losses import (
    UncertaintyWeighting,
    signed_distance_loss,
    soft_mask_logits,
    softened_divergence,
    squared_dice_loss,
    transfer_loss,
)
from ProxyPromptSegmentLib.training.vocabulary.recipe import LossSwitches
from ProxyPromptSegmentLib.training.vocabulary.sampler import ClassEpisode

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.networks.model import ProxyPromptModel

PARTS = ("loss", "bce", "dice", "distribution", "transfer", "presence", "iou", "told")
EMPTY_SHARE = 0.01  # smoothing of the Dice loss on images without the class, as a share of the image
BOX_TOKENS = 2


def weighted_losses(switches: LossSwitches) -> tuple[str, ...]:
    """Return the names of the losses that a recipe has, which uncertainty weighs."""
    chosen = {
        "bce": switches.bce,
        "dice": switches.dice,
        "distribution": switches.distribution != "none",
        "transfer": switches.transfer,
    }
    return tuple(name for name, wanted in chosen.items() if wanted)


def class_loss(
    model: ProxyPromptModel,
    weighting: UncertaintyWeighting,
    episode: ClassEpisode,
    switches: LossSwitches,
    decoding: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of an episode and its `PARTS` as one vector without gradient.

    Args:
        model: The model; only its generator has gradients.
        weighting: Weighs the losses of the recipe.
        episode: The images and classes.
        switches: Which losses count.
        decoding: Whether the decoder runs; else its losses are 0, and those of transfer and presence are learned.
    """
    backbone, asked = model.backbone, episode.truth.shape[1]
    features = _features(backbone, episode)
    prompt = _prompt_each(model.generator, features, episode)
    presence = prompt.presence
    mine = _first(prompt, asked)
    truth = episode.truth
    zero = torch.zeros((), device=truth.device)
    decoded = model.generator.finish(backbone.decode(features, mine), features) if decoding else None
    with torch.autocast(truth.device.type, enabled=False):
        found = dict.fromkeys(weighting.names, zero)
        iou = zero
        if decoded is not None:
            logits = decoded.logits.float()
            if logits.shape[-1] != truth.shape[-1]:
                logits = functional.interpolate(logits, size=truth.shape[-2:], mode="bilinear", align_corners=False)
            if presence is not None:
                logits = gate_by_presence(logits, presence[:, :asked].float())
            found |= mask_losses(logits, truth, switches)
            there = episode.there[:, :asked]
            iou = (intersection_over_union(logits, truth) * there).sum() / there.sum().clamp(min=1)
        if switches.transfer:
            found["transfer"] = _transfer(backbone, mine, truth, episode.there[:, :asked], switches.mask_transfer)
        total = (
            weighting(found) if switches.weighting == "uncertainty" else sum((found[n] for n in weighting.names), zero)
        )
        if (surrogate := getattr(model.generator, "surrogate", None)) is not None and mine.dense is not None:
            total = total + _preview(surrogate(mine.dense.detach().float().flatten(0, 1)), truth)
        present = told = zero
        if presence is not None:
            each = functional.binary_cross_entropy_with_logits(presence.float(), episode.there, reduction="none")
            present = (each * episode.counted).sum() / episode.counted.sum()
            right = ((presence > 0).float() == episode.there).float()
            told = (right * episode.counted).sum() / episode.counted.sum()
            total = total + switches.presence * present
        known = [total, *(found.get(name, zero) for name in PARTS[1:5]), present, iou, told]
    return total, torch.stack([value.detach().float() for value in known])


def mask_losses(logits: torch.Tensor, truth: torch.Tensor, switches: LossSwitches) -> dict[str, torch.Tensor]:
    """Return the pixel, region and distribution losses of a recipe; both are ``(B, N, h, w)``."""
    found = {
        "bce": binary_cross_entropy(logits, truth).mean(),
        "dice": squared_dice_loss(logits, truth, empty_smooth=EMPTY_SHARE * truth.shape[-1] ** 2).mean(),
    }
    if switches.distribution != "none":
        kind = softened_divergence if switches.distribution == "kl" else signed_distance_loss
        found["distribution"] = kind(logits, truth).mean()
    return found


def _preview(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the loss of the surrogate decoder, ``(B * N, 1, h, w)``; the prompt that it reads has no gradient."""
    logits = logits.float().view(truth.shape)
    return binary_cross_entropy(logits, truth).mean() + squared_dice_loss(logits, truth).mean()


def _features(backbone: Backbone, episode: ClassEpisode) -> ImageFeatures:
    positions: Any = backbone.positions()  # type: ignore[attr-defined]
    return ImageFeatures(top=episode.top, positions=positions, valid=episode.valid)


def _prompt_each(generator: Any, features: ImageFeatures, episode: ClassEpisode) -> Prompt:
    """Prompt each image for classes of its own; a generator that cannot draws all of its classes."""
    if hasattr(generator, "prompt_each"):
        prompt: Prompt = generator.prompt_each(features, episode.classes, drawn=episode.truth.shape[1])
        return prompt
    if generator.embeds:
        embed = generator.embed if episode.images.ndim == 4 else generator.embed_kept
        features = dataclasses.replace(features, seen=embed(episode.images))
    everything = PreparedClasses(classes=torch.arange(len(generator.vocabulary), device=features.top.device))
    whole = generator.prompt(features, everything)
    rows = torch.arange(len(features.top), device=features.top.device).unsqueeze(1)
    chosen = {
        name: value[rows, episode.classes]
        for name in ("sparse", "dense", "presence", "mask")
        if (value := getattr(whole, name)) is not None
    }
    return Prompt(**chosen)


def _first(prompt: Prompt, count: int) -> Prompt:
    """Return the prompt of the first objects alone."""
    return Prompt(
        sparse=None if prompt.sparse is None else prompt.sparse[:, :count],
        dense=None if prompt.dense is None else prompt.dense[:, :count],
        mask=None if prompt.mask is None else prompt.mask[:, :count],
    )


def _transfer(
    backbone: Backbone, prompt: Prompt, truth: torch.Tensor, there: torch.Tensor, masks: bool
) -> torch.Tensor:
    """Return the loss of the prompt beside the backbone's own of a box and, if asked for, of a soft mask."""
    loss = torch.zeros((), device=truth.device)
    if prompt.sparse is not None and prompt.sparse.shape[2] == BOX_TOKENS:
        with torch.no_grad():
            corners, _ = boxes((truth.flatten(0, 1) > 0.5).float())
            larger = backbone.image_size / truth.shape[-1]
            tokens = backbone.prompt_points(None, None, corners.flatten(1) * larger)[:, :BOX_TOKENS]
        loss = loss + transfer_loss(prompt.sparse, tokens.unflatten(0, truth.shape[:2]), there)
    if masks and prompt.mask is not None:  # a mask prompt itself, in shares of its largest logit
        loss = loss + functional.mse_loss(prompt.mask.float() / MOST_LOGIT, soft_mask_logits(truth) / MOST_LOGIT)
    elif masks and prompt.dense is not None and isinstance(backbone, SamBackbone):
        with torch.no_grad():
            soft = soft_mask_logits(truth).flatten(0, 1).unsqueeze(1)
            wanted = backbone.sam.prompt_encoder.mask_downscaling(soft).unflatten(0, truth.shape[:2])
        loss = loss + functional.mse_loss(prompt.dense.float(), wanted)
    return loss
