"""What an adaptation learns from: slices and tiles of the cases, with their features, as sources of episodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ProxyPromptSegmentLib.inference.tiling.tiler import logit_side
from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.training.adapting.cases import CheckedCases
from ProxyPromptSegmentLib.training.adapting.episodes import EpisodeSource
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.sheets import Sheets, cut_sheets
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.training.adapting.variants import may_be_mirrored


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """What is learned from.

    Attributes:
        sheets: Slices, and tiles of the objects that are too thin or small for whole slices.
        stores: The features of slices, and of tiles if there are any.
        mirror: Whether pictures may be mirrored.
    """

    sheets: Sheets
    stores: tuple[FeatureStore, ...]
    mirror: bool

    @classmethod
    def of(cls, checked: CheckedCases, backbone: Backbone, device: torch.device, seed: int) -> Material:
        """Cut the cases; nothing is embedded yet.

        Args:
            checked: The cases.
            backbone: The frozen image encoder with its decoder.
            device: The device to compute on.
            seed: Seed of the variants.
        """
        sheets = cut_sheets(checked, logit_side(backbone), backbone.keeps_aspect)
        parts = (sheets.slices, sheets.tiles) if sheets.tiles else (sheets.slices,)
        stores = tuple(FeatureStore(backbone, part, device, seed + number) for number, part in enumerate(parts))
        return cls(sheets=sheets, stores=stores, mirror=may_be_mirrored(checked.objects, sheets.slices))

    def sources(self, settings: AdaptSettings) -> list[EpisodeSource]:
        """Return the sources of episodes: slices for what is drawn in whole slices, tiles for the rest."""
        sheets, sources = self.sheets, []
        if sheets.in_whole:
            sources.append(EpisodeSource(self.stores[0], sheets.in_whole, sheets.patients, settings, self.mirror))
        if sheets.tiles:
            numbers = range(len(sheets.in_tiles))
            sources.append(EpisodeSource(self.stores[1], numbers, sheets.patients, settings, self.mirror))
        return sources
