"""The compact SAM's image encoder: a pretrained convolutional trunk, attention at stride 16, a top-down path to 8.

At this size a pretrained convolutional trunk learns faster than a small ViT; the model card has the figures. The blocks
are called ``blocks.N.attn.qkv`` as in SAM's own encoder, so that one LoRA pattern fits both.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.backbones.compact_encoder import Block
from ProxyPromptSegmentLib.networks.backbones.network_packages import segment_anything_modeling
from ProxyPromptSegmentLib.networks.efficientnet_lite import WIDTHS, EfficientNetLite0


class PyramidImageEncoder(nn.Module):
    """Embeds ``(B, 3, size, size)`` as ``(B, channels, size/8, size/8)``.

    Attributes:
        img_size: Side of the input, as SAM's encoder calls it.
    """

    def __init__(self, img_size: int = 256, channels: int = 128, blocks: int = 2, heads: int = 4) -> None:
        """Create the encoder with random weights.

        Args:
            img_size: Side of the input in pixels, a multiple of 32.
            channels: Channels of the embedding and of the attention blocks.
            blocks: Attention blocks at stride 16.
            heads: Their heads.
        """
        super().__init__()
        self.img_size = img_size
        self.trunk = EfficientNetLite0()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in WIDTHS[1:])
        side = img_size // 16
        self.pos_embed = nn.Parameter(torch.zeros(1, channels, side, side))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(blocks))
        self.fine = nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)
        # The Selective Map compares features by their distance; the norm gives that distance a scale.
        layer_norm = segment_anything_modeling().common.LayerNorm2d(channels)
        self.neck = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), layer_norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images, centred on 0.5 and divided by 0.25, to the embedding."""
        fine, middle, coarse, coarsest = self.trunk(x * 0.5)[1:]  # the trunk was trained on -1 to 1
        tokens = self.lateral[2](coarse) + self.pos_embed
        tokens = tokens + functional.interpolate(self.lateral[3](coarsest), scale_factor=2, mode="nearest")
        side = tokens.shape[-1]
        tokens = rearrange(tokens, "b c h w -> b (h w) c")
        for block in self.blocks:
            tokens = block(tokens)
        tokens = rearrange(tokens, "b (h w) c -> b c h w", h=side)
        up = functional.interpolate(tokens, scale_factor=2, mode="nearest")
        return self.neck(self.lateral[1](middle) + up + self.fine(self.lateral[0](fine)))
