"""Likeness of slices as the image encoder sees them: which supports resemble a target slice, and how closely.

An image embedding is averaged over the cells of a coarse grid. Two slices are alike if each cell of one has a nearby
cell in the other. Distances are measured in units of each channel's standard deviation within the two slices, so that
contrast and brightness of the whole count little.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedSupport

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
    own, covered = coarse(features.top, features.valid)
    if "coarse" not in support.kept:
        support.kept["coarse"] = _alike_in_size(support)
    own = own[:, covered[0]].unsqueeze(1)  # slices that are embedded together have the same size
    spread = own.std(dim=2, correction=0, keepdim=True) + _EPSILON
    found = own.new_empty(len(own), len(support.features))
    for numbers, cells, spreads in support.kept["coarse"]:
        unit = (spread * spreads).sqrt()
        apart = torch.cdist(own / unit, cells / unit)
        found[:, numbers] = (apart.amin(dim=3).mean(dim=2) + apart.amin(dim=2).mean(dim=2)) / 2
    return found


def _alike_in_size(support: PreparedSupport) -> list[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Return, for supports whose images cover as many cells: numbers, ``(k, P, C)`` cells, ``(k, 1, C)`` deviations."""
    side = math.isqrt(support.features.shape[-1])  # smaller than the targets' where a generator pools its keys
    means, covered = coarse(support.features.unflatten(-1, (side, side)), support.valid.unflatten(-1, (side, side)))
    counts = covered.sum(dim=1).tolist()
    groups = []
    for count in dict.fromkeys(counts):
        numbers = [number for number, other in enumerate(counts) if other == count]
        cells = means[numbers][covered[numbers]].unflatten(0, (len(numbers), count))
        groups.append((numbers, cells, cells.std(dim=1, correction=0, keepdim=True) + _EPSILON))
    return groups


def most_alike(apart: torch.Tensor, support: PreparedSupport, most: int | None) -> torch.Tensor | None:
    """Choose for each target slice the supports most like it; every object is on at least one of them.

    Args:
        apart: The result of `distances`, ``(B, K)``.
        support: The supports, which show each object at least once.
        most: Number of supports that a slice reads; more only if there are more objects. None means all.

    Returns:
        Numbers of the supports, ascending, int64 ``(B, k)``; None if all are read.
    """
    shows = (support.occupancy > 0).any(dim=-1)
    count, objects = shows.shape
    most = count if most is None else max(most, objects)
    if count <= most:
        return None
    order = apart.argsort(dim=1, stable=True).tolist()
    return torch.tensor([_best(one, shows.tolist(), most) for one in order], device=apart.device)


def _best(order: list[int], shows: list[list[bool]], most: int) -> list[int]:
    """Return the first ``most`` of the supports, or those further back that show what they do not."""
    chosen: list[int] = []
    for number in range(len(shows[0])):
        if not any(shows[one][number] for one in order[:most]):
            chosen += [one for one in order if shows[one][number] and one not in chosen][:1]
    rest = [one for one in order if one not in chosen]
    return sorted([*chosen, *rest[: most - len(chosen)]])
