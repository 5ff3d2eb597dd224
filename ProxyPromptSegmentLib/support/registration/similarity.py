"""Local correlation: how alike two images are in small windows, whatever brightness and contrast they have there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WINDOW = (3, 5, 5)
_FLAT = 1e-4  # variance of a window that shows nothing; intensities are 0..1

Array = npt.NDArray[np.floating]


class LocalCorrelation:
    """Compares images with one image, whose local means are computed once."""

    def __init__(self, reference: Array) -> None:
        """Learn the image ``(S, H, W)`` that the others are compared with."""
        self._window = _WINDOW if reference.shape[0] >= _WINDOW[0] else (1, *_WINDOW[1:])
        self._reference = reference
        self._mean, self._variance = self._moments(reference)

    def _moments(self, image: Array) -> tuple[Array, Array]:
        from scipy import ndimage

        mean = ndimage.uniform_filter(image, self._window)
        return mean, np.maximum(ndimage.uniform_filter(image * image, self._window) - mean * mean, _FLAT)

    def at(self, image: Array) -> Array:
        """Return the correlation in the window around every voxel, -1..1."""
        from scipy import ndimage

        mean, variance = self._moments(image)
        together = ndimage.uniform_filter(self._reference * image, self._window) - mean * self._mean
        result: Array = together / np.sqrt(variance * self._variance)
        return result
