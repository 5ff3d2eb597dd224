"""A square of an image that shows none of its objects: the same kind of image, and nothing to be found."""

from __future__ import annotations

import numpy as np

SIDES = (0.6, 0.5, 0.4, 0.3)  # of the image's shorter side; the largest that fits is taken
LEAST = 12  # pixels of a side, below which a square shows nothing at all


def bare_square(marked: np.ndarray, content: np.ndarray, chance: np.random.Generator) -> tuple[slice, slice] | None:
    """Draw a square without a marked pixel.

    Args:
        marked: Pixels of any object, bool ``(H, W)``.
        content: Pixels that show the image and not its padding, bool ``(H, W)``.
        chance: Draws its place.

    Returns:
        Rows and columns; None where there is none.
    """
    forbidden = np.pad((marked | ~content).astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    shorter = min(content.any(1).sum(), content.any(0).sum())
    for side in (round(share * shorter) for share in SIDES):
        if side < LEAST:
            return None
        inside = forbidden[side:, side:] - forbidden[:-side, side:] - forbidden[side:, :-side]
        places = np.argwhere(inside + forbidden[:-side, :-side] == 0)
        if len(places):
            row, column = places[int(chance.integers(len(places)))]
            return slice(int(row), int(row) + side), slice(int(column), int(column) + side)
    return None
