"""The intensity window that is mapped to 0..1; image encoder and contextual encoder share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import InputError

if TYPE_CHECKING:
    pass


WINDOW_PERCENTILES = (0.5, 99.5)


def intensity_window(array: np.ndarray, percentiles: tuple[float, float] = WINDOW_PERCENTILES) -> tuple[float, float]:
    """Return the intensities that are displayed as black and white.

    Args:
        array: Intensities of a whole volume (preferred) or of one slice, any shape.
        percentiles: Lower and upper percentile, 0..100.

    Returns:
        ``(low, high)`` with ``low < high``.

    Raises:
        InputError: If the array has no finite value or is constant.
    """
    # A sorted sample of about a million voxels moves the percentiles by less than a grey level.
    flat = np.asarray(array).reshape(-1)
    sample = flat[:: max(1, flat.size // 1_000_000)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        raise InputError("the image has no finite intensity; export it again without NaN or infinite values")
    low, high = (float(value) for value in np.percentile(sample, percentiles))
    if high <= low:
        low, high = float(flat.min()), float(flat.max())
    if not high > low:
        raise InputError(f"every voxel of the image is {low:g}; an image needs at least two intensities")
    return low, high


def window_to_unit(images: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Map the window to 0..1 and clip; float32 of the same shape."""
    low, high = window
    return np.clip((images.astype(np.float32) - low) / (high - low), 0.0, 1.0)
