"""Masks between annotated slices: a stack of a few annotated slices becomes a mask of the whole object.

References:
    Raya and Udupa 1990, Shape-based interpolation of multidimensional objects.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.wording import consecutive_ranges

_SINGLE = 1.5
"""Annotated slices in a row, on average, from which on a gap between them is a gap in the object."""


def fill_between(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Fill the slices between single annotated slices by interpolating the distances to the outlines.

    Args:
        masks: One object, ``(S, H, W)``, 0 or 1.

    Returns:
        The mask itself where slices were annotated one after the other, or only one was.
    """
    marked = np.flatnonzero(masks.any(axis=(1, 2)))
    runs = consecutive_ranges([int(n) for n in marked])
    if len(runs) < 2 or len(marked) / len(runs) >= _SINGLE:
        return masks
    filled = masks.copy()
    for (_, low), (high, _) in zip(runs, runs[1:], strict=False):
        first, last = _distance(masks[low]), _distance(masks[high])
        for number in range(low + 1, high):
            share = (number - low) / (high - low)
            filled[number] = (1 - share) * first + share * last > 0
    return filled


def _distance(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the distance to the outline in pixels, positive inside."""
    from scipy import ndimage

    inside = ndimage.distance_transform_edt(mask)
    result: npt.NDArray[np.float64] = inside - ndimage.distance_transform_edt(mask == 0)
    return result
