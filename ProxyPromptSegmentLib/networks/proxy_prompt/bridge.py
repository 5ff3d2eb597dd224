"""The Bridge Unit: image features and contextual embedding become the aggregated embedding A_agg.

References:
    Proxy Prompt, section 3.2, Eqs. 4-5; structure of XMem's feature fusion block; CBAM, Woo et al., 2018.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two pre-activation 3x3 convolutions without normalisation, and a 3x3 skip where the width changes."""

    def __init__(self, channels_in: int, channels: int) -> None:
        """Create a block from ``channels_in`` to ``channels``."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels_in, g, g)`` to ``(B, channels, g, g)``."""
        inner = self.conv1(functional.relu(x))
        return self.skip(x) + self.conv2(functional.relu(inner))


class Cbam(nn.Module):
    """Channel attention, then spatial attention, each from average- and max-pooled descriptors."""

    def __init__(self, channels: int, reduction: int = 16, inter_object: str = "none") -> None:
        """Create the gates; ``inter_object="pooled"`` shares channel descriptors between objects."""
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.inter_object = inter_object

    def forward(self, x: torch.Tensor, objects: int = 1) -> torch.Tensor:
        """Gate ``(K * N, C, g, g)``, objects running fastest."""
        average, maximum = x.mean(dim=(2, 3)), x.amax(dim=(2, 3))
        if self.inter_object == "pooled" and objects > 1:
            # Adding the mean over objects is equivariant to their order and works for any number of them.
            average, maximum = (
                (pooled.unflatten(0, (-1, objects)) + pooled.unflatten(0, (-1, objects)).mean(1, keepdim=True)).flatten(
                    0, 1
                )
                for pooled in (average, maximum)
            )
        x = x * torch.sigmoid(self.channel(average) + self.channel(maximum))[:, :, None, None]
        pooled = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)
        return x * torch.sigmoid(self.spatial(pooled))


class BridgeUnit(nn.Module):
    """Distributor, residual block, CBAM, residual block."""

    def __init__(
        self,
        channels: int = 256,
        context_channels: int = 192,
        width: int = 256,
        cbam_residual: bool = False,
        inter_object: str = "none",
    ) -> None:
        """Create the unit; see `ProxyPromptConfig` for the arguments."""
        super().__init__()
        self.block1 = ResidualBlock(channels + context_channels, width)
        self.attention = Cbam(width, inter_object=inter_object)
        self.block2 = ResidualBlock(width, channels)
        self.cbam_residual = cbam_residual

    def forward(self, features: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Aggregate support features and masks.

        Args:
            features: F_sup of ``K`` supports, ``(K, C, g, g)``.
            context: V of ``N`` objects in each, ``(K, N, C^V, g, g)``.

        Returns:
            A_agg, ``(K, N, C, g, g)``.
        """
        objects = context.shape[1]
        duplicated = features.unsqueeze(1).expand(-1, objects, -1, -1, -1)
        joined = torch.cat([duplicated, context], dim=2).flatten(0, 1)
        first = self.block1(joined)
        gated = self.attention(first, objects)
        if self.cbam_residual:
            gated = gated + first
        return self.block2(gated).unflatten(0, (-1, objects))
