"""Losses of a broad training: those of `training.losses`, without asking the device for a number."""

from __future__ import annotations

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.training.losses import binary_cross_entropy, dice_loss, intersection_over_union
from ProxyPromptSegmentLib.training.recipe import LossWeights

WEIGHTS = LossWeights()


def full_size(logits: torch.Tensor, side: int) -> torch.Tensor:
    """Enlarge logits ``(B, N, h, w)`` to the truth's side, in full precision."""
    return functional.interpolate(logits.float(), size=(side, side), mode="bilinear", align_corners=False)


def mask_loss(logits: torch.Tensor, truth: torch.Tensor, late: torch.Tensor) -> torch.Tensor:
    """Return Dice and cross-entropy of every target and object, ``(B, N)``.

    Args:
        logits: ``(B, N, s, s)``.
        truth: 0 or 1, of the same shape.
        late: 1 once targets without the object count by area, else 0.
    """
    pixels = truth.shape[-1] * truth.shape[-2]
    empty_smooth = 1 + late * (WEIGHTS.empty_smooth * pixels - 1)
    return dice_loss(logits, truth, empty_smooth=empty_smooth) + WEIGHTS.bce * binary_cross_entropy(logits, truth)


def prior_loss(prior: torch.Tensor, truth: torch.Tensor, related: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the mask prior over targets whose supports show their task."""
    wanted = functional.adaptive_avg_pool2d(truth, prior.shape[-1])
    guess = prior.float().clamp(1e-4, 1 - 1e-4)
    loss = functional.binary_cross_entropy(guess, wanted, reduction="none").mean((1, 2, 3))
    return (loss * related).sum() / related.sum().clamp(min=1)


def quality_loss(quality: torch.Tensor, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the squared error of the estimated IoU, whatever its shape ``(...)``; logits are ``(..., s, s)``."""
    return functional.mse_loss(quality.float(), intersection_over_union(logits, truth))
