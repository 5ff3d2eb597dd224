"""Changes of a mask that a model which reads its support has to follow: halves and the core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Change = Callable[[np.ndarray], np.ndarray]


def side(mask: np.ndarray, axis: int, upper: bool) -> np.ndarray:
    """Return the part of a mask ``(H, W)`` on one side of its centre of mass; pixels on the line belong to the lower.

    Args:
        mask: 0 or 1.
        axis: 0 divides rows, 1 columns.
        upper: Whether the side with the higher indices is kept.
    """
    places = np.nonzero(mask)[axis]
    if not len(places):
        return mask.copy()
    index = np.arange(mask.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
    kept = index > places.mean() if upper else index <= places.mean()
    return (mask.astype(bool) & kept).astype(np.uint8)


def core(mask: np.ndarray) -> np.ndarray:
    """Return the innermost pixels of a mask ``(H, W)``: eroded from its edge to about half of its area."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return mask.copy()
    # A frame, so that the border of the image counts as an edge of the object.
    depth = distance_transform_edt(np.pad(mask.astype(bool), 1))[1:-1, 1:-1]
    steps, areas = np.unique(depth[depth > 0], return_counts=True)
    at_least = areas[::-1].cumsum()[::-1]
    chosen = steps[np.abs(at_least - mask.astype(bool).sum() / 2).argmin()]
    return (depth >= chosen).astype(np.uint8)


WHOLE, CORE = "whole", "core"
# Rows of a slice run from anterior to posterior; left and right are the image's.
CHANGES: dict[str, Change] = {
    WHOLE: lambda mask: mask.copy(),
    "left half": lambda mask: side(mask, 1, upper=False),
    "right half": lambda mask: side(mask, 1, upper=True),
    "anterior half": lambda mask: side(mask, 0, upper=False),
    "posterior half": lambda mask: side(mask, 0, upper=True),
    CORE: core,
}


def change_masks(masks: np.ndarray, change: Change) -> np.ndarray:
    """Apply a change to every mask of ``(..., H, W)``."""
    flat = masks.reshape(-1, *masks.shape[-2:])
    return np.stack([change(mask) for mask in flat]).astype(np.uint8).reshape(masks.shape)
