"""The small trainable parts that SAMed and Med-SA put into a frozen image encoder.

On SAM's ViT they are those of the papers. The compact encoder has two attention blocks behind a convolutional trunk:
beside the same parts in these blocks, it gets low-rank or bottleneck parts of the same kind in its convolutions.

References:
    Zhang and Liu, Customized Segment Anything Model for Medical Image Segmentation, 2023 (SAMed): LoRA in q and v.
    Wu et al., Medical SAM Adapter, 2023 (Med-SA): bottlenecks of a quarter of the width.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0

RATIO, BESIDE = 0.25, 0.5  # width of a bottleneck, and the factor of the one beside the hidden layers


class QueryValueLora(nn.Module):
    """A fused ``qkv`` with low-rank changes of the queries and the values, each with factors of its own.

    LoRA on the fused layer as a whole would share the first factor and change the keys as well.
    """

    def __init__(self, qkv: nn.Linear, rank: int) -> None:
        """Wrap a layer; the change is 0 at first."""
        super().__init__()
        self.qkv, self.width = qkv, qkv.in_features
        self.down_q, self.down_v = (nn.Linear(self.width, rank, bias=False) for _ in range(2))
        self.up_q, self.up_v = (nn.Linear(rank, self.width, bias=False) for _ in range(2))
        for down, up in ((self.down_q, self.up_q), (self.down_v, self.up_v)):
            nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
            nn.init.zeros_(up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(..., C)`` to ``(..., 3 C)``."""
        q, k, v = self.qkv(x).split(self.width, dim=-1)
        return torch.cat([q + self.up_q(self.down_q(x)), k, v + self.up_v(self.down_v(x))], dim=-1)


class PointwiseLora(nn.Module):
    """A 1 x 1 convolution with a low-rank change, 0 at first."""

    def __init__(self, convolution: nn.Conv2d, rank: int) -> None:
        """Wrap a convolution."""
        super().__init__()
        self.convolution = convolution
        self.down = nn.Conv2d(convolution.in_channels, rank, 1, bias=False)
        self.up = nn.Conv2d(rank, convolution.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, C, h, w)`` as the convolution does."""
        return self.convolution(x) + self.up(self.down(x))


class Bottleneck(nn.Module):
    """Med-SA's adapter: to a quarter of the width, GELU, and back.

    The change is 0 at first, so that the training begins at SAM; in the public code it begins at random.
    """

    def __init__(self, width: int) -> None:
        """Create both layers."""
        super().__init__()
        inner = int(width * RATIO)
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(..., C)`` to the change of the same shape."""
        return self.up(nn.functional.gelu(self.down(x)))


class Behind(nn.Module):
    """A layer whose output an adapter changes; channels are last, or second for maps."""

    def __init__(self, layer: nn.Module, width: int, channels_last: bool = True) -> None:
        """Wrap a layer."""
        super().__init__()
        self.layer, self.adapter, self._last = layer, Bottleneck(width), channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map as the layer does."""
        y = self.layer(x)
        return y + (self.adapter(y) if self._last else self.adapter(y.movedim(1, -1)).movedim(-1, 1))


class Beside(nn.Module):
    """A layer with an adapter beside it that reads the same input."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        """Wrap a layer."""
        super().__init__()
        self.layer, self.adapter = layer, Bottleneck(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map as the layer does."""
        return self.layer(x) + BESIDE * self.adapter(x)


def add_lora(encoder: nn.Module, rank: int) -> None:
    """Add SAMed's LoRA to an image encoder, in place; only the new parts require a gradient."""
    for name, module in list(encoder.named_modules()):
        holder, _, own = name.rpartition(".")
        if own == "qkv" and isinstance(module, nn.Linear):
            setattr(encoder.get_submodule(holder), own, QueryValueLora(module, rank))
    for trunk in [one for one in encoder.modules() if isinstance(one, EfficientNetLite0)]:
        for name, module in list(trunk.named_modules()):
            holder, _, own = name.rpartition(".")
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1:
                setattr(trunk.get_submodule(holder), own, PointwiseLora(module, rank))


def add_bottlenecks(encoder: nn.Module) -> None:
    """Add Med-SA's adapters to an image encoder, in place: behind attention and beside the hidden layers of each block.

    In a convolutional trunk one stands behind each stage.
    """
    for block in encoder.blocks:  # type: ignore[union-attr]
        width = block.attn.qkv.in_features
        block.attn, block.mlp = Behind(block.attn, width), Beside(block.mlp, width)
    for trunk in [one for one in encoder.modules() if isinstance(one, EfficientNetLite0)]:
        for number, stage in enumerate(trunk.blocks):
            with torch.no_grad():
                width = _channels_of(stage)
            trunk.blocks[number] = Behind(stage, width, channels_last=False)


def _channels_of(stage: nn.Module) -> int:
    """Return the channels of a stage's output: those of its last projection."""
    return [one for one in stage.modules() if isinstance(one, nn.Conv2d)][-1].out_channels
