"""Label maps and pictures as segments: one for each value, palette index or colour.

Which object a segment is, never depends on what else the file holds: values and palette indices are names of their
own, and
so are colours.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.readers.stored import Stored

MOST_LABELS = 255
_SOFT_VALUES = 16  # more values than that may be soft edges
_MOST_INSIDE = 0.1  # of the pixels of soft edges that are surrounded by their own value
_HALF, _FAR = 127, 64  # of 8 bits: what is bright in a JPEG, and how much one colour may vary
_MOST_SEAM = 0.02  # of what a JPEG shows
_THICK = 3  # pixels from each side of a spot of another colour or shade, which no seam has
_log = logging.getLogger(__name__)

Color = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Label:
    """One object of a label map.

    Attributes:
        name: ``label 3``, or the colour as ``#ff0000``.
        mask: 1 inside, uint8 ``(K, J, I)``.
        color: Red, green, blue in 0..1; None if the file has none.
        value: Its value; None if it has none of its own.
    """

    name: str
    mask: npt.NDArray[np.uint8]
    color: Color | None = None
    value: int | None = None


def labels_of(stored: Stored, name: str, suffix: str, picture: bool) -> list[Label]:
    """Return the objects of a file; one that looks like the background is reported.

    Args:
        stored: Its content.
        name: Its name.
        suffix: Its suffix.
        picture: Whether it is a picture.

    Raises:
        InputError: If it is empty, or an image rather than a mask.
    """
    found = _found(stored, name, suffix, picture)
    for label in found:
        if _surrounds(label.mask):
            _log.warning(
                "%s: '%s' is on every border of the image and covers most of it; if it is the background, give it the "
                "value 0, or black",
                name,
                label.name,
            )
    return found


def _surrounds(mask: npt.NDArray[np.uint8]) -> bool:
    """Return whether a mask ``(K, J, I)`` covers the border of every slice, and more than half of them, but not all."""
    edges = (mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    inside = int(np.count_nonzero(mask))
    return mask.size < 2 * inside < 2 * mask.size and all(bool(edge.all()) for edge in edges)


def _found(stored: Stored, name: str, suffix: str, picture: bool) -> list[Label]:
    """Return the objects of a file, see `labels_of`."""
    array, visible = _opaque(stored, name, picture)
    if visible is not None:
        return [Label(name="label 1", mask=visible, value=1)]
    if suffix in (".jpg", ".jpeg"):  # lossy: edges contain all grey values
        return [Label(name="label 1", mask=_bright(array, name), value=1)]
    palette = stored.palette
    if palette is not None and palette[:1].any():  # the first colour is no background: colours count
        array, palette = palette[np.minimum(array, len(palette) - 1)], None
    if array.ndim == 4:
        if not all(np.array_equal(array[..., 0], array[..., n]) for n in (1, 2)):
            return _by_colour(array, name)
        array = array[..., 0]
    if picture and palette is None and (soft := _soft(array)) is not None:
        _log.warning("%s has soft edges; what is brighter than half of its brightest value counts as inside.", name)
        return [Label(name=f"label {int(array.max())}", mask=soft, value=int(array.max()))]
    return _by_value(array, name, palette)


def _opaque(stored: Stored, name: str, picture: bool) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
    """Return the values with what is transparent set to 0; the visible part as a mask if nothing else differs."""
    array = stored.array
    if array.ndim == 3:
        return array, None
    channels = array.shape[3]
    if channels not in (3, 4) and not (picture and channels == 2) or (channels == 4 and not picture):
        raise InputError(
            f"{name} has {channels} values per voxel; a label map has one whole number, or a colour, per object."
        )
    if channels == 3:
        return array, None
    alpha, rest = array[..., -1], array[..., :-1]
    rest = rest[..., 0] if channels == 2 else rest
    top = np.iinfo(array.dtype).max
    visible = alpha > top // 2
    if visible.all():
        return rest, None
    if not np.ptp(rest[visible], axis=0).any() and visible.any():
        return rest, visible.astype(np.uint8)
    return np.where(visible if rest.ndim == 3 else visible[..., None], rest, 0).astype(array.dtype), None


def _bright(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Return the bright half of a JPEG ``(K, J, I)`` or ``(K, J, I, 3)`` that shows one object.

    Raises:
        InputError: If areas of it, not only edges, lie between dark and bright, or differ in colour, or if nothing is
            bright. However small they are beside the rest, spots of another colour or grey are such areas. Masks of 67
            public sets are accepted at all usual qualities; three of four of their images, and nearly all with several
            labels, are refused.
    """
    pixels = (array if array.ndim == 4 else array[..., None]).astype(np.int16)
    grey = pixels.max(axis=-1)
    top = int(grey.max())
    shown, between = grey > top // 4, (grey > top // 4) & (grey < top // 4 * 3)
    least = _MOST_SEAM * int(np.count_nonzero(shown))
    shades = int(np.count_nonzero(between)) > least and _inside_share(grey // 16, between) > _MOST_INSIDE
    bright = grey > _HALF
    usual = np.median(pixels[bright], axis=0) if bright.any() else 0
    others = bright & (np.abs(pixels - usual).max(axis=-1) > _FAR)
    grey_alone = not bright.any() or int(np.ptp(pixels[bright], axis=-1).max()) <= _FAR // 2
    spots = _is_thick(others) or (grey_alone and _is_thick(between))  # chroma blurs over more pixels than grey
    if shades or spots or _area(others, others) > least or 0 < top <= _HALF:
        raise InputError(
            f"{name} has several colours or shades, or nothing bright; a mask in a JPEG is one bright object on black, "
            "because JPEG blurs all else. Is this the image instead of the mask? If not, export the mask as PNG."
        )
    return bright.astype(np.uint8)


def _soft(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """Return the brighter half of a mask whose edges are soft; None if it has none.

    It shows one object at full brightness, and the values between lie in thin seams. Of many labels, each has pixels
    with
    nothing but itself around them.
    """
    if array.dtype.kind != "u":
        return None
    values, counts = np.unique(array, return_counts=True)
    if len(values) <= _SOFT_VALUES or values[0] != 0 or counts[-1] < counts[1:].sum() / 2:
        return None
    between = (array > 0) & (array < values[-1])
    return (array > int(values[-1]) / 2).astype(np.uint8) if _inside_share(array, between) < _MOST_INSIDE else None


def _inside_share(values: npt.NDArray[Any], among: npt.NDArray[np.bool_]) -> float:
    """Return the share of some pixels ``(K, J, I)`` that have their own value on all four sides."""
    return _area(values, among) / max(1, int(np.count_nonzero(among)))


def _is_thick(among: npt.NDArray[np.bool_]) -> bool:
    """Return whether some pixels ``(K, J, I)`` are left when those at their border are taken off a few times."""
    for _ in range(_THICK):
        among = _inside(among, among)
    return bool(among.any())


def _area(values: npt.NDArray[Any], among: npt.NDArray[np.bool_]) -> int:
    """Return how many of some pixels ``(K, J, I)`` have their own value on all four sides."""
    return int(np.count_nonzero(_inside(values, among)))


def _inside(values: npt.NDArray[Any], among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return those of some pixels ``(K, J, I)`` that have their own value on all four sides."""
    inside = among.copy()
    for axis in (1, 2):
        for step in (1, -1):
            inside &= np.roll(values, step, axis) == values
    return inside


def _by_value(array: npt.NDArray[Any], name: str, palette: npt.NDArray[np.uint8] | None) -> list[Label]:
    """Return one object for each value but 0."""
    if not np.issubdtype(array.dtype, np.integer):
        if not np.all(np.isfinite(array)) or np.any(array != np.round(array)):
            raise InputError(
                f"{name} has fractional or NaN voxel values; a label map has one integer per object. Threshold it "
                "first, or give the segmentation instead of the image."
            )
        array = array.astype(np.int64)
    values = [int(v) for v in np.unique(array)]
    if values[0] < 0 or len(values) > MOST_LABELS + 1:
        raise InputError(
            f"{name} has {len(values)} different values from {values[0]} to {values[-1]}; a label map has 0 outside "
            f"and at most {MOST_LABELS} objects. Is this the image instead of the segmentation?"
        )
    values = [v for v in values if v]
    if not values:
        raise InputError(f"{name} is empty: every voxel is 0. Give a mask with at least one object in it.")
    return [
        Label(
            name=f"label {value}",
            mask=(array == value).astype(np.uint8),
            color=None if palette is None or value >= len(palette) else _unit(palette[value]),
            value=value,
        )
        for value in values
    ]


def _unit(color: npt.NDArray[Any]) -> Color:
    """Return a colour of 8 bits in 0..1."""
    red, green, blue = (int(c) / 255 for c in color)
    return red, green, blue


def _by_colour(array: npt.NDArray[Any], name: str) -> list[Label]:
    """Return one object for each colour but black, named by it."""
    eight = (array >> 8 if array.dtype == np.uint16 else array).astype(np.int64)
    codes = (eight[..., 0] << 16) | (eight[..., 1] << 8) | eight[..., 2]
    unique, counts = np.unique(codes, return_counts=True)
    counts, unique = counts[unique > 0], unique[unique > 0]
    rare = np.isin(codes, unique[counts < 1e-3 * codes.size])
    soft = len(unique) > _SOFT_VALUES and rare.any() and _inside_share(codes, rare) < _MOST_INSIDE
    if len(unique) > MOST_LABELS or soft:
        raise InputError(
            f"{name} has {len(unique)} colours; a mask has one colour per object, on black, with hard edges. Is this "
            "the image instead of the mask, or was it compressed with losses?"
        )
    return [
        Label(
            name=f"#{code:06x}",
            mask=(codes == code).astype(np.uint8),
            color=(((code >> 16) & 255) / 255, ((code >> 8) & 255) / 255, (code & 255) / 255),
        )
        for code in (int(c) for c in unique)
    ]
