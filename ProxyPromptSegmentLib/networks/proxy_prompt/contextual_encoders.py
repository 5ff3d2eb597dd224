"""The contextual encoder of the proxy prompt, and those that the paper compares Vision Mamba with.

The vision transformer and the residual network are put together here from torch's own layers and not taken from
torchvision: beside a torch of another build torchvision is only imported safely with a guard that belongs to the
backbones. Names and results of the residual network are torchvision's, so that weights load by name; a test compares
both with torchvision's networks.

References:
    Proxy Prompt, section 3, equation 3; Tables 5 and 13; section 11.3 (four input channels, stride 16, no layer4).
    Dosovitskiy et al., An Image is Worth 16x16 Words (2021), section 3.1. He et al., Deep Residual Learning (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.proxy_prompt.vision_mamba import PatchEmbedding, VisionMamba

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig

__all__ = ["BasicBlock", "Bottleneck", "ResidualNetwork", "VisionTransformer", "build_contextual_encoder"]

CHANNELS_IN = 4  # red, green, blue and the mask of one object
COMPACT_HEADS = 4


def build_contextual_encoder(config: ProxyPromptConfig) -> nn.Module:
    """Build the encoder that a configuration names, with random weights.

    Args:
        config: Its ``encoder``, ``image_size`` and ``grid``; for the compact ones and Vim also ``vim_dim``.

    Returns:
        A module that maps ``(B, 4, size, size)`` to ``(B, C^V, g, g)``; its ``embed_dim`` is C^V.

    Raises:
        UsageError: If the encoder cannot be made for this grid or width.
    """
    size, patch, width = config.image_size, config.image_size // config.grid, config.vim_dim
    if config.encoder == "vit_b":
        return VisionTransformer(size, patch)
    if config.encoder == "vit_compact":
        heads = 1 if width % COMPACT_HEADS else COMPACT_HEADS
        return VisionTransformer(size, patch, embed_dim=width, depth=config.vim_depth, heads=heads)
    if config.encoder == "resnet50":
        return ResidualNetwork(patch)
    if config.encoder == "resnet_compact":
        if width % 4:
            raise UsageError(f"vim_dim is {width}; the encoder resnet_compact needs a multiple of 4")
        return ResidualNetwork(patch, width // 4, width, (1, 1, 1), BasicBlock)
    return VisionMamba(
        img_size=size,
        patch_size=patch,
        in_chans=CHANNELS_IN,
        embed_dim=width,
        depth=config.vim_depth,
        d_state=config.vim_state,
        cls=config.vim_cls,
    )


class VisionTransformer(nn.Module):
    """ViT without its head: one embedding per patch. The class token takes part and is not returned.

    Attributes:
        embed_dim: Channels of a token.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = CHANNELS_IN,
        embed_dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: int = 4,
    ) -> None:
        """Create ViT-B/16, or another size, for square images of ``img_size`` pixels."""
        super().__init__()
        self.img_size, self.patch_size, self.embed_dim = img_size, patch_size, embed_dim
        self.patch_embed = PatchEmbedding(patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2 + 1, embed_dim))
        # Time-major: batch-major layers would, outside of training, take a path that stores the whole attention,
        # 800 MB for each image of 1024 pixels. One by one: copies of one layer would all begin with the same weights.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                embed_dim, heads, mlp_ratio * embed_dim, 0.0, "gelu", layer_norm_eps=1e-6, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_chans, img_size, img_size)`` to ``(B, embed_dim, g, g)``.

        Raises:
            ValueError: If the images are of another size, for which there are no positions.
        """
        if x.shape[-2:] != (self.img_size, self.img_size):
            raise ValueError(
                f"the image is {x.shape[-2]} x {x.shape[-1]} pixels; this encoder has positions for {self.img_size} x "
                f"{self.img_size}. Resize the image."
            )
        patches = self.patch_embed(x)
        tokens = patches.flatten(2).permute(2, 0, 1)
        tokens = torch.cat([self.cls_token.expand(-1, tokens.shape[1], -1), tokens])
        tokens = tokens + self.pos_embed.transpose(0, 1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)[1:].permute(1, 2, 0).unflatten(2, patches.shape[-2:])

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for name, parameter in self.layers.named_parameters():
            if parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


class _ResidualBlock(nn.Module):
    """The common base of the blocks: a branch, a shortcut, projected if the shape changes, and a ReLU of the sum."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.downsample = (
            None
            if stride == 1 and channels_in == channels
            else nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels_in, h, w)`` to ``(B, channels, h / stride, w / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.branch(x) + shortcut)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch."""
        raise NotImplementedError


class Bottleneck(_ResidualBlock):
    """Three convolutions, the middle one of 3x3 on a quarter of the channels; it carries the stride, as torchvision's.

    That is the block of ResNet-50.
    """

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        """Create a block from ``channels_in`` to ``channels``."""
        super().__init__(channels_in, channels, stride)
        thin = channels // 4
        self.conv1, self.bn1 = nn.Conv2d(channels_in, thin, 1, bias=False), nn.BatchNorm2d(thin)
        self.conv2, self.bn2 = nn.Conv2d(thin, thin, 3, stride, 1, bias=False), nn.BatchNorm2d(thin)
        self.conv3, self.bn3 = nn.Conv2d(thin, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(functional.relu(self.bn2(self.conv2(x)))))


class BasicBlock(_ResidualBlock):
    """Two convolutions of 3x3: the block of the small residual networks."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        """Create a block from ``channels_in`` to ``channels``."""
        super().__init__(channels_in, channels, stride)
        self.conv1, self.bn1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch."""
        return self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))


class ResidualNetwork(nn.Module):
    """ResNet-50 without its last stage and its head, or a smaller one of the same plan.

    Attributes:
        embed_dim: Channels of the embedding.
    """

    def __init__(
        self,
        stride: int = 16,
        stem: int = 64,
        embed_dim: int = 1024,
        blocks: Sequence[int] = (3, 4, 6),
        block: type[Bottleneck] | type[BasicBlock] = Bottleneck,
        in_chans: int = CHANNELS_IN,
    ) -> None:
        """Create the network.

        Args:
            stride: Pixels per embedding: 16; with 8 or 4 the last stages keep their resolution.
            stem: Channels after the first convolution.
            embed_dim: Channels of the last stage; each stage has twice those of the one before.
            blocks: Blocks of each of the three stages.
            block: Their kind.
            in_chans: Input channels.

        Raises:
            UsageError: If the stride is another.
        """
        super().__init__()
        if stride not in (4, 8, 16):
            raise UsageError(
                f"a residual network as contextual encoder sees one embedding per 4, 8 or 16 pixels, and the backbone "
                f"has one per {stride}; choose the encoder vim or a vision transformer"
            )
        self.embed_dim = embed_dim
        self.conv1 = nn.Conv2d(in_chans, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        channels_in = stem
        for number, (channels, reached) in enumerate(((embed_dim // 4, 4), (embed_dim // 2, 8), (embed_dim, 16))):
            step = 2 if number and reached <= stride else 1
            stage = [block(channels_in, channels, step)]
            stage += [block(channels, channels) for _ in range(blocks[number] - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
            channels_in = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_chans, H, W)`` to ``(B, embed_dim, H / stride, W / stride)``."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer3(self.layer2(self.layer1(x)))
