"""A segmentation with two segments that overlap, on a turned grid."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import (
    Segment,
    Segmentation,
)
from segmentation_cases import TERMS

GRID = VolumeGeometry((6, 5, 4), (0.5, 0.75, 3.0), (-10.1, 20.2, 1 / 3), [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


def box(geometry: VolumeGeometry, *ranges: tuple[int, int]) -> np.ndarray:
    """A mask with ones inside of (k, j, i) ranges."""
    mask = np.zeros(geometry.shape_kji, np.uint8)
    mask[tuple(slice(a, b) for a, b in ranges)] = 1
    return mask


def two_overlapping() -> Segmentation:
    return Segmentation(
        [
            Segment("prostate", box(GRID, (0, 3), (1, 4), (1, 4)), (0.9, 0.6, 0.3), TERMS, {"status": "completed"}),
            Segment(
                "Läsion µ1",
                box(GRID, (1, 2), (2, 5), (2, 6)),
                (1.0, 0.0, 0.0),
                None,
                {"tags": {"a.b": "c d"}},
            ),
        ],
        GRID,
    )


def masks_of(segmentation: Segmentation) -> np.ndarray:
    return np.stack([segment.mask for segment in segmentation.segments])
