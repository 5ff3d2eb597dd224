"""SAM 2's feature pyramid with one more convolution and a norm on the level that prompts are computed from.

The Selective Map compares features by their distance, and a norm gives that distance a scale from the first
step on; SAM's own encoder ends in one, SAM 2's pyramid does not.
"""

from __future__ import annotations

from typing import Any

import torch
from sam2.modeling.backbones.image_encoder import FpnNeck
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import nn


class CompactNeck(FpnNeck):
    """The package's pyramid; its coarsest kept level is refined."""

    def __init__(self, **options: Any) -> None:
        """Create the pyramid; options as of ``FpnNeck``."""
        super().__init__(**options)
        channels = options["d_model"]
        self.refine = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            LayerNorm2d(channels),
        )

    def forward(self, xs: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Map trunk levels, finest first, to levels of ``d_model`` channels and their positions.

        The last but one is the level that is kept as the image embedding (``scalp=1`` drops the last).
        """
        levels, positions = super().forward(xs)
        levels[-2] = self.refine(levels[-2])
        return levels, positions
