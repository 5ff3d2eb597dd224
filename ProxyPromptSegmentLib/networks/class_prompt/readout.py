"""A reading of the image embedding for each class: where it probably is, and whether it is there at all.

Backbones of this project were trained to tell structures apart, so that a map which is linear in their features and in
random combinations of them finds many. It is fitted at once (`training.vocabulary.readout_fit`); the class prompt
encoder learns what it misses.

References:
    Huang, Zhu and Siew, Extreme learning machine, 2006: a linear fit on random hidden units.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

POOLED = (3, 9)  # sides in positions of the squares whose means are read beside each position
HIDDEN, HIDDEN_SCALE = 512, 1.5  # random units, and the standard deviation of what enters them
PLACES = 5  # x, y and their products
STATISTICS = 3  # of the map itself, which presence reads beside mean and deviation of the channels


def readings(top: torch.Tensor) -> torch.Tensor:
    """Return what is read at each position: itself, its surroundings, the whole image, and where it lies.

    Args:
        top: ``(B, C, g, g)``.

    Returns:
        ``(B, D, P)``, the last row being 1.
    """
    batch, _, side, _ = top.shape
    pooled = [_mean(top, n) for n in POOLED]
    whole = top.mean((2, 3), keepdim=True).expand_as(top)
    line = torch.linspace(-1, 1, side, device=top.device, dtype=top.dtype)
    y, x = torch.meshgrid(line, line, indexing="ij")
    place = torch.stack([x, y, x * x, y * y, x * y, torch.ones_like(x)]).expand(batch, -1, -1, -1)
    return torch.cat([top, *pooled, whole, place], 1).flatten(2)


def _mean(top: torch.Tensor, side: int) -> torch.Tensor:
    """Return means over squares of a side, along rows and then along columns."""
    rows = functional.avg_pool2d(top, (1, side), 1, (0, side // 2), count_include_pad=False)
    return functional.avg_pool2d(rows, (side, 1), 1, (side // 2, 0), count_include_pad=False)


def number_of_readings(channels: int) -> int:
    """Return ``D`` of `readings`."""
    return channels * (2 + len(POOLED)) + PLACES + 1


def statistics(top: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return what presence reads of ``B`` images and ``N`` classes.

    Args:
        top: ``(B, C, g, g)``.
        maps: Logits of the reading, ``(B, N, P)``.

    Returns:
        ``(B, N, 2 C + STATISTICS + 1)``, the last one being 1.
    """
    whole = torch.cat([top.mean((2, 3)), top.flatten(2).std(2)], 1).unsqueeze(1).expand(-1, maps.shape[1], -1)
    likely = torch.sigmoid(maps)
    best = torch.stack([likely.amax(2), likely.mean(2), likely.square().mean(2).sqrt()], 2)
    return torch.cat([whole, best, torch.ones_like(best[..., :1])], 2)


class ClassReadout(nn.Module):
    """The readings of all classes.

    Attributes:
        hidden: Random combinations of what is read at each position.
        maps: Weights of the map of each class, ``(classes, D + HIDDEN)``.
        presence: Weights of its presence, ``(classes, 2 C + STATISTICS + 1)``.
    """

    def __init__(self, classes: int, channels: int) -> None:
        """Create readings that say nothing."""
        super().__init__()
        count = number_of_readings(channels)
        self.hidden = nn.Linear(count, HIDDEN)
        nn.init.normal_(self.hidden.weight, std=HIDDEN_SCALE * count**-0.5)
        nn.init.uniform_(self.hidden.bias, -1, 1)
        self.maps = nn.Parameter(torch.zeros(classes, count + HIDDEN))
        self.presence = nn.Parameter(torch.zeros(classes, 2 * channels + STATISTICS + 1))

    def read(self, top: torch.Tensor) -> torch.Tensor:
        """Return what the maps are linear in, ``(B, D + HIDDEN, P)``; its last row of ``D`` is 1."""
        seen = readings(top)
        return torch.cat([self.hidden(seen.transpose(1, 2)).relu().transpose(1, 2), seen], 1)

    def forward(self, top: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the map ``(B, N, g, g)`` and the presence ``(B, N)`` of classes ``(B, N)``, as logits."""
        maps = torch.einsum("bdp,bnd->bnp", self.read(top), self.maps[classes])
        presence = torch.einsum("bnd,bnd->bn", statistics(top, maps), self.presence[classes])
        return maps.unflatten(2, top.shape[-2:]), presence


def corners_of(
    inside: torch.Tensor,
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return row and column of the first and of the last corner of a box around each mask.

    Args:
        inside: bool ``(B, N, g, g)``; the box of an empty one is the whole grid.

    Returns:
        Two pairs of int64 ``(B, N)``.
    """
    side = inside.shape[-1]
    nothing = ~inside.flatten(2).any(2)
    ends = []
    for axis in (3, 2):
        some = (inside.any(axis) | nothing.unsqueeze(2)).long()
        ends.append((some.argmax(2), side - 1 - some.flip(2).argmax(2)))
    return (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])


def places_of_corners(inside: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the encodings of both corners of a box around each mask ``(B, N, g, g)``, ``(B, N, 2, C)``."""
    low, high = corners_of(inside)
    return torch.stack([positions[:, y, x].permute(1, 2, 0) for y, x in (low, high)], 2).float()
