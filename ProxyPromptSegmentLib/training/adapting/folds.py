"""Folds: which cases are left out together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def make_folds(patients: Sequence[int], most: int, seed: int) -> list[list[int]]:
    """Return the cases of each fold: one patient each, or ``most`` folds if there are more; none for one.

    Args:
        patients: Number of the patient of each case.
        most: Largest number of folds.
        seed: Seed of who is together.
    """
    people = sorted(set(patients))
    if len(people) < 2:
        return []
    count = min(most, len(people))
    order = np.random.default_rng(seed).permutation(len(people)) if len(people) > most else np.arange(len(people))
    fold_of = {people[int(person)]: place % count for place, person in enumerate(order)}
    return [[case for case, person in enumerate(patients) if fold_of[person] == fold] for fold in range(count)]
