"""The draw of support slices for a target: of other patients, every object marked, nested for growing K."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet


def draw_pairs(pool: list[Case], target: Case, count: int, seed: int) -> list[SupportPair]:
    """Draw support slices on which every object is marked, one patient after another.

    The pairs for a smaller count are the first ones for a larger. A patient gives a second slice once every other
    patient has given one: a data set can have fewer patients than supports are wanted.

    Args:
        pool: Cases that may be supports, with the target's objects.
        target: The case to be segmented; its patient gives none.
        count: ``K``.
        seed: Seed of the draw, combined with the target's name.

    Returns:
        ``count`` pairs, or fewer if the pool has no more such slices.
    """
    marked: dict[str, list[tuple[Case, int]]] = {}
    for case in pool:
        if (case.dataset, case.patient) != (target.dataset, target.patient):
            marked.setdefault(case.patient, []).extend((case, index) for index in slices_with_all(case))
    rng = np.random.default_rng([seed, *target.name.encode(), *target.patient.encode()])
    order = [str(patient) for patient in rng.permutation(sorted(marked))]
    pairs: list[SupportPair] = []
    while len(pairs) < count and any(marked.values()):
        for patient in order:
            if marked[patient] and len(pairs) < count:
                pairs.append(pair_of(*marked[patient].pop(int(rng.integers(len(marked[patient]))))))
    return pairs


def slices_with_all(case: Case) -> list[int]:
    """Return the slices of a case on which every object is marked."""
    shown = np.asarray(case.masks.any(axis=(2, 3)))
    return [int(index) for index in np.flatnonzero(np.all(shown, axis=1))]


def support_set(pairs: list[SupportPair], target: Case) -> SupportSet:
    """Return pairs as the support of a target's objects."""
    return SupportSet(tuple(pairs), target.objects)
