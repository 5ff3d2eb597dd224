"""Brings proxy prompt tokens into the width of SAM 2's memory; the two readings of "directly into memory attention".

References:
    Proxy Prompt, section 3.3; SAM 2's object pointers for the split into tokens of the memory's width.
"""

from __future__ import annotations

import math

import torch
from torch import nn

BRIDGES = ("linear", "split4")


class MemoryBridge(nn.Module):
    """Maps proxy prompt tokens to memory tokens with positions.

    Attributes:
        kind: ``linear`` (norm and projection, one token each) or ``split4`` (each token cut into memory-wide
            pieces, four in the official sizes, without parameters).
        proxy_position: Learned, added to the temporal encoding of a conditioning frame; starts at zero.
    """

    def __init__(self, channels: int, memory_channels: int, kind: str = "linear", grid_positions: bool = False) -> None:
        """Create the bridge.

        Args:
            channels: Channels of the proxy prompt tokens.
            memory_channels: Channels of the memory.
            kind: One of `BRIDGES`.
            grid_positions: Whether the tokens lie on a square grid (``pair_merge``) whose sine encoding they get.

        Raises:
            ValueError: If the kind is unknown, or the widths do not divide for ``split4``.
        """
        super().__init__()
        if kind not in BRIDGES:
            raise ValueError(f"the bridge is '{kind}'; allowed are {', '.join(BRIDGES)}")
        if kind == "split4" and channels % memory_channels:
            raise ValueError(f"{channels} channels cannot be cut into pieces of {memory_channels}")
        self.kind, self.memory_channels, self.grid_positions = kind, memory_channels, grid_positions
        self.project = (
            nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, memory_channels)) if kind == "linear" else None
        )
        self.proxy_position = nn.Parameter(torch.zeros(1, 1, memory_channels))

    def forward(self, tokens: torch.Tensor, positions: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """Map tokens ``(M, T, C)`` to memory tokens and their positions, both ``(M, T', memory_channels)``.

        Args:
            tokens: Proxy prompt.
            positions: SAM 2's sine encoding of the memory's width, a module on ``(1, channels, h, w)``.
        """
        count, length, channels = tokens.shape
        encoding = tokens.new_zeros(1, length, self.memory_channels)
        side = math.isqrt(length)
        if self.grid_positions and side * side == length:
            grid = tokens.new_zeros(1, self.memory_channels, side, side)
            encoding = positions(grid).flatten(2).transpose(1, 2).to(tokens.dtype)
        if self.project is not None:
            memory = self.project(tokens)
        else:
            pieces = channels // self.memory_channels
            memory = tokens.reshape(count, length * pieces, self.memory_channels)
            encoding = encoding.repeat_interleave(pieces, dim=1)
        return memory, (encoding + self.proxy_position).expand(count, -1, -1)
