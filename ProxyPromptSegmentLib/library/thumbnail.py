"""Thumbnails of library cases: the slice that shows most, with the objects' contours in their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.imaging.drawing import inner_border
from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentLib.imaging.intensity import window_to_unit
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.pairs import slice_that_shows_most

SIDE = 160
"""Longer side of a thumbnail in pixels."""


def draw_thumbnail(
    path: Path, volume: Volume, segmentation: Segmentation, axis: str, window: tuple[float, float]
) -> None:
    """Draw the slice that shows most as a PNG, see `slice_that_shows_most`.

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
    best = slice_that_shows_most(areas) or 0
    unit = window_to_unit(view.take(volume.array)[best], window)
    grey = np.rint(unit * 255).astype(np.uint8)
    height, width = (n * mm for n, mm in zip(grey.shape[:2], view.spacing_mm, strict=True))
    factor = SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = np.array(Image.fromarray(grey).convert("RGB").resize(size, Image.Resampling.BILINEAR))
    for mask, segment in zip(masks[best], segmentation.segments, strict=True):
        inside = np.asarray(Image.fromarray(mask * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)) >= 128
        picture[inner_border(inside)] = [round(255 * float(np.clip(c, 0, 1))) for c in segment.color_rgb]
    Image.fromarray(picture).save(path, format="PNG")
