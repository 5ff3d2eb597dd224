"""The part of a run that is done in tiles, in numbers for estimates; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.inference.tiling.cut import MOST_READ, MOST_SUPPORT_TILES

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.tiling.plan import TilePlan, TileUse


@dataclass(frozen=True)
class TileWork:
    """The work of a run that is done in tiles.

    Attributes:
        tiles: Number of tiles of a slice.
        supports: Number of support tiles.
        read: Number of support tiles that each tile reads.
        objects: Number of objects that are segmented in tiles; all others are segmented in whole slices.
        embedded: Number of tiles that must be embedded; None means all tiles of the slices that must be.
    """

    tiles: int
    supports: int
    read: int
    objects: int
    embedded: int | None = None

    @classmethod
    def planned(cls, plan: TilePlan, pairs: int) -> TileWork | None:
        """Return the work of a plan with so many support slices, before it is done; None without tiles."""
        if not plan.in_tiles:
            return None
        supports = min(MOST_SUPPORT_TILES, pairs * plan.tiles)
        return cls(plan.tiles, supports, min(MOST_READ, supports), len(plan.in_tiles))

    @classmethod
    def done(cls, use: TileUse | None) -> TileWork | None:
        """Return the work that was done; None without tiles."""
        if use is None:
            return None
        return cls(use.plan.tiles, use.supports, use.read, len(use.plan.in_tiles), use.embedded)
