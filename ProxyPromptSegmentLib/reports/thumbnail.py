"""A small picture of a result for lists of many: the slice that shows most, and beside it the least sure one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.imaging.drawing import bright
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.reports.doubts import slices_to_look_at
from ProxyPromptSegmentLib.reports.preview import contour, picture_of, tile_size
from ProxyPromptSegmentLib.support.pairs import slice_that_shows_most

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult

THUMBNAIL_SUFFIXES = (".jpg",)
SIDE = 160
"""Longer side of a slice in pixels."""
_GAP, _QUALITY = 4, 90


def slices_shown(job: Job, found: VolumeResult) -> list[int]:
    """Return the slice that shows most and the least sure one; of an empty result the one that most likely shows it."""
    areas = found.masks.sum(axis=(2, 3), dtype=np.int64)
    most = slice_that_shows_most(areas)
    doubts = slices_to_look_at(found, most=1, job=job, threshold=1.0)  # any confidence: the least of all
    numbers = [most, doubts[0].index if doubts else None]
    return list(dict.fromkeys(number for number in numbers if number is not None))


def write_thumbnail(path: Path, job: Job, found: VolumeResult, replace: bool = True) -> None:
    """Write the slices side by side with the objects' contours as a JPEG, completely or not at all.

    Args:
        path: The file.
        job: The job.
        found: Its result.
        replace: Whether a file of this name may be replaced.

    Raises:
        OutputError: If it cannot be written.
    """
    from PIL import Image

    images = job.view.take(job.target.array)
    size = tile_size((images.shape[1], images.shape[2]), job.view.spacing_mm, SIDE)
    colors = [bright(color) for color in job.support.colors]
    row = np.zeros((size[0], 0, 3), np.uint8)
    for number in slices_shown(job, found):
        picture = picture_of(images[number], job.window, size)
        for mask, color in zip(found.masks[number], colors, strict=True):
            picture[contour(mask, size, 1)] = color
        gap = np.zeros((size[0], _GAP if row.shape[1] else 0, 3), np.uint8)
        row = np.concatenate([row, gap, picture], axis=1)
    with safe_output(path, replace) as partial:
        Image.fromarray(row).save(partial, format="JPEG", quality=_QUALITY, subsampling=0)
