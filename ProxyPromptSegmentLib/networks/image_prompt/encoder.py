"""AutoSAM's g: the image becomes a dense prompt.

References:
    Shaharabany et al., AutoSAM (2023), section 3. The layers are those that `Docs/method_notes.md` describes, with the
    compact SAM's trunk in place of HarDNet-85: the levels at strides 4, 8 and 16, two up-blocks that join the finer
    level, a block of convolutions, tanh, and bilinear interpolation to the backbone's grid.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.efficientnet_lite import WIDTHS, EfficientNetLite0
from ProxyPromptSegmentLib.networks.image_prompt.config import ImagePromptConfig

_TRUNK_STAGES = 5  # to stride 16; what lies below is read by nothing
GROUPS = 8
STRIDES = (4, 8, 16)  # of the levels that are read
SMALL = 0.1  # factor of random weights beside a prompt that is known


def _block(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, channels), nn.ReLU()
    )


class UpBlock(nn.Module):
    """Doubles the resolution and joins a finer level of the trunk."""

    def __init__(self, channels_in: int, channels_skip: int, channels: int) -> None:
        """Create two convolutions with GroupNorm."""
        super().__init__()
        self.blocks = nn.Sequential(_block(channels_in + channels_skip, channels), _block(channels, channels))

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels_in, h, w)`` and a finer ``(B, channels_skip, H, W)`` to ``(B, channels, H, W)``."""
        up = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        return self.blocks(torch.cat([up, skip], dim=1))


class ImagePromptEncoder(nn.Module):
    """Maps images to a dense prompt and a presence logit for each class.

    Attributes:
        trunk: The first stages of EfficientNet-Lite0, with the names of `sam-compact`'s own.
    """

    def __init__(self, config: ImagePromptConfig) -> None:
        """Create the layers with random weights."""
        super().__init__()
        self.config, self.channels = config, tuple(WIDTHS[1:4])
        self.trunk = EfficientNetLite0()
        self.trunk.blocks = self.trunk.blocks[:_TRUNK_STAGES]
        fine, middle, coarse = self.channels
        width, count = config.width, len(config.classes)
        self.up1 = UpBlock(coarse, middle, 2 * width)
        self.up2 = UpBlock(2 * width, fine, width)
        self.final = nn.Sequential(_block(width, width), nn.Conv2d(width, count * config.channels, 1))
        self.presence = (
            nn.Sequential(nn.Linear(2 * coarse + 2 * width, coarse), nn.GELU(), nn.Linear(coarse, count))
            if config.presence
            else None
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images ``(B, 3, size, size)`` in 0..1 to what `prompt_of` makes of them."""
        return self.prompt_of(self.levels(images))

    def levels(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the trunk's levels at strides 4, 8 and 16 of images ``(B, 3, size, size)`` in 0..1, finest first."""
        side = self.config.read_size
        if images.shape[-1] != side:
            images = functional.interpolate(
                images, size=(side, side), mode="bilinear", align_corners=False, antialias=True
            )
        return list(self.trunk(images * 2 - 1)[1:])

    def pack(self, images: torch.Tensor) -> torch.Tensor:
        """Return the levels of images as one half-precision tensor ``(B, F)``, to be kept while the trunk is frozen."""
        return torch.cat([level.flatten(1) for level in self.levels(images)], dim=1).half()

    def unpack(self, packed: torch.Tensor) -> list[torch.Tensor]:
        """Return the levels that `pack` joined."""
        sides = [self.config.read_size // stride for stride in STRIDES]
        sizes = [channels * side * side for channels, side in zip(self.channels, sides, strict=True)]
        parts = packed.float().split(sizes, dim=1)
        return [
            part.view(-1, channels, side, side)
            for part, channels, side in zip(parts, self.channels, sides, strict=True)
        ]

    def prompt_of(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """Map the trunk's levels to ``(B, N, C + 1, g, g)``.

        The last channel has the presence logit at every position, or 0 without presence: one tensor can be kept and
        selected like an embedding.
        """
        fine, middle, coarse = levels
        joined = self.up2(self.up1(coarse, middle), fine)
        reach, grid, count = self.config.reach, self.config.grid, len(self.config.classes)
        dense = reach * torch.tanh(self.final(joined) / reach)
        dense = functional.interpolate(dense, size=(grid, grid), mode="bilinear", align_corners=True)
        dense = dense.unflatten(1, (count, self.config.channels))
        if self.presence is None:
            logits = dense.new_zeros(len(dense), count)
        else:
            pooled = [statistic for x in (coarse, joined) for statistic in (x.mean((2, 3)), x.amax((2, 3)))]
            logits = self.presence(torch.cat(pooled, dim=1))
        return torch.cat([dense, logits[:, :, None, None, None].expand(-1, -1, 1, grid, grid)], dim=2)


def begin_as(encoder: ImagePromptEncoder, no_mask: torch.Tensor) -> None:
    """Let random weights begin as SAM's own dense prompt where there is no mask, which its decoder understands.

    Args:
        encoder: Whose last layer is set.
        no_mask: SAM's dense embedding without a mask, ``(C,)``.
    """
    last, reach = encoder.final[-1], encoder.config.reach
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.weight.mul_(SMALL)
        inside = (no_mask.flatten() / reach).clamp(-0.95, 0.95)
        last.bias.copy_((reach * torch.atanh(inside)).repeat(len(encoder.config.classes)))


def take_trunk(encoder: ImagePromptEncoder, state: dict[str, torch.Tensor], prefix: str = "") -> None:
    """Fill the trunk from another one, such as `sam-compact`'s or that of `imagenet_trunk.load_imagenet`.

    Args:
        encoder: Whose trunk is filled.
        state: Tensors, among them all of this trunk.
        prefix: What stands before the trunk's names, e.g. ``backbone.sam.image_encoder.trunk.``.

    Raises:
        KeyError: If one is missing.
    """
    encoder.trunk.load_state_dict({name: state[f"{prefix}{name}"] for name in encoder.trunk.state_dict()})
