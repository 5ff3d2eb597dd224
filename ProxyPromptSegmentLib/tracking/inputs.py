"""Frames, masks and clicks that a tracker is given: checked, and brought to where the networks want them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.networks.letterbox import Letterbox


def frame_shape(image: np.ndarray, what: str, before: tuple[int, int] | None = None) -> tuple[int, int]:
    """Rows and columns of a frame that can be used.

    A single NaN would poison the memory, and with it all later frames.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)``.
        what: What a message calls it.
        before: Rows and columns of the frames before it.

    Raises:
        InputError: If it is no image, has another size than before, or NaN or infinite intensity.
    """
    if image.ndim < 2 or image.shape[2:] not in ((), (3,)) or not image.size:
        raise InputError(f"{what} has shape {image.shape}; allowed are (H, W) and (H, W, 3)")
    rows, columns = image.shape[:2]
    if before is not None and (rows, columns) != before:
        raise InputError(
            f"{what} has {rows} x {columns} pixels, the frames before it {before[0]} x {before[1]}; all frames of a "
            "sequence must have one size. Skip it, or begin a new sequence."
        )
    if not np.isfinite(image).all():
        raise InputError(f"{what} has NaN or infinite intensity; skip it or replace these by numbers")
    return rows, columns


def window_values(window: tuple[float, float]) -> tuple[float, float]:
    """An intensity window as plain numbers.

    Raises:
        UsageError: If it is empty.
    """
    if not (np.isfinite(window).all() and window[0] < window[1]):
        raise UsageError(f"the intensity window {tuple(window)} is empty; its low end must be below its high")
    return float(window[0]), float(window[1])


def masks_of_given_frame(image: np.ndarray, masks: np.ndarray, objects: int) -> np.ndarray:
    """The masks of an annotated frame as ``(N, H, W)``.

    Args:
        image: The frame.
        masks: 0 or 1, ``(N, H, W)`` or ``(H, W)``.
        objects: How many there must be; 0 where nobody knows yet.

    Raises:
        InputError: If size or number do not fit.
    """
    stacked = masks if masks.ndim == 3 else masks[None]
    if stacked.shape[1:] != image.shape[:2] or not len(stacked):
        raise InputError(f"the given frame has shape {image.shape}, its masks {masks.shape}; both must share (H, W)")
    if objects and len(stacked) != objects:
        raise InputError(f"{len(stacked)} masks are given for {objects} objects; give one for each")
    return (stacked > 0).astype(np.uint8)


def masks_of_correction(
    mask: np.ndarray, shape: tuple[int, int], track: int, objects: int
) -> tuple[list[int], np.ndarray]:
    """Finds the objects that a given mask corrects.

    Args:
        mask: 0 or 1; ``(N, H, W)`` for all objects, or ``(H, W)`` or ``(1, H, W)`` for one.
        shape: Rows and columns of the frame.
        track: The one object.
        objects: How many there are.

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
    """Brings clicks from the frame into the networks' square.

    Args:
        points: ``(x, y)`` in pixels, column and row; whole numbers are the centres of pixels.
        labels: 1 inside or 0 outside, for each.
        box: Where the frame lies in the square.

    Returns:
        float32 ``(P, 2)``, counted in the same way.

    Raises:
        UsageError: If these are no clicks.
        InputError: If a click lies outside of the frame.
    """
    given = np.asarray(points, np.float32)
    if given.ndim != 2 or given.shape[1] != 2 or len(given) != len(labels) or not set(labels) <= {0, 1}:
        raise UsageError("give clicks as a list of (x, y) and a list of as many labels, 1 inside or 0 outside")
    height, width = box.shape
    if not ((given > -0.5) & (given < (width - 0.5, height - 0.5))).all():
        raise InputError(f"a click of {given.tolist()} lies outside of the frame's {width} columns and {height} rows")
    rows, columns = box.valid
    return ((given + 0.5) * np.array((columns / width, rows / height)) - 0.5).astype(np.float32)


def numbered(count: int) -> tuple[str, ...]:
    """Names for objects that have none."""
    return tuple(f"object {n + 1}" for n in range(count))


def object_number(wanted: int | str, names: Sequence[str]) -> int:
    """The number of an object that is given by number or name.

    Raises:
        UsageError: If there is no such object.
    """
    if isinstance(wanted, str) and wanted in names:
        return list(names).index(wanted)
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    raise UsageError(f"there is no object {wanted!r}; the objects are {', '.join(names)}")
