"""A class prompt encoder that is the reading of the classes alone: a box around what it finds, and a mask prompt."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.class_prompt.config import ClassPromptConfig
from ProxyPromptSegmentLib.networks.class_prompt.diffusion import MOST_LOGIT, ClassPrompts
from ProxyPromptSegmentLib.networks.class_prompt.readout import ClassReadout
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
            low, high = corners_of(maps > 0)
            places = torch.stack([positions[:, y, x].permute(1, 2, 0) for y, x in (low, high)], 2)
            mask = functional.interpolate(maps, scale_factor=4.0, mode="bilinear")
        return ClassPrompts(sparse=self.corners + places.float(), presence=presence, mask=mask)


def corners_of(
    inside: torch.Tensor,
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return row and column of the first and of the last corner of a box around each mask.

    Args:
        inside: bool ``(B, N, g, g)``; the box of an empty one is the whole grid.

    Returns:
        Two pairs of int64 ``(B, N)``.
    """
    side = inside.shape[-1]
    nothing = ~inside.flatten(2).any(2)
    ends = []
    for axis in (3, 2):
        some = (inside.any(axis) | nothing.unsqueeze(2)).long()
        ends.append((some.argmax(2), side - 1 - some.flip(2).argmax(2)))
    return (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])
