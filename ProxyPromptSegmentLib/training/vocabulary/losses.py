"""The losses of AutoMedSAM and how their uncertainties weigh them.

The paper's abstract names a pixel, a region and a distribution loss, the transfer of MedSAM's knowledge, and weights
from uncertainty; its equations are not public. The forms here are those of the works that they are taken from.

References:
    Huang et al., Diffusion-empowered AutoPrompt MedSAM, arXiv:2502.06817: which losses, weighted by uncertainty.
    Ma et al., Segment Anything in Medical Images, 2024 (MedSAM): cross-entropy and Dice with squared denominator.
    Milletari et al., V-Net, 2016, Eq. 2: that Dice. Hinton et al., Distilling the Knowledge in a Neural Network, 2015:
    softening by a temperature. Kervadec et al., Boundary loss, 2019, Eq. 5: the signed distance. Kendall et al.,
    Multi-task learning using uncertainty, 2018, and Liebel and Koerner, Auxiliary tasks in multi-task learning, 2018,
    Eq. 4: the weighting, whose ``log(1 + s^2)`` stays above 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

SOFTNESS = 2.0  # temperature of the softened masks
BORDER, LEAST = 7, 1e-3  # of a mask prompt: side in pixels of its border, and its least probability
EDGE = 3  # side in pixels over which the border of the truth is softened


def squared_dice_loss(
    logits: torch.Tensor, truth: torch.Tensor, smooth: float = 1.0, empty_smooth: float | None = None
) -> torch.Tensor:
    """Return ``1 - (2 sum(p g) + s) / (sum(p^2) + sum(g^2) + s)`` of every target and object, ``(B, N)``.

    Args:
        logits: ``(B, N, h, w)``.
        truth: 0..1 of the same shape.
        smooth: ``s``.
        empty_smooth: ``s`` of targets without the object, whose loss would be flat with a small one; None for ``s``.
    """
    probability = torch.sigmoid(logits.float())
    overlap = (probability * truth).sum(dim=(-2, -1))
    total = probability.square().sum(dim=(-2, -1)) + truth.square().sum(dim=(-2, -1))
    constant = torch.full_like(total, smooth)
    if empty_smooth is not None:
        constant = torch.where(truth.flatten(-2).any(dim=-1), constant, torch.full_like(total, empty_smooth))
    return 1.0 - (2.0 * overlap + constant) / (total + constant)


def softened_divergence(logits: torch.Tensor, truth: torch.Tensor, temperature: float = SOFTNESS) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of softened masks, ``sum(q log(q / p))`` per pixel, ``(B, N)``.

    ``q`` is the truth averaged over `EDGE` pixels, and ``p = sigmoid(logits / temperature)``; both say how probable
    object and background are in a pixel.

    Args:
        logits: ``(B, N, h, w)``.
        truth: 0..1 of the same shape.
        temperature: Softens the prediction.
    """
    soft = functional.avg_pool2d(truth, EDGE, 1, EDGE // 2, count_include_pad=False)
    inside, outside = (
        functional.logsigmoid(logits.float() / temperature),
        functional.logsigmoid(-logits.float() / temperature),
    )
    known = torch.xlogy(soft, soft) + torch.xlogy(1 - soft, 1 - soft)
    return (known - soft * inside - (1 - soft) * outside).mean(dim=(-2, -1))


def signed_distance_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``p * d``, with ``d`` the signed distance to the truth's border, ``(B, N)``.

    ``d`` is below 0 inside and in shares of the image's side; it is 0 everywhere without an object.

    Args:
        logits: ``(B, N, h, w)``.
        truth: 0..1 of the same shape.
    """
    from scipy.ndimage import distance_transform_edt

    masks = (truth > 0.5).flatten(0, 1).cpu().numpy()
    distance = torch.zeros(len(masks), *truth.shape[-2:])
    for number, mask in enumerate(masks):
        if mask.any() and not mask.all():
            distance[number] = torch.from_numpy(distance_transform_edt(~mask) - distance_transform_edt(mask))
    distance = distance.to(logits.device).view(truth.shape) / truth.shape[-1]
    return (torch.sigmoid(logits.float()) * distance).mean(dim=(-2, -1))


def transfer_loss(tokens: torch.Tensor, box_tokens: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of generated tokens and the backbone's own of a box around the object.

    Args:
        tokens: ``(B, N, 2, C)``.
        box_tokens: Of the same shape.
        there: Whether the target shows the object, ``(B, N)``; the others do not count.

    Returns:
        A scalar; 0 if no target counts.
    """
    each = (tokens.float() - box_tokens).square().mean(dim=(-2, -1))
    return (each * there).sum() / there.sum().clamp(min=1)


def soft_mask_logits(truth: torch.Tensor) -> torch.Tensor:
    """Return the logits of a mask prompt as a hand or a registration gives it: the truth with a soft border.

    Args:
        truth: 0..1, ``(..., h, w)``.
    """
    soft = functional.avg_pool2d(truth.flatten(0, -3).unsqueeze(1), BORDER, 1, BORDER // 2, count_include_pad=False)
    return torch.logit(soft[:, 0].clamp(LEAST, 1 - LEAST)).view(truth.shape)


class UncertaintyWeighting(nn.Module):
    """Weights of losses that are learned with them: ``sum_i L_i / (2 s_i^2) + log(1 + s_i^2)``.

    Attributes:
        names: Names of the losses.
        uncertainty: ``s_i`` of each, which begins at 1.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """Create the weights of some losses."""
        super().__init__()
        self.names = names
        self.uncertainty = nn.Parameter(torch.ones(len(names)))

    def forward(self, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the weighted sum of scalar losses by name; all of `names` are needed."""
        squared = self.uncertainty.square().clamp(min=1e-4)
        values = torch.stack([losses[name].float() for name in self.names])
        return (values / (2 * squared) + torch.log1p(squared)).sum()
