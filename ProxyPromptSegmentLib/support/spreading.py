"""Slices that are spread over a stack, and so chosen that each object is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """Return at most so many of the numbers: the middles of as many equal parts, which avoids the outermost ones."""
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[int((n + 0.5) * len(numbers) / count)] for n in range(count)]


def with_all_objects(picked: Sequence[int], shown: npt.NDArray[np.bool_]) -> list[int]:
    """Return picked slices, and a middle one of each object that none of them shows; ``shown`` is ``(S, N)``."""
    found = list(picked)
    for number in range(shown.shape[1]):
        having = np.flatnonzero(shown[:, number])
        if len(having) and not shown[found, number].any():
            found.append(int(having[len(having) // 2]))
    return sorted(set(found))
