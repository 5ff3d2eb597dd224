"""The in-context protocol: K support slices of other patients; every slice of the target counts."""

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
    """A drawn support slice, recorded so that a table can be reproduced."""

    name: str
    slice_index: int


def spacing_of(case: Case) -> tuple[float, float]:
    """Return the pixel size (row, column) in mm; 1 x 1 if the publisher removed it."""
    return (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])


def marked_cases(pool: list[Case], target: Case) -> dict[str, list[Case]]:
    """Return the cases that can support a target, by patient: annotated, and of other patients than the target's."""
    found: dict[str, list[Case]] = {}
    for case in pool:
        if case.patient != target.patient and case.masks.any():
            found.setdefault(case.patient, []).append(case)
    return found


def draw_supports(pool: list[Case], target: Case, count: int, seed: int) -> tuple[SupportSet, list[Drawn]]:
    """Draw one annotated slice from each of ``count`` patients other than the target's.

    Args:
        pool: Cases that may be supports; those without annotation are skipped.
        target: The case to be segmented.
        count: ``K``.
        seed: Seed of the draw, combined with the target's name.

    Raises:
        UsageError: If fewer than ``count`` other patients have an annotated slice; the table would not be one for
            K supports.
    """
    marked_of = marked_cases(pool, target)
    if not 1 <= count <= len(marked_of):
        raise UsageError(
            f"{count} supports were requested, each from a patient other than {target.name}'s, but {len(marked_of)} "
            f"other patients of {target.dataset} have an annotated slice; request 1 to {len(marked_of)}, or add cases."
            if marked_of
            else f"only the patient of {target.name} has an annotated slice among {len(pool)} cases of "
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
    """Return one slice of a case as a support pair, with the window of the whole case."""
    return SupportPair(
        case.images[index],
        case.masks[index],
        spacing_of(case),
        intensity_window(case.images),
        f"{case.name}:{index}",
        index,
    )


def segment_case(segmenter: Segmenter, case: Case, support: SupportSet) -> np.ndarray:
    """Segment every slice of a case; uint8 ``(S, N, H, W)``."""
    return segmenter.segment(case.images, support, spacing_mm=spacing_of(case)).masks()
