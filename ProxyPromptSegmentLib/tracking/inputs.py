"""Checks and conversion of the frames, masks and clicks that are given to a tracker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, points_to_square


def frame_shape(image: np.ndarray, what: str, before: tuple[int, int] | None = None) -> tuple[int, int]:
    """Check a frame and return its rows and columns.

    A single NaN would spread through the memory to all later frames.

    Args:
        image: The frame, ``(H, W)`` or ``(H, W, 3)``.
        what: Name of the frame for error messages.
        before: Rows and columns of the earlier frames; None for the first.

    Raises:
        InputError: If its shape is not that of an image or differs from earlier frames, or a value is not finite.
    """
    if image.ndim < 2 or image.shape[2:] not in ((), (3,)) or not image.size:
        raise InputError(f"{what} has shape {image.shape}; allowed are (H, W) and (H, W, 3)")
    rows, columns = image.shape[:2]
    if before is not None and (rows, columns) != before:
        raise InputError(
            f"{what} has {rows} x {columns} pixels, but earlier frames have {before[0]} x {before[1]}; all frames of a "
            "sequence must have the same size. Skip it, or begin a new sequence."
        )
    if not np.isfinite(image).all():
        raise InputError(f"{what} has NaN or infinite intensities; skip it or replace them with finite values")
    return rows, columns


def window_values(window: tuple[float, float]) -> tuple[float, float]:
    """Check an intensity window and return it as floats.

    Raises:
        UsageError: If it is empty or not finite.
    """
    if not (np.isfinite(window).all() and window[0] < window[1]):
        raise UsageError(f"the intensity window {tuple(window)} is empty; its low end must be below its high")
    return float(window[0]), float(window[1])


def masks_of_given_frame(image: np.ndarray, masks: np.ndarray, objects: int) -> np.ndarray:
    """Check the masks of an annotated frame and return them as uint8 ``(N, H, W)``.

    Args:
        image: The frame.
        masks: 0 or 1, ``(N, H, W)`` or ``(H, W)``.
        objects: Required number of masks; 0 if not known yet.

    Raises:
        InputError: If size or number do not fit.
    """
    stacked = masks if masks.ndim == 3 else masks[None]
    if stacked.shape[1:] != image.shape[:2] or not len(stacked):
        raise InputError(
            f"the given frame has shape {image.shape}, its masks {masks.shape}; both must have the same (H, W)"
        )
    if objects and len(stacked) != objects:
        raise InputError(f"{len(stacked)} masks are given for {objects} objects; give one for each")
    return (stacked > 0).astype(np.uint8)


def masks_of_correction(
    mask: np.ndarray, shape: tuple[int, int], track: int, objects: int
) -> tuple[list[int], np.ndarray]:
    """Return the objects that a given mask corrects, and their masks.

    Args:
        mask: 0 or 1; ``(N, H, W)`` for all objects, or ``(H, W)`` or ``(1, H, W)`` for one.
        shape: Rows and columns of the frame.
        track: Number of the object, for a single mask.
        objects: Number of all objects.

    Returns:
        Numbers of the objects, and their masks uint8 ``(n, H, W)``.

    Raises:
        InputError: If the mask has another size or number.
    """
    stacked = mask if mask.ndim == 3 else mask[None]
    tracks = [track] if len(stacked) == 1 else list(range(objects))
    if stacked.shape != (len(tracks), *shape):
        raise InputError(
            f"the mask has shape {mask.shape}, the frame {shape} pixels and {objects} objects; give (H, W) for one "
            "object or (N, H, W) for all"
        )
    return tracks, (stacked > 0).astype(np.uint8)


def points_of_correction(points: Sequence[tuple[float, float]], labels: Sequence[int], box: Letterbox) -> np.ndarray:
    """Convert clicks from the frame to the network's square.

    Args:
        points: ``(x, y)`` in pixels, column and row; whole numbers are the centres of pixels.
        labels: For each click 1 inside or 0 outside of the object.
        box: Position of the frame in the square.

    Returns:
        ``(x, y)`` in pixels of the square, float32 ``(P, 2)``.

    Raises:
        UsageError: If points or labels are invalid.
        InputError: If a click lies outside of the frame.
    """
    given = np.asarray(points, np.float32)
    if given.ndim != 2 or given.shape[1] != 2 or len(given) != len(labels) or not set(labels) <= {0, 1}:
        raise UsageError("give clicks as a list of (x, y) and a list of as many labels, 1 inside or 0 outside")
    height, width = box.shape
    if not ((given > -0.5) & (given < (width - 0.5, height - 0.5))).all():
        raise InputError(f"a click of {given.tolist()} lies outside of the frame's {width} columns and {height} rows")
    return points_to_square(given, box)


def numbered(count: int) -> tuple[str, ...]:
    """Return names for objects without names."""
    return tuple(f"object {n + 1}" for n in range(count))


def object_number(wanted: int | str, names: Sequence[str]) -> int:
    """Return the number of an object that is given by number or name.

    Raises:
        UsageError: If the object does not exist.
    """
    if isinstance(wanted, str) and wanted in names:
        return list(names).index(wanted)
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    raise UsageError(f"object {wanted!r} does not exist; the objects are {', '.join(names)}")
