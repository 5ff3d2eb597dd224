"""The trivial baseline: a prediction from the support masks alone, without any target pixel.

It belongs in every table: without this row, a task whose objects always lie in the same place looks solved.
"""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.errors import SupportError


def mean_mask(masks: np.ndarray) -> np.ndarray:
    """Return the voxels that are in at least half of the support masks.

    Args:
        masks: 0 or 1, shape ``(K, H, W)`` or ``(K, N, H, W)``, K >= 1, all on one grid.

    Returns:
        Mask, uint8, shape ``(H, W)`` or ``(N, H, W)``.

    Raises:
        SupportError: If there is no mask or the shape is not allowed.
    """
    masks = np.asarray(masks)
    if masks.ndim not in (3, 4) or masks.shape[0] == 0:
        raise SupportError(
            f"the support masks have shape {masks.shape}; (K, H, W) or (K, N, H, W) with K >= 1 is needed. Stack the "
            "support masks on the first axis."
        )
    # One half counts as inside, so that two disjoint supports give their union instead of an empty prediction.
    return ((masks != 0).mean(axis=0) >= 0.5).astype(np.uint8)


def predict_mean_mask(masks: np.ndarray, slices: int) -> np.ndarray:
    """Copy the mean mask onto every target slice.

    Args:
        masks: Support masks, see ``mean_mask``; with the target's height and width.
        slices: Number S of target slices.

    Returns:
        Mask, uint8, shape ``(S, H, W)`` or ``(S, N, H, W)``.

    Raises:
        SupportError: If there is no support mask.
    """
    mask = mean_mask(masks)
    return np.repeat(mask[None], slices, axis=0)
