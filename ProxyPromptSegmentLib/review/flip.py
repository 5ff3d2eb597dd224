"""Detection of mirrored masks: if a mask was flipped, its edge fits the image better after mirroring it back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume

MOST_SLICES = 12
SIDE = 256
"""Slices are downsampled to about this many pixels on the longer side before they are analysed."""

ENOUGH = 1.6
NEAR = 0.04
"""What lies right fits worse after a move by this part of the slice's longer side, in whatever direction."""

_SMALLEST_AREA = 20  # pixels; smaller objects have too little edge
_FLIPS = {"left-right": (1, -1), "up-down": (-1, 1), "left-right and up-down": (-1, -1)}
_DIRECTIONS = [(math.sin(turn * math.pi / 4), math.cos(turn * math.pi / 4)) for turn in range(8)]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Plane:
    """One object on one slice.

    Attributes:
        image: Intensities from 0 to 1, ``(H, W)``.
        slopes: See `_slopes`.
        mask: The object, ``(H, W)``.
    """

    image: Floats
    slopes: tuple[Floats, Floats, int]
    mask: Bools


def probable_flip(volume: Volume, segmentation: Segmentation, axis: str) -> str:
    """Return the flip, if any, that makes the masks fit their image clearly better.

    Three measures are computed for the masks as given and mirrored: the steepness of the image along the mask's edge,
    the part of that slope that points across the edge in one direction, and the difference between the intensities
    inside and just outside. A flip is reported if all three are clearly better for the mirrored masks: the sum of
    the logarithms of the three ratios, with the steepness counted three times, exceeds `ENOUGH`. That alone alarms
    where an object has a faint edge and its mirror image happens to lie on a strong one, as an optic cup on a vessel.
    Masks that lie right also fit better than the same masks moved a little in any direction (`NEAR`); so must they.

    Measured with ``Testing/benchmarks/support_flips.py`` on 370 supports of 22 public sets, patients for training and
    validation (MRI, CT, ultrasound, X-ray, mammography, fundus, skin, histology; objects together and each alone):
    0.8 % false alarms (3 supports: 2 of 10 of PROMISE12, some with a coil, 1 of 10 of a pancreas in CT), and 61 % of
    mirrored masks found. Without the last condition, and with `ENOUGH` at 1.3, these were 4.9 % and 75 %. What is
    symmetric, or has a faint edge, hides a flip: least is found in transperineal ultrasound (20 %), of pancreas (23 %)
    and prostate (30 %). `ENOUGH` and `NEAR` were chosen on other cases: 418 supports of 32 sets, four of them among
    the 22.

    Args:
        volume: The image.
        segmentation: Its masks on the same grid.
        axis: Slicing axis. Left, right, up and down refer to slices in radiological orientation.

    Returns:
        ``left-right``, ``up-down``, ``left-right and up-down``, or an empty string.
    """
    planes = list(_planes(volume, segmentation, axis))
    given = _scores(planes)
    if given is None:
        return ""
    mirrored = {name: _scores(planes, signs) for name, signs in _FLIPS.items()}
    gains = sorted(((_gain(scores, given), name) for name, scores in mirrored.items()), reverse=True)
    return next((name for gain, name in gains if gain > ENOUGH and _lies_right(planes, _FLIPS[name])), "")


def _gain(scores: Floats | None, given: Floats) -> float:
    """Return by how much (sum of logarithms) scores beat those given; minus infinity if not in all measures."""
    if scores is None or not (scores > given).all():
        return -math.inf
    return _fit(scores) - _fit(given)


def _fit(scores: Floats | None) -> float:
    """Return one number of steepness, agreement and contrast; minus infinity if nothing could be measured."""
    return -math.inf if scores is None else float(np.log(scores + 1e-3) @ (3, 1, 1))


def _lies_right(planes: list[_Plane], signs: tuple[int, int]) -> bool:
    """Return whether mirrored masks fit better than moved a little, in all of eight directions."""
    fit = _fit(_scores(planes, signs))
    return all(_fit(_scores(planes, signs, (NEAR * down, NEAR * right))) < fit for down, right in _DIRECTIONS)


