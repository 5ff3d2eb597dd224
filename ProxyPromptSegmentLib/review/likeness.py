"""Likeness of two images as measured by an image encoder.

The image embedding of a few slices is averaged over the cells of a coarse grid. Two images are alike if every cell of
one has a nearby cell in the other. Distances are measured in units of each channel's standard deviation. Their scale
depends on the encoder, so they are compared with the distance between images that are certainly unlike: a synthetic
pelvis and some patterns.

How it was chosen and how well it works: ``Docs/results/suggest.md``.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices

Cells = npt.NDArray[np.float32]

VERSION = 1
"""Version of everything except the encoder that `cells` depends on; values of other versions are recomputed."""

SLICES = 4
CELLS = 8
RESEMBLES = 0.5
"""Likeness below which two images do not resemble each other."""

_UNLIKE = 0.545
_PYRAMID = ("sam-compact", 256)
_UNLIKE_PYRAMID = 0.91
"""The same for the compact SAM with a pretrained trunk, whose features of photographs, patterns and organs lie farther
apart: of 28 training cases the best of the same kind is at 1.01 or more, the best of another kind at 0.83 or less."""

_STEEPNESS = 6.0
_EPSILON = 1e-6


def spread(count: int, most: int = SLICES) -> list[int]:
    """Return at most ``most`` evenly spaced indices out of ``count``: the middles of equal parts."""
    return sorted({int((n + 0.5) * count / most) for n in range(most)})


def cells(encoded: EncodedSlices) -> Cells:
    """Average an embedding over a coarse grid.

    Returns:
        float32 ``(P, C)``: the cells of all slices that are at least half covered by the image.
    """
    from torch.nn import functional

    top, valid = encoded.features.top.float(), encoded.features.valid.float().unsqueeze(1)
    width = max(1, top.shape[-1] // CELLS)
    total, share = functional.avg_pool2d(top * valid, width), functional.avg_pool2d(valid, width)
    means = (total / share.clamp(min=_EPSILON)).permute(0, 2, 3, 1)
    found: Cells = means[share[:, 0] >= 0.5].cpu().numpy().astype(np.float32)
    return found


def distance(one: Cells, other: Cells) -> float:
    """Return the mean distance of each cell to the nearest of the other image, both ways, in channel SDs."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    unit = np.sqrt((a.std(axis=0) + _EPSILON) * (b.std(axis=0) + _EPSILON))
    a, b = a / unit, b / unit
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    apart = np.sqrt(squares.clip(min=0))
    return float(apart.min(axis=1).mean() + apart.min(axis=0).mean()) / 2


def distance_of_unlike(segmenter: Segmenter) -> float:
    """Return the encoder's scale: the geometric mean of all distances among a synthetic pelvis and four patterns.

    For an encoder with a threshold of its own it is divided so that `likeness_of` can use one for all.
    """
    volume, _ = pelvis_phantom(0, (SLICES * 2, 128, 128))
    looks = [cells(segmenter.encode(volume.array[1::2], intensity_window(volume.array)))]
    looks += [cells(segmenter.encode(pattern[None], (0.0, 1.0))) for pattern in _patterns()]
    apart = [math.log(distance(one, other)) for one, other in combinations(looks, 2)]
    backbone = segmenter.model.backbone
    shift = _UNLIKE_PYRAMID - _UNLIKE if (backbone.name, backbone.image_size) == _PYRAMID else 0.0
    return math.exp(sum(apart) / len(apart) - shift)


def _patterns(side: int = 256) -> list[npt.NDArray[np.float32]]:
    """Return noise, a disc, rings and a chessboard, 0..1."""
    from scipy.ndimage import gaussian_filter

    rows, columns = np.mgrid[:side, :side] / (side - 1)
    radius = np.hypot(rows - 0.5, columns - 0.5)
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), side / 85)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    board = ((8 * rows).astype(int) + (8 * columns).astype(int)) % 2
    found = (noise, radius < 0.35, 0.5 + 0.5 * np.sin(60 * radius), board)
    return [np.asarray(pattern, dtype=np.float32) for pattern in found]


def likeness_of(apart: float, unlike: float, penalty: float = 0.0) -> float:
    """Convert a distance into a likeness 0..1, given the encoder's scale; `RESEMBLES` is the measured threshold.

    Args:
        apart: Result of `distance`.
        unlike: Result of `distance_of_unlike`.
        penalty: Other evidence against the likeness; 1 changes the odds by a factor of 2.7.
    """
    gain = math.log(unlike / max(apart, _EPSILON)) - _UNLIKE
    return 1 / (1 + math.exp(min(50.0, penalty - _STEEPNESS * gain)))
