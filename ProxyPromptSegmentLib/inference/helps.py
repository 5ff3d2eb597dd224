"""What helps with the slices of a volume beside their images: their position in it, and registered supports.

The position is a coordinate that a network may have been trained to read; others ignore it. Registered masks are joined
with what the network predicts, whatever it was trained on; as SAM's mask prompt they can also be read by a network that
was trained on such masks. No torch is loaded before a network is: choices are made, and reported, without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.networks.letterbox import Letterbox
from ProxyPromptSegmentLib.support.registration.prior import Registered

if TYPE_CHECKING:
    import torch

USE_POSITION, REGISTER = False, True
"""Which helps are used unless the user decides otherwise; Docs/results/registration.md has the measurement."""

JOINED_WITH = 0.35
"""Weight of the registered masks' log odds beside those of the network."""

AS_PROMPT = False
"""Whether registered masks are SAM's mask prompt as well; the present weights do not gain from it."""

_LEAST_SHARE = 1e-3  # of a mask prompt, as in training
_LEAST_ODDS = 0.02  # what four supports agree on is right nine times of ten at most


@dataclass(frozen=True, eq=False, kw_only=True)
class Helps:
    """What is known of the slices of a target.

    Attributes:
        depths: Position of each slice along its volume, -1 to 1, float32 ``(S,)``; None if it is not to be used.
        prior: Share of the registered supports' masks, float32 ``(S, N, H, W)``, 0..1; None without registration.
        joined_with: Weight of its log odds beside the network's; 0 leaves the prediction as it is.
        as_prompt: Whether it is SAM's mask prompt as well, if the network was trained on such masks.
    """

    depths: npt.NDArray[np.float32] | None = None
    prior: npt.NDArray[np.float32] | None = None
    joined_with: float = JOINED_WITH
    as_prompt: bool = AS_PROMPT

    def at(self, indices: Sequence[int]) -> Helps:
        """Return what is known of some of the slices."""
        chosen = list(indices)
        return replace(
            self,
            depths=None if self.depths is None else self.depths[chosen],
            prior=None if self.prior is None else self.prior[chosen],
        )

    def join(self, logits: torch.Tensor, part: slice) -> torch.Tensor:
        """Return predicted logits ``(B, N, H, W)`` of some slices, joined with the log odds of the prior."""
        import torch

        if self.prior is None or not self.joined_with:
            return logits
        share = torch.from_numpy(np.ascontiguousarray(self.prior[part])).to(logits.device)
        return logits + self.joined_with * torch.logit(share.clamp(_LEAST_ODDS, 1 - _LEAST_ODDS))


@dataclass(frozen=True, kw_only=True)
class HelpsUsed:
    """Which helps a result rests on.

    Attributes:
        position: Whether the position of slices in their volumes was used.
        registered: The outcome for each support that was to be registered; empty if none was.
        closer: Names of the objects that were looked at closer.
    """

    position: bool = False
    registered: tuple[Registered, ...] = ()
    closer: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the supports whose registered masks were read."""
        return tuple(one.name for one in self.registered if not one.problem)

    @property
    def sentence(self) -> str:
        """What was used, in words; empty if nothing was."""
        parts = ["the position of the slices in their volumes"] if self.position else []
        if self.names:
            parts.append(f"masks registered to the target ({', '.join(self.names)})")
        if self.closer:
            parts.append(f"a closer look at {', '.join(self.closer)}")
        return f"Used in addition to whole slices: {'; '.join(parts)}." if parts else ""


def mask_logits(prior: npt.NDArray[np.float32], box: Letterbox, side: int) -> torch.Tensor:
    """Return a prior as SAM's mask prompt.

    Args:
        prior: float32 ``(S, N, H, W)``, 0..1.
        box: Position of the slices in the network's square.
        side: Side of the mask prompt.

    Returns:
        Logits, float32 ``(S, N, side, side)``; nothing is expected in the padding.
    """
    import torch
    from torch.nn import functional

    tensor = torch.from_numpy(np.ascontiguousarray(prior))
    rows, columns = box.valid
    if (rows, columns) != tuple(tensor.shape[-2:]):
        tensor = functional.interpolate(
            tensor, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
        )
    square = functional.pad(tensor, (0, box.size - columns, 0, box.size - rows))
    if side != box.size:
        square = functional.interpolate(square, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    return torch.logit(square.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE))
