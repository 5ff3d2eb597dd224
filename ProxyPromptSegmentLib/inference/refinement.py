"""Refinement of masks that a user asks for after a run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.postprocess import drop_small_parts

Masks = npt.NDArray[np.uint8]

SMALL_ON_SLICE = 0.1
"""Share of the largest piece on a slice below which another one is removed."""

_WEIGHTS = ((-1, 1.0), (0, 2.0), (1, 1.0))
"""Neighbours and their weights, as in `postprocess.smooth_slice`."""


def drop_small_pieces(masks: Masks) -> Masks:
    """Remove pieces that are much smaller than the largest one, in the volume and then on each slice.

    Args:
        masks: 0 or 1, ``(S, H, W)``.

    Returns:
        uint8 of the same shape.
    """
    large = drop_small_parts(masks)
    for index in np.flatnonzero(large.any(axis=(1, 2))):
        large[index] = drop_small_parts(large[index : index + 1], SMALL_ON_SLICE)[0]
    return large


def smooth_between_slices(masks: Masks, done: npt.NDArray[np.bool_] | None = None) -> Masks:
    """Smooth a mask across its slices: each contour becomes the average of its own and its neighbours'.

    Contours are averaged as distances from them, so that a structure that tapers keeps its taper, where an average of
    voxels would cut every end. Slices at an end of the structure, which have a neighbour without it, keep their own.

    Args:
        masks: 0 or 1, ``(S, H, W)``.
        done: Slices that were computed, bool ``(S,)``; the others do not count and stay as they are.

    Returns:
        uint8 of the same shape.
    """
    smooth = masks.astype(np.uint8)
    shown = masks.any(axis=(1, 2))
    if done is not None:
        shown &= done
    box = _box_of(masks)
    if box is None:
        return smooth
    inside = masks[:, box[0], box[1]].astype(bool)
    far = {int(index): _distances(inside[index]) for index in np.flatnonzero(shown)}
    for index in far:
        if index - 1 in far and index + 1 in far:
            total = sum((weight * far[index + step] for step, weight in _WEIGHTS), np.zeros(inside.shape[1:]))
            smooth[index, box[0], box[1]] = total > 0
    return smooth


def _box_of(masks: Masks) -> tuple[slice, slice] | None:
    """Return rows and columns around everything, with a margin of a pixel; None if the masks are empty."""
    flat = np.asarray(masks.any(axis=0))
    if not flat.any():
        return None
    ends = [np.flatnonzero(flat.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(max(0, int(one[0]) - 1), int(one[-1]) + 2) for one in ends)
    return rows, columns


def _distances(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the distance of each pixel from the contour in pixels: positive inside, negative outside."""
    from scipy.ndimage import distance_transform_edt

    inside: npt.NDArray[np.float64] = distance_transform_edt(mask)
    outside: npt.NDArray[np.float64] = distance_transform_edt(~mask)
    return inside - outside
