"""The plan of a run from annotated cases alone: for estimates before it, without torch and without the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.imaging.geometry import auto_axis, slice_view
from ProxyPromptSegmentLib.imaging.slice_choice import slice_numbers
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER, objects_to_enlarge
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.inference.tiling.plan import TilePlan, decide_by_masks
from ProxyPromptSegmentLib.support.case import SupportCase, shared_objects
from ProxyPromptSegmentLib.support.pairs import MAX_SLICES
from ProxyPromptSegmentLib.support.pieces import MarkedSlice
from ProxyPromptSegmentLib.support.selecting import select_segments


@dataclass(frozen=True)
class Forecast:
    """What a run will do beside whole slices.

    Attributes:
        tiles: What is segmented in tiles.
        closer: Numbers of the objects that are looked at closer.
    """

    tiles: TilePlan
    closer: tuple[int, ...] = ()


def forecast(
    cases: Sequence[SupportCase],
    objects: Sequence[str] | None,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    side: int,
    choice: TileChoice | None = None,
    most: int = MAX_SLICES,
    closer: bool = USE_CLOSER,
) -> Forecast:
    """Return the plan that a run will have, from about the slices that will prompt.

    Args:
        cases: The supports, at least one.
        objects: Names of the objects; by default those that all supports have.
        shape: Rows and columns of a slice of the target.
        spacing_mm: Its pixel size (row, column).
        side: Side of the square of logits that the model's decoder predicts.
        choice: The user's choice.
        most: Largest number of slices to look at, of all cases together.
        closer: Whether small structures are looked at closer.

    Raises:
        SupportError: If a support has none of the objects.
    """
    names = tuple(objects or shared_objects([case.segmentation for case in cases])[0])
    marked: list[MarkedSlice] = []
    for case in cases:
        view = slice_view(case.volume.geometry, case.axis or auto_axis(case.volume.geometry))
        masks = [view.take(segment.mask) for segment in select_segments(case.segmentation, names)]
        chosen = slice_numbers(case.slices, len(masks[0])) or [
            # Ends at the first marked row of the first object: an estimate is made while a user waits.
            place
            for place in range(len(masks[0]))
            if any(mask[place].view(bool).any() for mask in masks)
        ]
        share = max(1, most // len(cases))
        places = (
            chosen if len(chosen) <= share else [chosen[int((n + 0.5) * len(chosen) / share)] for n in range(share)]
        )
        marked += [(np.stack([mask[place] for mask in masks]), view.spacing_mm) for place in places]
    tiles = decide_by_masks(names, marked, shape, spacing_mm, side, choice)
    return Forecast(tiles, objects_to_enlarge(marked, tiles.in_whole, side) if closer else ())
