"""What targets read from supports: E_ctx and the mask prior, through the Selective Map or what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange

from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.merged_keys import MergedKeys
from ProxyPromptSegmentLib.networks.proxy_prompt.selective_map import map_at, read_support, summed
from ProxyPromptSegmentLib.networks.proxy_prompt.summed_map import SummedMap
from ProxyPromptSegmentLib.networks.values import PreparedSupport


@dataclass(frozen=True, kw_only=True)
class _Merged:
    """One support with merged keys.

    Attributes:
        keys: Features, ``(C, M)``.
        values: What is read, ``(M, N (C + 1))``.
        allowed: Keys that show the image, bool ``(M,)``.
        counts: How many keys each of them stands for, ``(M,)``.
    """

    keys: torch.Tensor
    values: torch.Tensor
    allowed: torch.Tensor
    counts: torch.Tensor


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
        if not self._merges:
            return self._read_chosen(target, chosen)
        # The number of merged keys differs, so that targets with other supports are read one after the other.
        rows, which = torch.unique(chosen, dim=0, return_inverse=True)
        parts = [self._read_merged(target[which == n], row[row >= 0].tolist()) for n, row in enumerate(rows)]
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
        if self._merges:
            return self._read_merged(target, list(range(len(self.keys))))
        keys, allowed = rearrange(self.keys, "k c p -> c (k p)"), self.support.valid.flatten()
        flat = rearrange(self._values(), "k v p -> (k p) v")
        if self.config.selection == "mean":
            return self._mean(flat, allowed.expand(len(target), -1))
        return read_support(target, keys, flat, allowed, self.config.temperature, channels=self.width)

    def _read_merged(self, target: torch.Tensor, index: list[int]) -> torch.Tensor:
        """Read some of the supports, whose keys are merged once for all targets."""
        if not SummedMap.serves(target):
            temperature = self.config.temperature
            keys, values, allowed, counts = self._joined(index)
            return read_support(target, keys, values, allowed, temperature, channels=self.width, counts=counts)
        # The slices of a volume mostly read the same supports; those of one choice at a time are kept.
        kept, which = self.support.kept, (tuple(index), self.keys.shape[1])
        if kept.get("summed", (None,))[0] != which:
            keys, values, allowed, counts = self._joined(index)
            kept["summed"] = which, summed(keys, values, allowed, self.config.temperature, self.width, counts)
        return kept["summed"][1].read(target)

    def _joined(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return keys, values, permissions and counts of some of the supports together, see `_Merged`."""
        kept = self.support.kept
        if "merged" not in kept:
            kept["merged"] = [self._merge(number) for number in range(len(self.keys))]
        merged: list[_Merged] = [kept["merged"][number] for number in index]
        keys = torch.cat([one.keys for one in merged], dim=1)
        if self.keys.shape[1] > len(keys):  # coordinates of this target, the same at all positions of a support
            there = [
                self.keys[k, len(keys) :, :1].expand(-1, m.keys.shape[1]) for k, m in zip(index, merged, strict=True)
            ]
            keys = torch.cat([keys, torch.cat(there, dim=1)])
        values, allowed, counts = (
            torch.cat([getattr(one, name) for one in merged]) for name in ("values", "allowed", "counts")
        )
        return keys, values, allowed, counts

    def _merge(self, number: int) -> _Merged:
        """Return one support with merged keys."""
        one = slice(number, number + 1)
        support, side = self.support, self.config.grid // self.config.key_pool
        merged = MergedKeys.of(support.occupancy[one], support.valid[one], side)
        return _Merged(
            keys=merged.join(support.features[one]),
            values=merged.join(self._values()[one]).transpose(0, 1).contiguous(),
            allowed=merged.join(support.valid[one].unsqueeze(1).float())[0] > 0,
            counts=merged.counts(),
        )

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

    @property
    def _merges(self) -> bool:
        return self.config.merge_keys and not self.training and self.config.selection != "mean"

    def _merged(self) -> MergedKeys | None:
        """Return which keys are averaged; None where all are read."""
        if not self._merges:
            return None
        return MergedKeys.of(self.support.occupancy, self.support.valid, self.config.grid // self.config.key_pool)
