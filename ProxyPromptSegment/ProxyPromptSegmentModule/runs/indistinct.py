"""Structures that a result does not tell apart though the supports do."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.support.asked import Asked
from ProxyPromptSegmentModule.translation import _

_ALIKE = 0.6
"""Dice of two structures in a result above which they are nearly the same region."""

_APART = 0.1
"""Dice of two structures in the supports below which these keep them apart."""


def sentences(support: Asked, masks: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Say which structures came back as nearly the same region.

    Args:
        support: The support set, or what was asked for without one.
        masks: The result, ``(S, N, H, W)``, in the order of the support's objects.
    """
    said: list[str] = []
    if not support.pairs:  # it is not known whether they may overlap
        return ()
    for one, two in combinations(range(len(support.objects)), 2):
        given = _dice((pair.masks[one], pair.masks[two]) for pair in support.pairs)
        found = _dice((plane[one], plane[two]) for plane in masks)
        if found > _ALIKE and given < _APART:
            text = _(
                "‘{one}’ and ‘{two}’ came back as nearly the same region (Dice {dice:.2f}), though the "
                "supports keep them apart: the model does not tell them apart in this image."
            )
            said.append(text.format(one=support.objects[one], two=support.objects[two], dice=found))
    return tuple(said)


def _dice(pairs: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]) -> float:
    """Return the Dice of two structures over all slices; 0 if both are empty."""
    shared = both = 0
    for one, two in pairs:
        shared += int(np.count_nonzero((one > 0) & (two > 0)))
        both += int(np.count_nonzero(one)) + int(np.count_nonzero(two))
    return 2 * shared / both if both else 0.0
