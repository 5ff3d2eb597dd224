"""The Selective Map as a processor computes it for prediction: two matrix products and one pass over the map.

The softmax of Eq. 6 needs the largest score of each target position, so that none overflows. ``|F_x|^2``, which is a
constant of the target position, does the same, because it turns the score into the negative squared distance; it can be
a coordinate of the product. A column of ones among the values sums the weights, so that what was read is divided and
not the map, which is larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ProxyPromptSegmentLib.networks.devices import without_autocast

ROWS = 128  # target positions at a time, whose scores stay in a core's cache
_LEAST = 1e-30  # sum of weights below which float32 has lost the nearest keys


@dataclass(frozen=True)
class SummedMap:
    """Supports that are read by any number of targets.

    Attributes:
        keys: Keys with their norm and a one as further coordinates, float32 ``(C + 2, M)``.
        values: What is read, and a one, float32 ``(M, V + 1)``.
        scale: Factor of the squared distance.
    """

    keys: torch.Tensor
    values: torch.Tensor
    scale: float

    @classmethod
    def of(cls, support: torch.Tensor, values: torch.Tensor, bias: torch.Tensor, scale: float) -> SummedMap:
        """Arrange supports.

        Args:
            support: F_sup, float32 ``(C, M)``.
            values: What is read, ``(M, V)``.
            bias: What Eq. 6 adds to the products, ``(M,)``.
            scale: Factor of the squared distance in Eq. 6.
        """
        keys = torch.cat([support * (2.0 * scale), bias.unsqueeze(0), torch.ones_like(bias).unsqueeze(0)])
        values = values.float()
        return cls(keys, torch.cat([values, values.new_ones(len(values), 1)], dim=1), scale)

    @staticmethod
    def serves(target: torch.Tensor) -> bool:
        """Return whether targets are read so: on a processor, without gradients."""
        return target.device.type == "cpu" and not torch.is_grad_enabled()

    def read(self, target: torch.Tensor) -> torch.Tensor:
        """Read the values at every position of the targets, ``(B, C, P)``; float32 ``(B, P, V)``."""
        batch, channels, positions = target.shape
        with without_autocast(target.device):
            rows = target.float().transpose(1, 2).reshape(batch * positions, channels)
            shift = rows.square().sum(dim=1, keepdim=True) * -self.scale
            queries = torch.cat([rows, torch.ones_like(shift), shift], dim=1)
            found = rows.new_empty(len(rows), self.values.shape[1])
            for part, answer in zip(queries.split(ROWS), found.split(ROWS), strict=True):
                torch.mm(torch.mm(part, self.keys).exp_(), self.values, out=answer)
            total = found[:, -1:]
            if not bool((total > _LEAST).all()):  # keys that are far from everything, or not numbers
                return self._read_far(queries).view(batch, positions, -1)
            return (found[:, :-1] / total).view(batch, positions, -1)

    def _read_far(self, queries: torch.Tensor) -> torch.Tensor:
        """Read with a softmax, which knows the nearest key of each position."""
        parts = [
            torch.softmax(torch.mm(part[:, :-1], self.keys[:-1]), dim=-1) @ self.values[:, :-1]
            for part in queries.split(ROWS)
        ]
        return torch.cat(parts)
