"""Connected components of masks, by SimpleITK, which reading images has loaded already."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def component_labels(mask: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.uint32], tuple[slice, ...]]:
    """Label the connected components of a mask inside its bounding box.

    Args:
        mask: Not 0 inside, two or three axes; components are connected by faces.

    Returns:
        Labels from 1 on, 0 outside, of the bounding box alone, and where the box lies. The box has no extent if the
        mask is empty. Labelling the box instead of the volume is several times faster and holds Python's global lock
        for less time, for which Slicer's window has to wait.
    """
    import SimpleITK as sitk

    box = _bounding_box(mask)
    inside = np.ascontiguousarray(mask[box] != 0, dtype=np.uint8)
    if inside.size == 0:
        return np.zeros(inside.shape, np.uint32), box
    labels = sitk.ConnectedComponent(sitk.GetImageFromArray(inside), False)
    return sitk.GetArrayFromImage(labels), box


def component_sizes(labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Count the pixels or voxels of each component, ``(components,)``, in the order of their labels."""
    count = int(labels.max(initial=0))
    sizes = np.zeros(count + 1, np.int64)
    for part in labels:  # slice by slice: NumPy counts with Python's lock held, and a window waits for that
        sizes += np.bincount(part.ravel(), minlength=count + 1)
    return sizes[1:]


def _bounding_box(mask: npt.NDArray[np.generic]) -> tuple[slice, ...]:
    """Return the smallest box around a mask; without extent if it is empty."""
    box = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(n for n in range(mask.ndim) if n != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(box)
