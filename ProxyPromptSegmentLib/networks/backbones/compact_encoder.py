"""A small image encoder for SAM and SAM 2, light enough to train from scratch on two cores.

Convolutions down to stride 16, two attention blocks there, and a top-down path to stride 8. At this size a
convolutional encoder learns faster than a small ViT; the model card has the figures. The blocks are called
``blocks.N.attn.qkv`` as in SAM's own encoder, so that one LoRA pattern fits both.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.backbones.network_packages import segment_anything_modeling


class ResidualStage(nn.Module):
    """A strided 3x3 convolution and ``depth`` residual pairs of 3x3 convolutions with GroupNorm."""

    def __init__(self, channels_in: int, channels: int, depth: int) -> None:
        """Create a stage that halves the resolution."""
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride=2, padding=1, bias=False), nn.GroupNorm(8, channels)
        )
        self.residuals = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.GroupNorm(8, channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.GroupNorm(8, channels),
            )
            for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels_in, h, w)`` to ``(B, channels, h/2, w/2)``."""
        x = functional.relu(self.down(x))
        for residual in self.residuals:
            x = functional.relu(x + residual(x))
        return x


class Attention(nn.Module):
    """Global self-attention over a grid of tokens with a fused ``qkv``, as in SAM's encoder."""

    def __init__(self, dim: int, heads: int) -> None:
        """Create attention of ``heads`` heads."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map ``(B, P, dim)`` to the same shape."""
        q, k, v = rearrange(self.qkv(tokens), "b p (three h d) -> three b h p d", three=3, h=self.heads)
        # Written out: at 64 tokens the fused kernel's backward is slower on a CPU.
        weights = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)
        return self.proj(rearrange(weights @ v, "b h p d -> b p (h d)"))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: int) -> None:
        """Create a block whose hidden layer is twice as wide as its input."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map ``(B, P, dim)`` to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class CompactTrunk(nn.Module):
    """Levels at strides 2, 4, 8 and 16, with attention at the coarsest.

    Attributes:
        img_size: Side of the input, as SAM's encoder calls it.
        channel_list: Channels of the levels, coarsest first, as SAM 2's neck wants them.
    """

    def __init__(
        self,
        img_size: int = 128,
        widths: tuple[int, int, int, int] = (24, 48, 96, 160),
        depths: tuple[int, int, int, int] = (1, 1, 2, 1),
        blocks: int = 2,
        heads: int = 5,
    ) -> None:
        """Create the trunk; ``widths`` and ``depths`` belong to strides 2, 4, 8 and 16."""
        super().__init__()
        self.img_size = img_size
        self.channel_list = list(widths[::-1])
        inputs = (3, *widths[:-1])
        self.stages = nn.ModuleList(
            ResidualStage(a, b, depth) for a, b, depth in zip(inputs, widths, depths, strict=True)
        )
        side = img_size // 16
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[-1], side, side))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(Block(widths[-1], heads) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map normalised images ``(B, 3, size, size)`` to the four levels, finest first."""
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        side = x.shape[-1]
        tokens = rearrange(x + self.pos_embed, "b c h w -> b (h w) c")
        for block in self.blocks:
            tokens = block(tokens)
        levels[-1] = rearrange(tokens, "b (h w) c -> b c h w", h=side)
        return levels


class CompactImageEncoder(CompactTrunk):
    """Embeds ``(B, 3, size, size)`` as ``(B, out_channels, size/8, size/8)``."""

    def __init__(
        self, img_size: int = 128, out_channels: int = 128, widths: tuple[int, int, int, int] = (24, 48, 96, 160)
    ) -> None:
        """Create the encoder of the compact SAM; arguments as of `CompactTrunk`."""
        super().__init__(img_size, widths)
        coarse, fine = self.channel_list[:2]
        self.lateral = nn.Conv2d(fine, out_channels, 1)
        self.top_down = nn.Conv2d(coarse, out_channels, 1)
        layer_norm = segment_anything_modeling().common.LayerNorm2d(out_channels)
        self.neck = nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), layer_norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Map normalised images to the embedding."""
        levels = super().forward(x)
        up = functional.interpolate(self.top_down(levels[3]), scale_factor=2, mode="nearest")
        return self.neck(self.lateral(levels[2]) + up)
