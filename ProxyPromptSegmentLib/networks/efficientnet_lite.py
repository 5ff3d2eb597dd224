"""EfficientNet-Lite0 as a trunk of five levels, with the names that timm gives its tensors.

timm imports torchvision, which nothing in Slicer may; these are its ``tf_efficientnet_lite0`` features in torch alone.
A test compares both where timm is installed.

References:
    Tan and Le, EfficientNet (2019), Table 1; the Lite variants drop squeeze-and-excitation and use ReLU6. Padding is
    TensorFlow's SAME, which pads the lower and right side of a strided convolution more.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# (blocks, kernel, stride of the first block, expansion, channels) of each stage
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
LEVELS = (0, 1, 2, 4, 6)  # the last stages of strides 2, 4, 8, 16 and 32
WIDTHS = tuple(STAGES[stage][4] for stage in LEVELS)
NORM_EPSILON = 1e-3


class SameConv2d(nn.Conv2d):
    """A convolution without bias whose output has ``ceil(input / stride)`` rows and columns."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        """Create the convolution; a stride of 1 needs no padding of its own."""
        super().__init__(
            channels_in, channels, kernel, stride, 0 if stride > 1 else kernel // 2, groups=groups, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels_in, h, w)`` to ``(B, channels, ceil(h / stride), ceil(w / stride))``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            height, width = (max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in x.shape[-2:])
            x = functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


class SeparableBlock(nn.Module):
    """A depthwise convolution and a projection: the first stage's block."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        """Create the block; it has a shortcut where the shape stays the same."""
        super().__init__()
        self.conv_dw = SameConv2d(channels_in, channels_in, kernel, stride, groups=channels_in)
        self.bn1 = _norm(channels_in)
        self.conv_pw = SameConv2d(channels_in, channels, 1)
        self.bn2 = _norm(channels)
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels_in, h, w)`` to ``(B, channels, h / stride, w / stride)``."""
        inner = self.bn2(self.conv_pw(functional.relu6(self.bn1(self.conv_dw(x)))))
        return x + inner if self.shortcut else inner


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        """Create the block; it has a shortcut where the shape stays the same."""
        super().__init__()
        inner = channels_in * expansion
        self.conv_pw = SameConv2d(channels_in, inner, 1)
        self.bn1 = _norm(inner)
        self.conv_dw = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self.bn2 = _norm(inner)
        self.conv_pwl = SameConv2d(inner, channels, 1)
        self.bn3 = _norm(channels)
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels_in, h, w)`` to ``(B, channels, h / stride, w / stride)``."""
        inner = functional.relu6(self.bn1(self.conv_pw(x)))
        inner = functional.relu6(self.bn2(self.conv_dw(inner)))
        inner = self.bn3(self.conv_pwl(inner))
        return x + inner if self.shortcut else inner


class EfficientNetLite0(nn.Module):
    """The stem and the seven stages, without a classifier.

    Its norms always use their stored statistics, also while their scales and shifts train: the images of one step come
    from a few data sets, whose statistics are not those of the next slice.
    """

    def __init__(self) -> None:
        """Create the trunk with random weights."""
        super().__init__()
        self.conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.bn1 = _norm(STEM_CHANNELS)
        stages, channels_in = [], STEM_CHANNELS
        for count, kernel, first_stride, expansion, channels in STAGES:
            blocks: list[nn.Module] = []
            for index in range(count):
                stride = first_stride if index == 0 else 1
                blocks.append(
                    SeparableBlock(channels_in, channels, kernel, stride)
                    if expansion == 1
                    else InvertedResidual(channels_in, channels, kernel, stride, expansion)
                )
                channels_in = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Set the mode of everything but the norms, which stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map images ``(B, 3, h, w)``, scaled to -1..1, to the levels of strides 2 to 32, finest first."""
        x = functional.relu6(self.bn1(self.conv_stem(x)))
        levels = []
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in LEVELS:
                levels.append(x)
        return levels
