"""What helps with the slices of a volume beside their images: their position in it, and registered supports.

Both are hints that a network may have been trained to read; others ignore them. No torch is loaded before a network
is: choices are made, and reported, without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.networks.letterbox import Letterbox
from ProxyPromptSegmentLib.support.registration.prior import Registered

if TYPE_CHECKING:
    import torch

USE_POSITION, REGISTER = True, False
"""Which helps are used unless the user decides otherwise; Docs/results/registration.md has the measurement."""

_LEAST_SHARE = 1e-3  # as in training: a prior is never certain


@dataclass(frozen=True, eq=False, kw_only=True)
class Helps:
    """What is known of the slices of a target.

    Attributes:
        depths: Position of each slice along its volume, -1 to 1, float32 ``(S,)``; None if it is not to be used.
        prior: Share of the registered supports' masks, float32 ``(S, N, H, W)``, 0..1; None without registration.
    """

    depths: npt.NDArray[np.float32] | None = None
    prior: npt.NDArray[np.float32] | None = None

    def at(self, indices: Sequence[int]) -> Helps:
        """Return what is known of some of the slices."""
        chosen = list(indices)
        return Helps(
            depths=None if self.depths is None else self.depths[chosen],
            prior=None if self.prior is None else self.prior[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class HelpsUsed:
    """Which helps a result rests on.

    Attributes:
        position: Whether the position of slices in their volumes was used.
        registered: The outcome for each support that was to be registered; empty if none was.
    """

    position: bool = False
    registered: tuple[Registered, ...] = ()

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
        return f"Used beside the images: {' and '.join(parts)}." if parts else ""


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
