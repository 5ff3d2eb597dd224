"""AutoSAM's h: a small decoder of the dense prompt, which shows what is in it without SAM.

It is trained on prompts as they are and never changes them. As a `Backbone` without an image encoder it serves
previews: the engine segments with it as with any other, and SAM's encoder, by far the slowest part, does not run.
"""

from __future__ import annotations

import torch
from torch import nn

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, Prompt


class ChannelNorm(nn.Module):
    """A LayerNorm over the channels of a map."""

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        """Create scale and shift."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, C, h, w)`` to the same shape."""
        centred = x - x.mean(1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + self.epsilon)
        return self.weight[:, None, None] * scaled + self.bias[:, None, None]


class SurrogateDecoder(nn.Sequential):
    """Maps dense prompts ``(B, C, g, g)`` to logits ``(B, 1, 4g, 4g)``; 151,809 parameters for 256 channels."""

    def __init__(self, channels: int) -> None:
        """Create two deconvolutions that reduce the channels to a quarter each, and a 1x1 convolution."""
        inner, last = channels // 4, channels // 16
        super().__init__(
            nn.ConvTranspose2d(channels, inner, 3, stride=2, padding=1, output_padding=1),
            ChannelNorm(inner),
            nn.GELU(),
            nn.ConvTranspose2d(inner, last, 2, stride=2),
            ChannelNorm(last),
            nn.GELU(),
            nn.Conv2d(last, 1, 1),
        )


class SurrogateBackbone(nn.Module):
    """The `Backbone` protocol on the surrogate decoder alone, for a generator that reads images itself.

    Attributes:
        name: Name of the backbone that it stands for, with ``surrogate`` before it.
        image_size: Side of the square input in pixels.
        grid: Side of the feature grid.
        channels: Channels of the dense prompt.
        keeps_aspect: As of the backbone that it stands for.
        decoder: The surrogate decoder.
    """

    def __init__(self, backbone: Backbone, decoder: SurrogateDecoder) -> None:
        """Take the place of a backbone."""
        super().__init__()
        self.name = f"surrogate of {backbone.name}"
        self.image_size, self.grid, self.channels = backbone.image_size, backbone.grid, backbone.channels
        self.keeps_aspect = backbone.keeps_aspect
        self.decoder = decoder

    def encode(self, images: torch.Tensor, valid: torch.Tensor | None = None) -> ImageFeatures:
        """Return features without content, with which the generator's own are kept; see `Backbone.encode`."""
        if valid is None:
            valid = torch.ones(len(images), self.grid, self.grid, dtype=torch.bool, device=images.device)
        return ImageFeatures(
            top=images.new_zeros(len(images), 1, 1, 1), positions=images.new_zeros(1, 1, 1), valid=valid
        )

    def decode(self, features: ImageFeatures, prompt: Prompt) -> Decoded:
        """Decode the dense prompt; how good the mask is, is not known, so its quality is 1."""
        assert prompt.dense is not None  # such generators make one
        batch, objects = prompt.dense.shape[:2]
        logits = self.decoder(prompt.dense.flatten(0, 1))[:, 0].unflatten(0, (batch, objects))
        return Decoded(logits=logits, quality=logits.new_ones(batch, objects))

    def prompt_points(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Refuse clicks, which this decoder does not read.

        Raises:
            UsageError: Always.
        """
        raise UsageError("the surrogate decoder reads no clicks; correct by hand without it.")
