"""Kinship: whether a target and a support are images of the same kind, a departure from the paper (see the card).

The Selective Map reads something from every support, however little that has to do with the target, so that neither
E_ctx nor the tokens made of it tell a support of another organ from one that fits. What the two images show as a whole
does: statistics of their features, compared by a learned distance.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WIDTH = 32  # coordinates of the learned distance
MARGIN = 4.0  # squared distance up to which two images are of one kind, before training
_EPSILON = 1e-6


class Kinship(nn.Module):
    """A learned distance between images, as a logit that is never above 0: kinship can only speak against a target."""

    def __init__(self, channels: int) -> None:
        """Create the distance; it starts near zero, so that untrained it changes no presence."""
        super().__init__()
        self.embed = nn.Linear(2 * channels, WIDTH)
        self.margin = nn.Parameter(torch.tensor(MARGIN))
        nn.init.normal_(self.embed.weight, std=0.01)
        nn.init.zeros_(self.embed.bias)

    def forward(self, target: torch.Tensor, supports: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """Return the logit ``(B,)`` of kinship with the nearest support.

        Args:
            target: Statistics of the targets, see `statistics`, ``(B, 2 C)``.
            supports: The same of the supports that each target may read, ``(B, k, 2 C)``.
            read: Which of these it reads, bool ``(B, k)``; at least one.
        """
        here, there = self.embed(target).unsqueeze(1), self.embed(supports)
        apart = (here - there).float().square().sum(-1).masked_fill(~read, torch.finfo(torch.float32).max / 2)
        return -functional.softplus(apart.amin(1) - self.margin.float())


def statistics(features: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation of each channel inside an image, float32 ``(B, 2 C)``.

    Args:
        features: ``(B, C, P)``.
        valid: Positions that show the image and not its padding, bool ``(B, P)``.
    """
    inside = valid.float().unsqueeze(1)
    count = inside.sum(-1).clamp(min=1)
    mean = (features.float() * inside).sum(-1) / count
    squares = ((features.float() - mean.unsqueeze(-1)) * inside).square().sum(-1) / count
    return torch.cat([mean, (squares + _EPSILON).sqrt()], dim=1)
