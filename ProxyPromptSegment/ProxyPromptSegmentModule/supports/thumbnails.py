"""Thumbnails of annotated slices, made with NumPy and VTK only, so that Pillow is not required."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import vtk

from ProxyPromptSegmentLib.imaging.drawing import bright, inner_border
from ProxyPromptSegmentLib.imaging.geometry import slice_view, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.support.pairs import slice_that_shows_most
from ProxyPromptSegmentModule.scene.images import picture_of, vtk_image_of
from ProxyPromptSegmentModule.scene.pieces import Pieces, at_once

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.case import SupportCase

U8 = npt.NDArray[np.uint8]
BACKGROUND = (24, 24, 26)
MARGIN = 0.35
"""Margin shown on each side of the objects, as a fraction of their extent."""

_SMALLEST_PART = 0.25
"""Smallest fraction of the slice's longer side that is shown, so that small objects keep some context."""


def blank(size: int = 96) -> U8:
    """Return a blank picture."""
    return np.full((size, size, 3), BACKGROUND, np.uint8)


def case_picture(case: SupportCase, axis: str = "k", size: int = 96) -> U8:
    """Draw the slice of a case that shows most objects, then the largest; among the chosen slices if there are any.

    Args:
        case: Image and annotation.
        axis: Axis across the slices.
        size: Side of the picture in pixels.

    Returns:
        uint8 ``(size, size, 3)``, in radiological orientation.

    Raises:
        InputError: If the image has only one intensity.
    """
    return at_once(case_picture_in_pieces(case, axis, size))


def case_picture_in_pieces(case: SupportCase, axis: str = "k", size: int = 96) -> Pieces[U8]:
    """Return what `case_picture` returns, in pieces.

    Raises:
        InputError: As `case_picture`.
    """
    view = slice_view(case.volume.geometry, axis)
    segments = case.segmentation.segments
    among = case.slices if isinstance(case.slices, (list, tuple)) else None
    counts = []
    for segment in segments:
        counts.append(_areas(take_slices(segment.mask, view.axis), among))
        yield
    number = slice_that_shows_most(np.stack(counts, axis=1), among) if counts else None
    images = view.take(case.volume.array)
    if number is None:
        number = len(images) // 2
    stacks = [view.take(segment.mask) for segment in segments]
    masks = np.stack([stack[number] for stack in stacks]) if stacks else np.zeros((0, *images.shape[1:3]), np.uint8)
    window = intensity_window(case.volume.array)
    yield
    return thumbnail_of(images[number], masks, [one.color_rgb for one in segments], window, view.spacing_mm, size)


def _areas(stack: U8, among: Sequence[int] | None) -> npt.NDArray[np.int64]:
    """Return the pixels of an object on each slice, ``(S,)``; 0 on those that are not asked for."""
    found = np.zeros(len(stack), np.int64)
    for number in range(len(stack)) if among is None else among:
        if 0 <= number < len(stack):
            found[number] = np.count_nonzero(stack[number].view(bool))
    return found


def picture_of_file(path: Path | None, size: int = 96) -> U8 | None:
    """Read a picture file and fit it into a square; None if there is no file or Pillow is not installed."""
    try:
        from PIL import Image

        if path is None:
            return None
        with Image.open(path) as opened:
            array = np.asarray(opened.convert("RGB"), dtype=np.float32)
    except (ImportError, OSError, ValueError):
        return None
    return _fitted(array, array.shape[0], array.shape[1], size)[0]


def best_slice(stacks: Sequence[U8], among: Sequence[int] | None = None) -> int | None:
    """Return the slice that shows most, see `slice_that_shows_most`; None if nothing is annotated.

    Args:
        stacks: Masks of each object, ``(S, H, W)``.
        among: Slices to choose from; all by default.
    """
    if not stacks:
        return None
    return slice_that_shows_most(np.stack([_areas(stack, among) for stack in stacks], axis=1), among)


