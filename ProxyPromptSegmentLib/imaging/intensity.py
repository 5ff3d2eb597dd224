"""The intensity window that is mapped to 0..1; image encoder and contextual encoder share it."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.errors import InputError

WINDOW_PERCENTILES = (0.5, 99.5)

_PADDED_SHARE = 1e-3  # of the voxels that have the value of padding, at least
_EMPTY_BELOW, _EMPTY_ABOVE = 0.1, 1.0  # of the range of all others: how far padding lies from them
_HIGHEST = (32767.0, 65535.0, 2147483647.0, 4294967295.0)  # of whole numbers, with which some fill the outside


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
    sample = without_padding(sample[np.isfinite(sample)])
    if sample.size == 0:
        raise InputError("the image has no finite intensity; export it again without NaN or infinite values")
    low, high = (float(value) for value in np.percentile(sample, percentiles))
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    if high <= low:
        low, high = float(flat.min()), float(flat.max())
    if not high > low:
        raise InputError(f"every voxel of the image is {low:g}; an image needs at least two intensities")
    return low, high


def without_padding(values: np.ndarray) -> np.ndarray:
    """Return values without those that fill the outside of the field of view.

    Scanners and converters fill it with one value that no tissue has, such as -2000, -3024 or -32768: it is negative,
    frequent, and nothing lies between it and the others.

    Args:
        values: Finite intensities, any shape.
    """
    flat = values.reshape(-1)
    if flat.size == 0:
        return flat
    for end, lowest in ((float(flat.min()), True), (float(flat.max()), False)):
        if not (end < 0 if lowest else end in _HIGHEST) or np.mean(flat == end) < _PADDED_SHARE:
            continue
        rest = flat[flat != end]
        if rest.size == 0:
            continue
        low, high = (float(value) for value in np.percentile(rest, WINDOW_PERCENTILES))
        empty = low - end if lowest else end - high
        if high > low and empty > (_EMPTY_BELOW if lowest else _EMPTY_ABOVE) * (high - low):
            flat = rest
    return flat


def window_to_unit(images: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Map the window to 0..1 and clip; float32 of the same shape."""
    low, high = window
    return np.clip((images.astype(np.float32) - low) / (high - low), 0.0, 1.0)
