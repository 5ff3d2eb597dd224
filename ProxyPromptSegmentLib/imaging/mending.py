"""Voxels without a finite intensity, as maps of diffusion or uptake have them outside the body."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError

_BODY = 0.05
"""Share of the range of intensities above which a voxel belongs to the body, for this purpose."""


def mended(array: npt.NDArray[Any], name: str) -> tuple[npt.NDArray[Any], str]:
    """Replace NaN and infinite values outside the body by the lowest intensity.

    Args:
        array: The volume, ``(K, J, I)`` or ``(K, J, I, 3)``; it is not changed.
        name: Its name, for sentences.

    Returns:
        The array, a copy if something was replaced, and a sentence about that; "" if nothing was.

    Raises:
        InputError: If there are such values inside the body, or nothing else.
    """
    bad = ~np.isfinite(array)
    count = int(bad.sum())
    if not count:
        return array, ""
    finite = array[~bad]
    wrong = bad if bad.ndim == 3 else bad.any(axis=-1)
    if finite.size == 0:
        raise InputError(f"{name} has NaN or infinite intensity everywhere; load it again or choose another volume.")
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    with np.errstate(invalid="ignore"):
        bright = np.where(bad, -np.inf, array)
        body = (bright if bright.ndim == 3 else bright.max(axis=-1)) > low + _BODY * (high - low)
    inside = wrong & _is_surrounded(body)
    if inside.any():
        k, j, i = (int(n[0]) for n in np.nonzero(inside))
        raise InputError(
            f"{name} has NaN or infinite intensity in {int(inside.sum())} voxels inside the body, the first at ({i}, "
            f"{j}, {k}). Replace them by numbers, for example with the values around them, and try again."
        )
    result = array.copy()
    result[bad] = finite.min()
    return result, f"{name} has NaN or infinite intensity in {count} voxels outside the body; the lowest is used there."


def _is_surrounded(body: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return where the body lies on both sides along at least two axes, ``(K, J, I)``."""
    sides = np.zeros(body.shape, np.uint8)
    for axis in range(3):
        before = np.logical_or.accumulate(body, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
        sides += before & after
    return sides >= 2
