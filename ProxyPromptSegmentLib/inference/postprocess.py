"""What is known of any object, and a slice-by-slice prediction does not know: it goes on from slice to slice.

Both rules were chosen on validation patients; the model card has the figures.
"""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.imaging.components import component_labels, component_sizes

SMALL_PART = 0.2  # of the largest part


def smooth_slice(values: np.ndarray, done: np.ndarray, index: int) -> np.ndarray:
    """Averages a slice with its finished neighbours, weights 1, 2, 1.

    Args:
        values: ``(S, ...)``.
        done: Slices that count, bool ``(S,)``.
        index: The slice.

    Returns:
        float32, ``values[index]``'s shape; 0 if the slice itself is not done.
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
    """`smooth_slice` of every slice; float32, the shape of ``values``."""
    return np.stack([smooth_slice(values, done, index) for index in range(len(done))])


def drop_small_parts(mask: np.ndarray, smallest: float = SMALL_PART) -> np.ndarray:
    """Removes parts that are small beside the largest one.

    Args:
        mask: 0 or 1, ``(S, H, W)``; parts touch by faces, across slices too.
        smallest: Parts below this share of the largest are removed.

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