def thumbnail_of(
    image: npt.NDArray[np.float32],
    masks: U8,
    colors: Sequence[tuple[float, float, float]],
    window: tuple[float, float],
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    size: int = 96,
    around: U8 | None = None,
) -> U8:
    """Draw a slice, cropped around its objects, with their contours.

    Args:
        image: Intensities, ``(H, W)`` or ``(H, W, 3)``.
        masks: Objects, ``(N, H, W)``, 0 or 1; if all are empty, the whole slice is shown.
        colors: Red, green, blue in 0..1 of each.
        window: Intensities ``(low, high)`` shown as black and white.
        spacing_mm: Pixel size ``(row, column)``; the picture has the true aspect ratio.
        size: Side of the picture in pixels.
        around: What the slice is cropped around, ``(H, W)``; by default all objects.

    Returns:
        uint8 ``(size, size, 3)``; `BACKGROUND` outside the slice.
    """
    shown_by = np.any(masks, axis=0) if len(masks) else np.zeros(image.shape[:2], bool)
    rows, columns = _frame(shown_by if around is None else around > 0, spacing_mm)
    height, width = (rows.stop - rows.start) * spacing_mm[0], (columns.stop - columns.start) * spacing_mm[1]
    grey = window_to_unit(image[rows, columns], window) * 255
    picture, shown = _fitted(grey, height, width, size)
    for mask, color in zip(masks, colors, strict=True):
        shown[_border(mask[rows, columns], shown.shape[0], shown.shape[1])] = bright(color)
    return picture


def _fitted(values: npt.NDArray[np.float32], height: float, width: float, size: int) -> tuple[U8, U8]:
    """Fit values 0..255 of size ``height`` x ``width`` into a square; return it and a view of the filled part."""
    picture = blank(size)
    inner = [max(1, round(size * side / max(height, width))) for side in (height, width)]
    top, left = ((size - side) // 2 for side in inner)
    shown = picture[top : top + inner[0], left : left + inner[1]]
    shown[:] = np.round(resized(values, inner[0], inner[1])).astype(np.uint8).reshape(*inner, -1)
    return picture, shown


def resized(values: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Resize a picture ``(H, W)`` or ``(H, W, 3)``: interpolated when enlarged, averaged when reduced."""
    weights = vtk.vtkImageSincInterpolator()
    weights.SetAntialiasing(1)
    weights.SetWindowHalfWidth(1)  # the kernel is never negative, so edges get no bright or dark seam
    resize = vtk.vtkImageResize()
    resize.SetInterpolator(weights)
    resize.SetBorder(1)  # pixels are areas, not points
    resize.SetOutputDimensions(columns, rows, 1)
    resize.SetInputData(vtk_image_of(values.astype(np.float32)))
    resize.Update()
    return picture_of(resize.GetOutput()).astype(np.float32, copy=False)


def _frame(inside: npt.NDArray[np.bool_], spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Return rows and columns around the mask, as square in mm as possible; all if the mask is empty."""
    if not inside.any():
        return slice(0, inside.shape[0]), slice(0, inside.shape[1])
    found = [np.flatnonzero(inside.any(axis=1 - axis)) for axis in (0, 1)]
    extents = [(at[-1] + 1 - at[0]) * mm for at, mm in zip(found, spacing_mm, strict=True)]
    whole = [n * mm for n, mm in zip(inside.shape, spacing_mm, strict=True)]
    side = max(max(extents) * (1 + 2 * MARGIN), max(whole) * _SMALLEST_PART)
    cut = []
    for at, mm, count in zip(found, spacing_mm, inside.shape, strict=True):
        length = min(count, max(1, round(side / mm)))
        middle = (at[0] + at[-1] + 1) / 2
        first = min(max(0, round(middle - length / 2)), count - length)
        cut.append(slice(first, first + length))
    return cut[0], cut[1]


def _border(mask: U8, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return the inner border of a mask at the picture's size, one pixel wide, also at the picture's edge."""
    amount = resized(mask.astype(np.float32), rows, columns)
    inside = amount > 0.5
    if not inside.any():
        inside = amount > 0.5 * max(float(amount.max()), 1e-6)  # smaller than a pixel of the picture
    return inner_border(inside)
