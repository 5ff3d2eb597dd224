"""Post-processing that exploits continuity across slices, which a slice-by-slice prediction ignores.

Both rules were chosen on validation patients; the model card has the figures.
"""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.imaging.components import component_labels, component_sizes

SMALL_PART = 0.2  # share of the largest part


def smooth_slice(values: np.ndarray, done: np.ndarray, index: int) -> np.ndarray:
    """Return the average of a slice and its finished neighbours, with weights 1, 2, 1.

    Args:
        values: Values by slice, ``(S, ...)``.
        done: Which slices are finished, bool ``(S,)``.
        index: Index of the slice.

    Returns:
        float32, the shape of ``values[index]``; 0 if the slice itself is not finished.
    """
    total = np.zeros(values.shape[1:], np.float32)
    if not done[index]:
        return total
    norm = 0
    for neighbour, weight in ((index - 1, 1), (index, 2), (index + 1, 1)):
        if 0 <= neighbour < len(done) and done[neighbour]:
            total += weight * values[neighbour]
            norm += weight
    return total / norm


def smooth_over_slices(values: np.ndarray, done: np.ndarray) -> np.ndarray:
    """Apply `smooth_slice` to every slice; return float32 of the shape of ``values``."""
    return np.stack([smooth_slice(values, done, index) for index in range(len(done))])


def drop_small_parts(mask: np.ndarray, smallest: float = SMALL_PART) -> np.ndarray:
    """Remove connected components that are much smaller than the largest one.

    Args:
        mask: 0 or 1, ``(S, H, W)``; components are connected by faces, also across slices.
        smallest: Components below this share of the largest one are removed.

    Returns:
        uint8 of the same shape.
    """
    labels, box = component_labels(mask)
    sizes = component_sizes(labels)
    if len(sizes) < 2:
        return mask.astype(np.uint8)
    kept = np.concatenate([[False], sizes >= smallest * sizes.max()])
    large = np.zeros(mask.shape, np.uint8)
    large[box] = np.stack([kept[part] for part in labels])
    return large
