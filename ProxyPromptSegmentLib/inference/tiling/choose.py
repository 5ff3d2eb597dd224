"""The support tiles that each tile of the target reads: similar ones from a similar place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.tiling.cut import MOST_READ

if TYPE_CHECKING:
    import torch

    from ProxyPromptSegmentLib.inference.tiling.cut import SupportTile
    from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedSupport

PLACE_WEIGHT = 1.0
"""Weight of the distance between two tiles' places, in sides of a slice, against the cosine of their features."""


class TileChooser:
    """The choice of support tiles, from their prepared features and places."""

    def __init__(self, tiles: Sequence[SupportTile], prepared: PreparedSupport, most: int = MOST_READ) -> None:
        """Describe each support tile by its mean feature.

        Args:
            tiles: The support tiles.
            prepared: The same tiles, prepared in this order.
            most: Number of support tiles that a target tile reads.
        """
        import torch

        with torch.inference_mode():
            means = _means(prepared.features.unsqueeze(-1), prepared.valid.unsqueeze(-1))
            self._center = means.mean(dim=0)
            self._means = _directions(means - self._center)
        self._places = np.array([tile.center for tile in tiles])
        self._shows = np.stack([tile.masks.any(axis=(1, 2)) for tile in tiles])
        self.count = min(len(tiles), max(most, self._shows.shape[1]))

    def choose(self, features: ImageFeatures, places: npt.NDArray[np.float64]) -> torch.Tensor:
        """Return the numbers of the support tiles that ``B`` tiles of the target read, int64 ``(B, k)``.

        At least one of them shows each object.

        Args:
            features: The embedded tiles of the target.
            places: Their centres as a share of the slice's height and width, ``(B, 2)``.
        """
        import torch

        with torch.inference_mode():
            means = _directions(_means(features.top, features.valid) - self._center)
            alike = (means @ self._means.T).double().cpu().numpy()
        apart = np.linalg.norm(places[:, None] - self._places[None], axis=-1)
        chosen = [self._best(scores) for scores in alike - PLACE_WEIGHT * apart]
        return torch.tensor(chosen, device=features.top.device)

    def _best(self, scores: npt.NDArray[np.float64]) -> list[int]:
        """Return the best-scored support tiles that together show all objects."""
        order = np.argsort(-scores, kind="stable")
        chosen: list[int] = []
        for number in range(self._shows.shape[1]):
            if not any(self._shows[one, number] for one in chosen):
                chosen.append(int(order[self._shows[order, number]][0]))
        rest = [int(number) for number in order if number not in chosen]
        return sorted([*chosen, *rest[: self.count - len(chosen)]], key=lambda number: -scores[number])


def _means(features: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Average features ``(B, C, h, w)`` over the positions that are not padding; ``(B, C)``."""
    weight = valid.float().unsqueeze(1)
    return (features.float() * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1.0)


def _directions(vectors: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    return functional.normalize(vectors, dim=-1)
