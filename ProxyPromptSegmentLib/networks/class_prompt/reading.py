"""A class prompt encoder that is the reading of the classes alone: a box around what it finds, and a mask prompt."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.class_prompt.config import ClassPromptConfig
from ProxyPromptSegmentLib.networks.class_prompt.diffusion import MOST_LOGIT, ClassPrompts
from ProxyPromptSegmentLib.networks.class_prompt.readout import ClassReadout, places_of_corners
from ProxyPromptSegmentLib.networks.devices import without_autocast


class ReadingClassEncoder(nn.Module):
    """Maps image embeddings and classes to the corners of a box, a mask prompt and a presence logit.

    Attributes:
        readout: The readings of the classes.
        corners: What the two tokens say beside the place of their corner, ``(2, C)``.
    """

    def __init__(self, config: ClassPromptConfig) -> None:
        """Create the encoder with readings that say nothing."""
        super().__init__()
        self.readout = ClassReadout(len(config.classes), config.channels)
        self.corners = nn.Parameter(torch.zeros(2, config.channels))

    def forward(
        self, top: torch.Tensor, positions: torch.Tensor, classes: torch.Tensor, drawn: int | None = None
    ) -> ClassPrompts:
        """Return the prompts of ``N`` classes on each of ``B`` images; see `DiffusionClassEncoder.forward`."""
        with without_autocast(top.device):  # sums of many terms, which bfloat16 cannot hold
            maps, presence = self.readout(top.float(), classes)
            maps = maps if drawn is None else maps[:, :drawn]
            maps = maps.clamp(-MOST_LOGIT, MOST_LOGIT)
            places = places_of_corners(maps > 0, positions)
            mask = functional.interpolate(maps, scale_factor=4.0, mode="bilinear")
        return ClassPrompts(sparse=self.corners + places, presence=presence, mask=mask)
