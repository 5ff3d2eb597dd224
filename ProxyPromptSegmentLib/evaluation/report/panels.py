"""Pictures of a report: a slice with the contours of the truth and of a mask, and maps over it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.drawing import bright, heat
from ProxyPromptSegmentLib.imaging.segmentations import default_color
from ProxyPromptSegmentLib.reports.preview import contour, enlarge, picture_of, tile_size
from ProxyPromptSegmentLib.support.pairs import slice_that_shows_most

SIDE = 220
"""Longer side in pixels."""
TRUTH = (255, 255, 255)
_QUALITY = 85
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """A picture with its caption.

    Attributes:
        jpeg: The picture as a JPEG file.
        caption: Plain text below it.
    """

    jpeg: bytes
    caption: str


def slice_with_masks(
    image: npt.NDArray[np.float32],
    truth: U8,
    masks: U8,
    window: tuple[float, float],
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    colors: Sequence[tuple[float, float, float]] = (),
) -> bytes:
    """Return a slice as JPEG, the truth in white and the masks in their colours above it.

    Args:
        image: Intensities, ``(H, W)`` or ``(H, W, 3)``.
        truth: 0 or 1, ``(N, H, W)``.
        masks: 0 or 1, ``(N, H, W)``.
        window: Intensities that are shown from black to white.
        spacing_mm: Pixel size (row, column).
        colors: Red, green, blue in 0..1 of each object; Slicer's default colours if none are given.
    """
    size = tile_size((image.shape[0], image.shape[1]), spacing_mm, SIDE)
    picture = picture_of(image, window, size)
    for mask in truth:
        picture[contour(mask, size, 1)] = TRUTH
    shown = [bright(color) for color in colors or [default_color(n) for n in range(len(masks))]]
    for mask, color in zip(masks, shown, strict=True):
        picture[contour(mask, size, 1)] = color
    return as_jpeg(picture)


def slice_with_map(
    image: npt.NDArray[np.float32],
    values: npt.NDArray[np.floating],
    window: tuple[float, float],
    spacing_mm: tuple[float, float] = (1.0, 1.0),
) -> bytes:
    """Return a slice as JPEG with a map in colours above it, such as a selective map.

    Args:
        image: Intensities, ``(H, W)`` or ``(H, W, 3)``.
        values: The map, of any size; its largest value is the brightest.
        window: Intensities that are shown from black to white.
        spacing_mm: Pixel size (row, column).
    """
    size = tile_size((image.shape[0], image.shape[1]), spacing_mm, SIDE)
    low, high = float(np.min(values)), float(np.max(values))
    scaled = enlarge((np.asarray(values, np.float32) - low) / ((high - low) or 1.0), size)
    over = np.clip(scaled, 0, 1)[..., None]
    grey = picture_of(image, window, size).astype(np.float32)
    return as_jpeg(np.round(grey * (1 - 0.7 * over) + heat(scaled) * 0.7 * over).astype(np.uint8))


def part_around(truth: U8, masks: U8) -> tuple[slice, slice]:
    """Return the rows and columns of a slice that show all objects with as much again on each side; all if it is empty.

    Args:
        truth: 0 or 1, ``(N, H, W)``.
        masks: Of the same shape.
    """
    shown = np.any(truth, axis=0) | np.any(masks, axis=0)
    if not shown.any():
        return slice(None), slice(None)
    ends = [np.flatnonzero(shown.any(axis=1 - axis))[[0, -1]] for axis in (0, 1)]
    reach = max(int(last - first) + 1 for first, last in ends) * 3 // 2  # half of the part's side
    middles = [int(first + last + 1) // 2 for first, last in ends]
    rows, columns = (slice(max(0, middle - reach), middle + reach) for middle in middles)
    return rows, columns


def telling_slice(truth: U8, masks: U8) -> int:
    """Return the slice that shows most of the truth, or of the mask where there is no truth; 0 where both are empty.

    Args:
        truth: 0 or 1, ``(S, N, H, W)``.
        masks: Of the same shape.
    """
    for found in (truth, masks):
        most = slice_that_shows_most(found.sum(axis=(2, 3), dtype=np.int64))
        if most is not None:
            return most
    return 0


def as_jpeg(picture: U8) -> bytes:
    """Return a picture ``(H, W, 3)`` as a JPEG file."""
    from PIL import Image

    stored = io.BytesIO()
    Image.fromarray(picture).save(stored, format="JPEG", quality=_QUALITY, subsampling=0)
    return stored.getvalue()
