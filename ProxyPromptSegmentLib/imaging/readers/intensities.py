"""What a file's voxels are as an image: intensities or three colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.readers.stored import Stored, wrong_channels


def as_image(stored: Stored, name: str, picture: bool) -> npt.NDArray[Any]:
    """Return intensities ``(K, J, I)`` or colours ``(K, J, I, 3)`` in their stored type.

    A palette is looked up. Transparency, which pictures have, is left out.

    Raises:
        InputError: If voxels are vectors.
    """
    array = stored.array
    if stored.palette is not None:
        colours = stored.palette[np.minimum(array, len(stored.palette) - 1)]
        grey = (colours == colours[..., :1]).all()
        return colours[..., 0] if grey else colours
    if array.ndim == 3:
        return array
    channels = array.shape[3]
    whole = array.dtype.kind == "u" and array.dtype.itemsize <= 2
    if picture and channels in (2, 4) and whole:
        return array[..., 0] if channels == 2 else array[..., :3]
    if channels != 3 or not whole:
        raise wrong_channels(name, channels, array.dtype)
    return array