def _planes(volume: Volume, segmentation: Segmentation, axis: str) -> Iterator[_Plane]:
    """Yield the objects on at most `MOST_SLICES` slices that are annotated."""
    view = slice_view(volume.geometry, axis)
    images, window = view.take(volume.array), intensity_window(volume.array)
    masks = np.stack([view.take(segment.mask) for segment in segmentation.segments], axis=1)
    marked = np.flatnonzero(masks.any(axis=(1, 2, 3)))
    if len(marked) > MOST_SLICES:
        marked = marked[np.linspace(0, len(marked) - 1, MOST_SLICES).astype(int)]
    for k in marked:
        unit = window_to_unit(images[k], window)
        image, objects = _reduced(unit.mean(axis=-1) if unit.ndim == 3 else unit, masks[k] > 0)
        slopes = _slopes(image)
        yield from (_Plane(image, slopes, mask) for mask in objects if mask.sum() >= _SMALLEST_AREA)


def _scores(planes: list[_Plane], signs: tuple[int, int] = (1, 1), step: tuple[float, float] = (0, 0)) -> Floats | None:
    """Return mean steepness, agreement and contrast of masks that are mirrored and moved.

    Args:
        planes: The masks.
        signs: -1 where rows or columns are mirrored.
        step: How far they are moved down and to the right, as parts of the slice's longer side.

    Returns:
        Three numbers; None if no mask is large enough.
    """
    sums = np.zeros(4)
    for plane in planes:
        side = max(plane.mask.shape)
        mask = _moved(plane.mask[:: signs[0], :: signs[1]], round(step[0] * side), round(step[1] * side))
        if mask.sum() >= _SMALLEST_AREA:
            sums += _measures(plane.image, plane.slopes, mask)
    return sums[1:] / max(sums[0], 1.0) if sums.any() else None


def _moved(mask: Bools, down: int, right: int) -> Bools:
    """Return a mask moved by pixels; what leaves the slice is lost."""
    rows, columns = mask.shape
    around = np.pad(mask, ((abs(down),) * 2, (abs(right),) * 2))
    return around[abs(down) - down :, abs(right) - right :][:rows, :columns]


def _reduced(image: Floats, masks: Bools) -> tuple[Floats, Bools]:
    """Downsample image and masks by averaging blocks, so that the longer side has about `SIDE` pixels."""
    rows, columns = image.shape
    n = max(1, round(max(rows, columns) / SIDE))
    if n == 1:
        return image, masks
    high, wide = rows // n, columns // n
    blocks = image[: high * n, : wide * n].reshape(high, n, wide, n).mean(axis=(1, 3))
    shares = masks[:, : high * n, : wide * n].reshape(len(masks), high, n, wide, n).mean(axis=(2, 4))
    return blocks, shares >= 0.5


def _slopes(image: Floats) -> tuple[Floats, Floats, int]:
    """Return the smoothed derivatives along rows and columns, and the matching width of the rim in pixels."""
    from scipy.ndimage import gaussian_filter

    sigma = max(image.shape) / 128
    down, right = (gaussian_filter(image, sigma, order=order) for order in ((1, 0), (0, 1)))
    return down, right, max(2, int(2 * sigma))


def _measures(image: Floats, slopes: tuple[Floats, Floats, int], mask: Bools) -> Floats:
    """Return the length of the edge, and steepness, agreement and contrast, each times the length."""
    from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

    down, right, rim = slopes
    edge = mask & ~binary_erosion(mask, border_value=1)
    length = float(edge.sum())
    across_down, across_right = np.gradient(gaussian_filter(mask.astype(np.float32), 1.0))
    norm = np.hypot(across_down, across_right) + 1e-9
    steepness = float(np.hypot(down, right)[edge].sum())
    agreement = abs(float(((down * across_down + right * across_right) / norm)[edge].sum()))
    outside = image[binary_dilation(mask, iterations=rim) & ~mask]
    inside = image[mask]
    if not outside.size or length < 3:
        return np.zeros(4)
    contrast = abs(float(inside.mean() - outside.mean())) / np.sqrt(float(inside.var() + outside.var()) + 1e-4)
    return np.array([length, steepness, agreement, contrast * length])
