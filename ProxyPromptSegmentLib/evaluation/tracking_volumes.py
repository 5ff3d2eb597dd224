"""Volumes as frames: tracked in both directions with SAM 2's memory, compared with independent slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case, unit_of
from ProxyPromptSegmentLib.evaluation.conditions import foreign_support, prepare_emptied
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports, spacing_of
from ProxyPromptSegmentLib.evaluation.mean_mask import predict_mean_mask
from ProxyPromptSegmentLib.evaluation.tracking_table import EMPTIED, FUNDUS, VOLUMES, TrackTable
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.support.pairs import SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.results import SegmentResult
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.tracking.tracker import FramePrediction

MEAN = "mean of the support masks, copied"
BOTH_WAYS = "proxy prompt + memory, both ways"
SLICES = "proxy prompt alone, slice by slice"
SMOOTHED = ", averaged over slices"

Progress = Callable[[int, int], None]


def follow_volumes(
    segmenter: Segmenter,
    targets: list[Case],
    pool: list[Case],
    foreign: list[Case],
    draws: int = 5,
    supports: int = 4,
    seed: int = 0,
    part: str = "test",
    on_target: Progress | None = None,
    beside: dict[str, Segmenter] | None = None,
) -> TrackTable:
    """Track each volume in both directions from a slice in its middle, with the supports of the slice protocol.

    Each row exists twice: with each slice's own mask, and with masks smoothed over neighbouring slices.

    Args:
        segmenter: A model with a memory.
        targets: Volumes.
        pool: Cases from which supports are drawn.
        foreign: Images of another organ.
        draws: Number of support draws per target.
        supports: ``K``.
        seed: Seed of the first draw.
        part: Part of the split, for the table's heading.
        on_target: Told the number of targets done and of all.
        beside: Models for comparison, by name, that segment slice by slice with the same supports.
    """
    table = TrackTable(
        dataset=targets[0].dataset,
        part=part,
        unit=VOLUMES,
        supports=supports,
        draws=draws,
        targets=[case.name for case in targets],
        patients=[unit_of(case) for case in targets],
    )
    one_size = len({case.masks.shape[2:] for case in (*targets, *pool)}) == 1  # a row exists for all targets or none
    for number, case in enumerate(targets):
        encoded: dict[str, dict[int, EncodedSlices]] = {}
        for draw in range(draws):
            support, drawn = draw_supports(pool, case, supports, seed + draw)
            table.drawn.setdefault(case.name, []).append(", ".join(f"{d.name}:{d.slice_index}" for d in drawn))
            if one_size:
                copied = predict_mean_mask(np.stack([pair.masks for pair in support.pairs]), len(case.images))
                table.note(MEAN, case, copied, draw, number)
            wrong = foreign_support(foreign, case.objects, supports, seed + draw)
            for method, result, disagreements in _segmented(segmenter, case, support, wrong, encoded, beside or {}):
                for suffix, across in (("", False), (SMOOTHED, True)):
                    masks = replace(result, across_slices=across).masks()
                    table.note(method + suffix, case, masks, draw, number, disagreements)
        if on_target:
            on_target(number + 1, len(targets))
    return table


def _segmented(
    segmenter: Segmenter,
    case: Case,
    support: SupportSet,
    wrong: SupportSet,
    encoded: dict[str, dict[int, EncodedSlices]],
    beside: dict[str, Segmenter],
) -> Iterator[tuple[str, SegmentResult, int | None]]:
    """Yield the result of each method on one volume with one draw, and the number of disagreeing slices."""
    from ProxyPromptSegmentLib.tracking.tracker import Tracker
    from ProxyPromptSegmentLib.tracking.volume import track_volume

    window, spacing = intensity_window(case.images), spacing_of(case)
    right = segmenter.prepare(support)
    kept = encoded.setdefault("", {})
    for method, prepared in (
        (BOTH_WAYS, right),
        (EMPTIED, prepare_emptied(segmenter, support)),
        (FUNDUS, segmenter.prepare(wrong)),
    ):
        said: list[FramePrediction] = []
        tracker = Tracker(segmenter)
        result = track_volume(tracker, case.images, prepared, window, spacing, on_frame=said.append, encoded=kept)
        yield method, result, sum(bool(frame.disagrees.any()) for frame in said)
    yield SLICES, segmenter.segment(case.images, right, window, spacing, encoded=kept), None
    for name, other in beside.items():
        theirs = encoded.setdefault(name, {})
        yield f"{name}, slice by slice", other.segment(case.images, support, window, spacing, encoded=theirs), None
