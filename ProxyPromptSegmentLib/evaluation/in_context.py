"""The protocol of in-context evaluation: K support slices of other patients, every slice of a target counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter


@dataclass(frozen=True)
class Drawn:
    """One support slice that was drawn, so that a table can be made again."""

    name: str
    slice_index: int


def marked_cases(pool: list[Case], target: Case) -> dict[str, list[Case]]:
    """The cases that can support a target, by patient: marked on some slice, and of other patients than the target."""
    found: dict[str, list[Case]] = {}
    for case in pool:
        if case.patient != target.patient and case.masks.any():
            found.setdefault(case.patient, []).append(case)
    return found


def draw_supports(pool: list[Case], target: Case, count: int, seed: int) -> tuple[SupportSet, list[Drawn]]:
    """Draws one annotated slice each of ``count`` patients other than the target's.

    Args:
        pool: Cases that may be supports; those without any mark are passed over.
        target: The case to be segmented.
        count: ``K``.
        seed: Together with the target's name it decides the draw.

    Raises:
        UsageError: If fewer than ``count`` other patients have a marked slice: a table for K supports would be one
            for fewer.
    """
    marked_of = marked_cases(pool, target)
    if not 1 <= count <= len(marked_of):
        raise UsageError(
            f"{count} supports are asked for, each of another patient than {target.name}'s, and {len(marked_of)} "
            f"other patients of {target.dataset} have a marked slice; ask for 1 to {len(marked_of)}, or add cases."
            if marked_of
            else f"no other patient than that of {target.name} has a marked slice among {len(pool)} cases of "
            f"{target.dataset}, so nothing can support it; add annotated cases."
        )
    rng = np.random.default_rng([seed, *target.name.encode(), *target.patient.encode()])
    pairs, drawn = [], []
    for patient in rng.permutation(sorted(marked_of))[:count]:
        mine = marked_of[patient]
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
        case.images[index], case.masks[index], spacing, intensity_window(case.images), f"{case.name}:{index}", index
    )


def segment_case(segmenter: Segmenter, case: Case, support: SupportSet) -> np.ndarray:
    """Segments every slice; uint8 ``(S, N, H, W)``."""
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    return segmenter.segment(case.images, support, spacing_mm=spacing).masks()
