"""The protocol of in-context evaluation: K support slices of other patients, every slice of a target counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.preprocess import intensity_window
from ProxyPromptSegmentLib.support import SupportPair, SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.segmenter import Segmenter
    from ProxyPromptSegmentLib.training.datasets import Case


@dataclass(frozen=True)
class Drawn:
    """One support slice that was drawn, so that a table can be made again."""

    name: str
    slice_index: int


def draw_supports(pool: list[Case], target: Case, count: int, seed: int) -> tuple[SupportSet, list[Drawn]]:
    """Draws one annotated slice each of ``count`` patients other than the target's.

    Args:
        pool: Cases that may be supports.
        target: The case to be segmented.
        count: ``K``.
        seed: Together with the target's name it decides the draw.
    """
    rng = np.random.default_rng([seed, *target.name.encode(), *target.patient.encode()])
    others = sorted({case.patient for case in pool} - {target.patient})
    pairs, drawn = [], []
    for patient in rng.permutation(others)[:count]:
        mine = [case for case in pool if case.patient == patient]
        case = mine[int(rng.integers(len(mine)))]
        marked = np.flatnonzero(case.masks.any(axis=(1, 2, 3)))
        index = int(rng.choice(marked))
        pairs.append(pair_of(case, index))
        drawn.append(Drawn(case.name, index))
    return SupportSet(tuple(pairs), target.objects), drawn


def pair_of(case: Case, index: int) -> SupportPair:
    """One slice of a case as a support pair, windowed by the whole case."""
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    return SupportPair(
        case.images[index], case.masks[index], spacing, intensity_window(case.images), f"{case.name}:{index}"
    )


def segment_case(segmenter: Segmenter, case: Case, support: SupportSet) -> np.ndarray:
    """Segments every slice; uint8 ``(S, N, H, W)``."""
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    return segmenter.segment(case.images, support, spacing_mm=spacing).masks()
