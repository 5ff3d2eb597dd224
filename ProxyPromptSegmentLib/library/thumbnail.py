"""Thumbnails of library cases: the slice that shows most, with the objects' contours in their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentLib.imaging.intensity import window_to_unit
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume

SIDE = 160
"""Longer side of a thumbnail in pixels."""


def draw_thumbnail(
    path: Path, volume: Volume, segmentation: Segmentation, axis: str, window: tuple[float, float]
) -> None:
    """Draw the slice that shows the most objects (of these, the largest area) as a PNG.

    Args:
        path: Output file, ending in ``.png``.
        volume: The image.
        segmentation: The annotation.
        axis: Slicing axis; the slice is drawn in radiological orientation.
        window: Intensities shown as black and white.

    Raises:
        OSError: If it cannot be written.
    """
    from PIL import Image

    view = slice_view(volume.geometry, axis)
    masks = np.stack([view.take(segment.mask) for segment in segmentation.segments], axis=1)
    areas = masks.sum(axis=(2, 3), dtype=np.int64)
    best = max(range(len(areas)), key=lambda n: (int((areas[n] > 0).sum()), int(areas[n].sum())))
    unit = window_to_unit(view.take(volume.array)[best], window)
    grey = np.rint(unit * 255).astype(np.uint8)
    height, width = (n * mm for n, mm in zip(grey.shape[:2], view.spacing_mm, strict=True))
    factor = SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = np.array(Image.fromarray(grey).convert("RGB").resize(size, Image.Resampling.BILINEAR))
    for mask, segment in zip(masks[best], segmentation.segments, strict=True):
        inside = np.asarray(Image.fromarray(mask * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)) >= 128
        picture[_border(inside)] = [round(255 * float(np.clip(c, 0, 1))) for c in segment.color_rgb]
    Image.fromarray(picture).save(path, format="PNG")


def _border(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the inner border of a mask, including where it touches the picture's edge."""
    padded = np.pad(inside, 1)
    return inside & ~(padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2])
