"""The trivial baseline: what the support masks alone know, without looking at a single target pixel.

It belongs in every table: a task whose objects always lie in the same place looks solved until this row
is there.
"""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.errors import SupportError


def mean_mask(masks: np.ndarray) -> np.ndarray:
    """The voxels that at least half of the support masks hold.

    Args:
        masks: 0 or 1, shape ``(K, H, W)`` or ``(K, N, H, W)``, K >= 1, all on one grid.

    Returns:
        Mask, uint8, shape ``(H, W)`` or ``(N, H, W)``.

    Raises:
        SupportError: If there is no mask or the shape is another one.
    """
    masks = np.asarray(masks)
    if masks.ndim not in (3, 4) or masks.shape[0] == 0:
        raise SupportError(
            f"the support masks have shape {masks.shape}; (K, H, W) or (K, N, H, W) with K >= 1 is needed. "
            "Stack the support masks on the first axis."
        )
    # Halves count as inside, so that two disjoint supports give their union and not an empty prediction.
    return ((masks != 0).mean(axis=0) >= 0.5).astype(np.uint8)


def predict_mean_mask(masks: np.ndarray, slices: int) -> np.ndarray:
    """Copies the mean mask onto every target slice.

    Args:
        masks: Support masks, see ``mean_mask``; height and width are those of the target.
        slices: Number S of target slices.

    Returns:
        Mask, uint8, shape ``(S, H, W)`` or ``(S, N, H, W)``.

    Raises:
        SupportError: If there is no support mask.
    """
    mask = mean_mask(masks)
    return np.repeat(mask[None], slices, axis=0)
