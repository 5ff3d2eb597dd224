"""Whether left and right of annotated slices may be exchanged: one rule for all that is trained on them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SYMMETRIC = 0.75  # soft Dice of all masks with their mirror image
SIDE = 16  # cells of the coarse grid on which masks are compared
_SIDES = frozenset(
    ["left", "right", "l", "r", "lt", "rt", "links", "rechts", "gauche", "droite", "izquierda", "izquierdo", "derecha"]
    + ["derecho", "sinistra", "sinistro", "destra", "destro"]
)
_WORD = re.compile(r"[^\W_]+")


def lies_on_both_sides(objects: Sequence[str], masks: Sequence[npt.NDArray[np.generic]]) -> bool:
    """Return whether left and right may be exchanged: no object is named after a side, and each lies on both alike.

    Args:
        objects: Their names.
        masks: Masks of the slices, each ``(N, H, W)``; an object that none shows decides nothing.
    """
    if any(_SIDES & _words_of(name) for name in objects):
        return False
    for number in range(len(objects)):
        maps = [coarse(one[number]) for one in masks if one[number].any()]
        if not maps:
            continue
        mean = np.mean(maps, axis=0)
        mirrored = mean[:, ::-1]
        if 2 * (mean * mirrored).sum() < SYMMETRIC * (mean**2 + mirrored**2).sum():
            return False
    return True


def _words_of(name: str) -> set[str]:
    """Return the words of a name, such as both of ``atrium (left)`` and of ``leftAtrium``, in small letters."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return {word.casefold() for word in _WORD.findall(apart)}


def coarse(mask: npt.NDArray[np.generic], side: int = SIDE) -> npt.NDArray[np.float64]:
    """Return the share of a mask in the cells of a coarse grid, ``(side, side)``; neighbours may share a pixel."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    sums[1:, 1:] = np.cumsum(np.cumsum(mask.astype(np.float64), axis=0), axis=1)
    cells = np.arange(side)
    (top, bottom), (left, right) = ((cells * n // side, -(-(cells + 1) * n // side)) for n in mask.shape)
    inside = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    found: npt.NDArray[np.float64] = inside / np.outer(bottom - top, right - left)
    return found
