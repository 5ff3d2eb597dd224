"""Losses of logits against masks, independent of the prompt generator.

References:
    Proxy Prompt, Eq. 13 (Dice); the smoothing term gives empty targets a gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.values import Decoded, Prompt, presence_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.training.recipe import LossWeights


def gate_by_presence(logits: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
    """Return the logit of pixel probability times presence, the probability that the slice shows the object.

    With the product, a single number can empty a slice, and the mask losses train that number.

    Args:
        logits: ``(B, N, h, w)``.
        presence: Logits ``(B, N)``.

    Returns:
        Logits of the shape of ``logits``: ``log p - log(1 - p)`` for ``p = sigmoid(logits) * sigmoid(presence)``.
    """
    log_p = functional.logsigmoid(logits.float()) + functional.logsigmoid(presence.float())[..., None, None]
    # log p is at most -1e-6 so that 1 - p stays above zero in float32.
    log_p = log_p.clamp(max=-1e-6)
    return log_p - torch.log(-torch.expm1(log_p))


def dice_loss(
    logits: torch.Tensor,
    truth: torch.Tensor,
    smooth: float = 1.0,
    empty_smooth: float | torch.Tensor | None = None,
    content: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the Dice loss ``1 - (2 sum(p g) + s) / (sum(p) + sum(g) + s)`` of every target and object.

    Args:
        logits: ``(B, N, h, w)``.
        truth: 0..1 of the same shape.
        smooth: ``s``; with 0 a slice without the object has no gradient at all.
        empty_smooth: ``s`` of slices without the object, in pixels. With 1 the loss is flat once a few hundred pixels
            are wrong; about the size of an object keeps it steep. A scalar tensor may change between steps.
        content: Pixels that count, bool ``(B, 1, h, w)``; None means all.

    Returns:
        ``(B, N)``.
    """
    probability = torch.sigmoid(logits.float())
    if content is not None:
        probability, truth = probability * content, truth * content
    overlap = (probability * truth).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1))
    constant = torch.full_like(total, smooth)
    if empty_smooth is not None:
        constant = torch.where(truth.flatten(-2).any(dim=-1), constant, torch.ones_like(total) * empty_smooth)
    return 1.0 - (2.0 * overlap + constant) / (total + constant)


def binary_cross_entropy(
    logits: torch.Tensor, truth: torch.Tensor, content: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean cross-entropy over the pixels that count of every target and object, ``(B, N)``."""
    loss = functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    if content is None:
        return loss.mean(dim=(-2, -1))
    return (loss * content).sum(dim=(-2, -1)) / content.sum(dim=(-2, -1))


def intersection_over_union(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the IoU of the thresholded prediction, 1 if both are empty; ``(B, N)``, without gradient."""
    with torch.no_grad():
        predicted, wanted = logits > 0, truth > 0.5
        both = (predicted & wanted).sum(dim=(-2, -1)).float()
        either = (predicted | wanted).sum(dim=(-2, -1)).float()
        return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))


def prediction_loss(
    decoded: Decoded,
    prompt: Prompt,
    truth: torch.Tensor,
    related: torch.Tensor,
    weights: LossWeights,
    step: int = 0,
    content: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of a decoded prediction, and its parts.

    Args:
        decoded: Prediction for ``B`` targets and ``N`` objects.
        prompt: The prompt that it was decoded from.
        truth: ``(B, N, size, size)``.
        related: Targets whose supports show their own task, bool ``(B,)``; the others do not train the prior.
        weights: Weights of the parts.
        step: Step number, for parts that start later.
        content: Pixels that are not padding, bool ``(B, 1, size, size)``: what is drawn elsewhere is never seen.
    """
    size = truth.shape[-2:]
    logits = functional.interpolate(decoded.logits.float(), size=size, mode="bilinear", align_corners=False)
    score = presence_of(decoded, prompt)
    if score is not None:
        logits = gate_by_presence(logits, score)
    late = weights.empty_smooth > 0 and step >= weights.empty_from_step
    empty_smooth = weights.empty_smooth * size[0] * size[1] if late else None
    dice = dice_loss(logits, truth, empty_smooth=empty_smooth, content=content).mean()
    bce = binary_cross_entropy(logits, truth, content).mean()
    total = dice + weights.bce * bce
    parts = {"dice": float(dice.detach()), "bce": float(bce.detach())}
    if prompt.prior is not None and weights.prior and bool(related.any()):
        wanted = functional.adaptive_avg_pool2d(truth, prompt.prior.shape[-1])[related]
        guess = prompt.prior[related].float().clamp(1e-4, 1 - 1e-4)
        seen = None
        if content is not None:
            seen = (functional.adaptive_max_pool2d(content.float(), guess.shape[-1]) > 0)[related]
            seen = seen.expand_as(guess) / seen.expand_as(guess).float().mean().clamp(min=1e-6)
        prior = functional.binary_cross_entropy(guess, wanted, weight=seen)
        total = total + weights.prior * prior
        parts["prior"] = float(prior.detach())
    if score is not None and weights.presence:
        there = truth.flatten(2).amax(dim=-1)
        presence = functional.binary_cross_entropy_with_logits(score.float(), there)
        total = total + weights.presence * presence
        parts["presence"] = float(presence.detach())
    if weights.quality:
        reached = intersection_over_union(logits if content is None else logits.where(content, -1.0), truth)
        quality = functional.mse_loss(decoded.quality.float(), reached)
        total = total + weights.quality * quality
        parts["quality"] = float(quality.detach())
    return total, parts
