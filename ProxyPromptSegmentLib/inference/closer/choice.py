"""The decision which objects are looked at closer, from the support's masks alone, and the crop around them.

A structure that fills a small part of the slice is drawn with few of the network's positions. Around where the whole
slice showed it, the same network reads it again, with supports that are cut in the same way, so that both show it at
the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.networks.letterbox import Letterbox
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.support.pieces import MarkedSlice, in_one_piece

USE_CLOSER = True
"""Whether small structures are looked at closer unless the user decides otherwise; see Docs/results/closer.md."""

FIELD = 2.5
"""Side of the crop, as a multiple of the larger extent of what it is to show."""

WEIGHT = 0.6
"""Weight of the closer look in the mean of both probabilities."""

AGREEMENT = 0.3
"""Dice between both masks of an object in the crop below which the closer look is ignored: it shows something else."""

SMALL = 52
"""Largest extent of a structure that is looked at closer, in positions of the decoder's grid: `sam-compact` has 128."""

_LEAST_SIDE = 16  # pixels of a crop
_ALMOST_ALL = 0.9  # of a slice, from which a crop shows nothing larger
_CORE = (1, 99)  # percentiles between which a mask's extent is measured, so that single pixels do not matter

Crop: TypeAlias = tuple[slice, slice]


def objects_to_enlarge(
    marked: Sequence[MarkedSlice], numbers: Sequence[int], side: int, keep_aspect: bool = True
) -> tuple[int, ...]:
    """Return the numbers of the objects that are looked at closer, together; empty for none.

    Args:
        marked: The support's slices.
        numbers: Numbers of the objects that are segmented in whole slices.
        side: Side of the square of logits that the decoder predicts, see `logit_side`.
        keep_aspect: See `Letterbox`.

    Returns:
        Those in one piece on every slice, if all of these together are small: of scattered objects the first look finds
        some parts, and the crop would lose the others.
    """
    wanted = tuple(n for n in numbers if in_one_piece([masks[n] for masks, _ in marked]))
    sizes = []
    for masks, spacing_mm in marked:
        shown = np.any(masks[list(wanted)], axis=0)
        found = _extent(shown)
        if found is not None:
            rows, columns = Letterbox(side, (shown.shape[0], shown.shape[1]), spacing_mm, keep_aspect).valid
            sizes.append(max(found[2] * rows / shown.shape[0], found[3] * columns / shown.shape[1]))
    return wanted if sizes and float(np.median(sizes)) <= SMALL else ()


def crop_around(shown: npt.NDArray[np.bool_], spacing_mm: tuple[float, float]) -> Crop | None:
    """Return the square around a mask that a closer look shows.

    Args:
        shown: ``(H, W)``.
        spacing_mm: Pixel size (row, column).

    Returns:
        Rows and columns, cut at the edges of the slice; None if the mask is empty or fills nearly all of the slice.
    """
    found = _extent(shown)
    if found is None:
        return None
    side = FIELD * max(found[2] * spacing_mm[0], found[3] * spacing_mm[1])
    crop = (
        _range(found[0], side / spacing_mm[0], shown.shape[0]),
        _range(found[1], side / spacing_mm[1], shown.shape[1]),
    )
    lengths = [part.stop - part.start for part in crop]
    full = all(length >= _ALMOST_ALL * whole for length, whole in zip(lengths, shown.shape, strict=True))
    return None if full else crop


def enlarged(support: SupportSet, numbers: Sequence[int]) -> SupportSet:
    """Return the support of a closer look: each pair that shows one of these objects, cut around them."""
    chosen = list(numbers)
    pairs = []
    for pair in support.pairs:
        masks = pair.masks[chosen]
        if not masks.any():
            continue
        crop = crop_around(np.any(masks, axis=0), pair.spacing_mm)
        image = pair.image
        if crop is not None:
            image, masks = np.ascontiguousarray(image[crop]), masks[(slice(None), *crop)]
        pairs.append(replace(pair, image=image, masks=np.ascontiguousarray(masks)))
    return SupportSet(tuple(pairs), tuple(support.objects[number] for number in chosen))


def _extent(shown: npt.NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """Return the middle row and column of a mask and its extent in rows and columns; None if it is empty."""
    rows, columns = np.nonzero(shown)
    if not len(rows):
        return None
    (top, bottom), (left, right) = np.percentile(rows, _CORE), np.percentile(columns, _CORE)
    return (top + bottom) / 2, (left + right) / 2, bottom - top + 1, right - left + 1


def _range(middle: float, length: float, whole: int) -> slice:
    """Return a range of about this length around the middle that lies within ``whole``."""
    count = min(whole, max(_LEAST_SIDE, round(length)))
    start = int(np.clip(round(middle - (count - 1) / 2), 0, whole - count))
    return slice(start, start + count)
