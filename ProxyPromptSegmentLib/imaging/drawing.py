"""What pictures of results have in common: contours, the colours of a map, colours that are seen on grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_HEAT = np.array([(0, 0, 0), (60, 15, 110), (170, 40, 100), (240, 110, 40), (255, 220, 90)], np.float32)


def inner_border(inside: npt.NDArray[np.bool_], width: int = 1) -> npt.NDArray[np.bool_]:
    """Return the outermost pixels of a mask, including where it touches the picture's edge.

    Args:
        inside: ``(H, W)``.
        width: Of the border, in pixels.
    """
    core = inside
    for _ in range(width):
        padded = np.pad(core, 1)
        core = core & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return inside & ~core


def heat(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colour a map of 0..1, ``(H, W)``, from black over purple to yellow, ``(H, W, 3)``."""
    place = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    mixed = _HEAT[low] + (_HEAT[low + 1] - _HEAT[low]) * (place - low)[..., None]
    return np.round(mixed).astype(np.uint8)


def bright(color: Sequence[float]) -> tuple[int, int, int]:
    """Return a colour that is seen on grey, as bytes: pure and full; black becomes yellow.

    Args:
        color: Red, green, blue in 0..1.
    """
    values = np.clip(np.asarray(color, dtype=float), 0, 1)
    values = values - 0.7 * values.min()
    values = np.array([1.0, 1.0, 0.0]) if values.max() < 0.05 else values / values.max()
    red, green, blue = (round(float(v) * 255) for v in values)
    return red, green, blue
