"""Likeness of slices as the image encoder sees them: which supports resemble a target slice, and how closely.

An image embedding is averaged over the cells of a coarse grid. Two slices are alike if each cell of one has a nearby
cell in the other. Distances are measured in units of each channel's standard deviation within the two slices, so that
contrast and brightness of the whole count little.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.protocols import ImageFeatures, PreparedSupport

CELLS = 8
_EPSILON = 1e-6


def coarse(top: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Average embeddings over the cells of a grid of `CELLS` x `CELLS`.

    Args:
        top: Embeddings, ``(B, C, g, g)``.
        valid: Positions that are not padding, bool ``(B, g, g)``.

    Returns:
        Means ``(B, P, C)``, and which cells the image covers at least half, bool ``(B, P)``.
    """
    top, inside = top.float(), valid.float().unsqueeze(1)
    width = max(1, top.shape[-1] // CELLS)
    total, share = functional.avg_pool2d(top * inside, width), functional.avg_pool2d(inside, width)
    means = (total / share.clamp(min=_EPSILON)).permute(0, 2, 3, 1)
    return means.flatten(1, 2), share[:, 0].flatten(1) >= 0.5


def distances(features: ImageFeatures, support: PreparedSupport) -> torch.Tensor:
    """Return the distance of each target slice to each support slice, float32 ``(B, K)``; 0 for the same image.

    The mean distance of each cell to the nearest of the other slice, both ways.
    """
    side = features.top.shape[-1]
    own, covered = coarse(features.top, features.valid)
    others, seen = coarse(support.features.unflatten(-1, (side, side)), support.valid.unflatten(-1, (side, side)))
    own = own[:, covered[0]]  # slices that are embedded together have the same size
    spread = own.std(dim=1, correction=0, keepdim=True) + _EPSILON
    found = []
    for cells, inside in zip(others, seen, strict=True):
        other = cells[inside]
        unit = (spread * (other.std(dim=0, correction=0) + _EPSILON)).sqrt()
        apart = torch.cdist(own / unit, other / unit)
        found.append((apart.amin(dim=2).mean(dim=1) + apart.amin(dim=1).mean(dim=1)) / 2)
    return torch.stack(found, dim=1)
