"""What targets read from supports: E_ctx and the mask prior, through the Selective Map or what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange

from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.merged_keys import MergedKeys
from ProxyPromptSegmentLib.networks.proxy_prompt.selective_map import map_at, read_support
from ProxyPromptSegmentLib.networks.values import PreparedSupport


@dataclass(frozen=True, kw_only=True)
class SupportReading:
    """The supports as targets read them.

    Attributes:
        config: The generator's choices.
        keys: The coordinates that Eq. 6 compares, ``(K, C', P)``: features, and others where they are known.
        support: The prepared supports.
        width: ``C`` of the scale of Eq. 6.
        training: Whether gradients are wanted: then no keys are merged, and every shape is fixed.
    """

    config: ProxyPromptConfig
    keys: torch.Tensor
    support: PreparedSupport
    width: int
    training: bool

    def read(self, target: torch.Tensor, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Return what each target position reads, E_ctx and the mask of each object, float32 ``(B, P, N (C + 1))``.

        Args:
            target: The targets' coordinates, ``(B, C', P)``.
            chosen: Indices of the supports that each target reads, ``(B, k)``; below 0 for none. None means all.
        """
        if chosen is None:
            return self._read_all(target)
        if self.training or not self.config.merge_keys:
            return self._read_chosen(target, chosen)
        # The number of merged keys differs, so that targets with other supports are read one after the other.
        rows, which = torch.unique(chosen, dim=0, return_inverse=True)
        parts = [self._some(row[row >= 0])._read_all(target[which == n]) for n, row in enumerate(rows)]
        order = torch.cat([torch.nonzero(which == n)[:, 0] for n in range(len(rows))])
        return torch.cat(parts)[order.argsort()]

    def weights(self, target: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the weights of all keys for some positions of one target, ``(Q, K, P)``; each position's sum to 1.

        Args:
            target: The target's coordinates, ``(C', P)``.
            positions: Row-major indices, ``(Q,)``.
        """
        if self.config.selection == "mean":  # an ablation without a map: the same place of every support
            there = self.support.valid[:, positions].transpose(0, 1).double()
            found = there.new_zeros(len(positions), *self.support.valid.shape)
            found[torch.arange(len(positions)), :, positions] = there / there.sum(1, keepdim=True).clamp(min=1.0)
            return found
        merged, temperature = self._merged(), self.config.temperature
        if merged is None:
            keys, allowed = rearrange(self.keys, "k c p -> c (k p)"), self.support.valid.flatten()
            flat = map_at(target, keys, allowed, positions, temperature, self.width)
            return flat.unflatten(1, tuple(self.support.valid.shape))
        keys, allowed = merged.join(self.keys), merged.join(self.support.valid.unsqueeze(1).float())[0] > 0
        return merged.spread(map_at(target, keys, allowed, positions, temperature, self.width, merged.counts()))

    def _read_all(self, target: torch.Tensor) -> torch.Tensor:
        values, valid = self._values(), self.support.valid
        merged, counts = self._merged(), None
        if merged is None:
            keys, allowed = rearrange(self.keys, "k c p -> c (k p)"), valid.flatten()
            flat = rearrange(values, "k v p -> (k p) v")
        else:
            keys, counts = merged.join(self.keys), merged.counts()
            allowed = merged.join(valid.unsqueeze(1).float())[0] > 0
            flat = merged.join(values).transpose(0, 1)
        if self.config.selection == "mean":
            return self._mean(flat, allowed.expand(len(target), -1))
        return read_support(target, keys, flat, allowed, self.config.temperature, channels=self.width, counts=counts)

    def _read_chosen(self, target: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        keys = rearrange(self.keys[chosen], "b k c p -> b c (k p)")
        flat = rearrange(self._values()[chosen], "b k v p -> b (k p) v")
        allowed = rearrange(self.support.valid[chosen] & (chosen >= 0).unsqueeze(-1), "b k p -> b (k p)")
        if self.config.selection == "mean":
            return self._mean(flat, allowed)
        return read_support(target, keys, flat, allowed, self.config.temperature, channels=self.width)

    def _mean(self, flat: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Return the mean over supports of the values at the same place, the paper's ablation without a map."""
        positions = self.keys.shape[-1]
        weight = allowed.float().unflatten(1, (-1, positions))
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
        return (weight.unsqueeze(-1) * flat.unflatten(-2, (-1, positions))).sum(dim=1)

    def _values(self) -> torch.Tensor:
        """Return the values that are read, ``(K, N (C + 1), P)``."""
        support = self.support
        return torch.cat([support.aggregated, support.occupancy.unsqueeze(2)], dim=2).flatten(1, 2)

    def _merged(self) -> MergedKeys | None:
        """Return which keys are averaged; None where all are read."""
        if not self.config.merge_keys or self.training or self.config.selection == "mean":
            return None
        return MergedKeys.of(self.support.occupancy, self.support.valid, self.config.grid // self.config.key_pool)

    def _some(self, index: torch.Tensor) -> SupportReading:
        return replace(self, keys=self.keys[index], support=self.support.supports(index.tolist()))
