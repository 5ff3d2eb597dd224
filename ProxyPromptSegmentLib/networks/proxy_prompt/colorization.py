"""The Contextual Colorization Module: dual-reverse cross-attention between target and contextual embedding.

References:
    Proxy Prompt, section 3.3, Eqs. 8-11.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional


class TokenLinear(nn.Module):
    """Halves the tokens by a learned projection along the token axis: the paper's N x C x (HW/2) taken literally.

    It is tied to one grid and mixes all positions.
    """

    def __init__(self, tokens: int) -> None:
        """Create the projection from ``tokens`` to half of them."""
        super().__init__()
        self.project = nn.Linear(tokens, tokens // 2)

    def forward(self, tokens: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """Map ``(B, L, C)`` to ``(B, L/2, C)``."""
        return self.project(tokens.transpose(1, 2)).transpose(1, 2)


class PairMerge(nn.Module):
    """Halves the tokens by merging neighbours, along columns or rows; keeps a grid at any resolution."""

    def __init__(self, channels: int, along: str) -> None:
        """Create a merge along ``"x"`` (neighbouring columns) or ``"y"`` (neighbouring rows)."""
        super().__init__()
        self.merge = nn.Linear(2 * channels, channels)
        self.along = along

    def forward(self, tokens: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """Map ``(B, L, C)`` on a grid of ``shape`` to ``(B, L/2, C)``."""
        pattern = "b (h w two) c -> b (h w) (two c)" if self.along == "x" else "b (h two w) c -> b (h w) (two c)"
        height, width = shape
        size = {"h": height, "w": width // 2} if self.along == "x" else {"h": height // 2, "w": width}
        return self.merge(rearrange(tokens, pattern, two=2, **size))


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        """Create the layers."""
        super().__init__(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))


def attend(attention: nn.MultiheadAttention, asking: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Return what ``(B', T, C)`` reads from ``(B, S, C)``: the layer's own result with fewer copies of its inputs.

    Args:
        attention: A layer that expects the batch first.
        asking: What the queries are made of; ``B'`` is ``B``, or a divisor of it, whose queries all of the
            ``B / B'`` in a row share.
        read: What keys and values are made of.
    """
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    queries = functional.linear(asking, weight[:width], bias[:width])
    both = functional.linear(read, weight[width:], bias[width:])
    keys, values = both.unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    queries = _shared(queries, len(read)).unflatten(2, (heads, -1)).transpose(1, 2)
    seen = functional.scaled_dot_product_attention(queries, keys, values)
    return attention.out_proj(seen.transpose(1, 2).flatten(2))


def _shared(streams: torch.Tensor, count: int) -> torch.Tensor:
    """Repeat each of the streams, ``(B', T, C)``, in a row until there are ``count`` of them."""
    times = count // len(streams)
    return streams if times == 1 else streams.repeat_interleave(times, dim=0)


class ColorizationBlock(nn.Module):
    """One block: both streams are reduced, then each looks at the other (Eqs. 8-11, post-norm)."""

    def __init__(
        self, reduce_features: nn.Module, reduce_context: nn.Module, channels: int, heads: int, ffn: int
    ) -> None:
        """Create the block from its two token reductions."""
        super().__init__()
        self.reduce_features = reduce_features
        self.reduce_context = reduce_context
        self.features_from_context = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.context_from_features = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.features_ffn = FeedForward(channels, ffn)
        self.context_ffn = FeedForward(channels, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))

    def forward(
        self, features: torch.Tensor, context: torch.Tensor, shape: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map both streams ``(B, L, C)`` to ``(B, L/2, C)``; features that objects share are given once for all."""
        features = self.reduce_features(features, shape)
        context = self.reduce_context(context, shape)
        seen = attend(self.features_from_context, features, context)
        features = self.norms[0](_shared(features, len(context)) + seen)
        features = self.norms[1](features + self.features_ffn(features))
        context = self.norms[2](context + attend(self.context_from_features, context, features))
        context = self.norms[3](context + self.context_ffn(context))
        return features, context


class ContextualColorization(nn.Module):
    """The stack of blocks; its last contextual stream is the proxy prompt.

    Attributes:
        out_shape: Rows and columns of the final tokens' grid (``pair_merge``).
    """

    def __init__(
        self,
        grid: int = 64,
        channels: int = 256,
        width: int = 256,
        blocks: int = 4,
        heads: int = 8,
        ffn: int = 1024,
        reduce: str = "token_linear",
    ) -> None:
        """Create the stack; see `ProxyPromptConfig` for the arguments."""
        super().__init__()
        self.enter_features = nn.Identity() if width == channels else nn.Linear(channels, width)
        self.enter_context = nn.Identity() if width == channels else nn.Linear(channels, width)
        self.leave = (
            nn.Identity() if width == channels else nn.Sequential(nn.Linear(width, channels), nn.LayerNorm(channels))
        )
        layers, shape = [], (grid, grid)
        for index in range(blocks):
            along = "x" if index % 2 == 0 else "y"
            if reduce == "token_linear":
                tokens = shape[0] * shape[1]
                reductions: tuple[nn.Module, nn.Module] = (TokenLinear(tokens), TokenLinear(tokens))
            else:
                reductions = (PairMerge(width, along), PairMerge(width, along))
            layers.append(ColorizationBlock(*reductions, width, heads, ffn))
            shape = (shape[0], shape[1] // 2) if along == "x" else (shape[0] // 2, shape[1])
        self.blocks = nn.ModuleList(layers)
        self.out_shape = shape

    def forward(self, features: torch.Tensor, context: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """Colour the contextual embedding.

        Args:
            features: F_x at every target position, ``(B', P, C)``; of ``B``, or once for all objects of a target.
            context: E_ctx at every target position, ``(B, P, C)``, the objects of a target in a row.
            shape: Rows and columns of the grid.

        Returns:
            The proxy prompt, ``(B, T, C)`` with ``T = P / 2**blocks``.
        """
        features, context = self.enter_features(features), self.enter_context(context)
        for index, block in enumerate(self.blocks):
            features, context = block(features, context, shape)
            shape = (shape[0], shape[1] // 2) if index % 2 == 0 else (shape[0] // 2, shape[1])
        return self.leave(context)
