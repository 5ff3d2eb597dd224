"""Empty slices between two slices that show the same object: found, and filled where the mask itself supports it.

A slice is often empty because the network's presence is too low there, although its mask is right. Where slices on
both sides show the object, that mask counts without the presence, if it resembles what lies between them.

Both limits were chosen on the validation patients of PROMISE12 and ACDC, by emptying runs of 1 to 6 slices inside the
organ: above `LIKE_BETWEEN`, a slice's own mask is better than the shape between its neighbours for every length; below
it, it is wrong more often than right on PROMISE12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind
from ProxyPromptSegmentLib.wording import ranges

Masks = npt.NDArray[np.uint8]

LONGEST_FILLED = 6
"""Largest number of neighbouring empty slices that are filled; more of them separate two parts of an object."""

LIKE_BETWEEN = 0.5
"""Dice with the shape between both neighbours that a slice's own mask must reach to be filled in."""


def gaps(shown: npt.NDArray[np.bool_], done: npt.NDArray[np.bool_]) -> list[tuple[int, int, list[int]]]:
    """Return the empty slices between two slices that show an object, in order.

    Args:
        shown: Which slices show it, bool ``(S,)``.
        done: Which slices are finished, bool ``(S,)``; the others are neither empty nor shown.

    Returns:
        For each gap the slices before and after it, and the finished slices in it.
    """
    marked = np.flatnonzero(shown & done).tolist()
    found = []
    for before, after in zip(marked[:-1], marked[1:], strict=True):
        inside = [index for index in range(before + 1, after) if done[index]]
        if inside:
            found.append((before, after, inside))
    return found


def left_empty(shown: npt.NDArray[np.bool_], done: npt.NDArray[np.bool_]) -> list[int]:
    """Return the finished slices in all gaps of one object; arguments as in `gaps`."""
    return [index for _, _, inside in gaps(shown, done) for index in inside]


def fill_gaps(mask: Masks, own: Callable[[int], npt.NDArray[np.bool_]], done: npt.NDArray[np.bool_]) -> list[int]:
    """Fill the empty slices of one object in place; return those that were filled.

    Args:
        mask: 0 or 1, ``(S, H, W)``.
        own: Returns the mask ``(H, W)`` that a slice has without its presence.
        done: Which slices are finished, bool ``(S,)``.
    """
    filled = []
    for before, after, inside in gaps(np.asarray(mask.any(axis=(1, 2))), done):
        if len(inside) > LONGEST_FILLED:
            continue
        ends = [_signed_distance(mask[index]) for index in (before, after)]
        for index in inside:
            share = (index - before) / (after - before)
            shape = (1 - share) * ends[0] + share * ends[1] > 0
            alone = own(index)
            if alone.any() and shape.any() and dice(shape, alone) >= LIKE_BETWEEN:
                mask[index] = alone
                filled.append(index)
    return filled


def _signed_distance(mask: Masks) -> npt.NDArray[np.float64]:
    """Return the distance of each pixel to the border, in pixels; above 0 inside."""
    from scipy.ndimage import distance_transform_edt

    inside = mask > 0
    found: npt.NDArray[np.float64] = np.where(
        inside, distance_transform_edt(inside) - 0.5, 0.5 - distance_transform_edt(~inside)
    )
    return found


def frame_names(indices: Iterable[int]) -> str:
    """Return the names of some frames: ``frame 3``, or ``frames 3-5, 9``."""
    numbers = sorted(set(indices))
    return f"frame{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def notes_on_gaps(
    objects: Sequence[str],
    shown: npt.NDArray[np.bool_],
    filled: npt.NDArray[np.bool_],
    done: npt.NDArray[np.bool_],
    named: Callable[[Iterable[int]], str],
) -> list[Note]:
    """Return the notes that name the slices filled in, and those left empty between slices that show the object.

    Args:
        objects: Names of the ``N`` objects.
        shown: Which slices show which object in the end, bool ``(S, N)``.
        filled: Which slices of which object were filled in, bool ``(S, N)``.
        done: Which slices are finished, bool ``(S,)``.
        named: Names some slices, e.g. ``slices 3-5 (S 10.5 to 16.5 mm)``.
    """
    notes = []
    for n, name in enumerate(objects):
        if filled[:, n].any():
            text = (
                f"'{name}' was filled in on {named(np.flatnonzero(filled[:, n]).tolist())}: the network's presence is "
                "low there, but slices on both sides show it, and the mask itself fits between them. Review it."
            )
            notes.append(Note(text, Remedy(kind=RemedyKind.KEEP_GAPS)))
        empty = left_empty(shown[:, n], done)
        if empty:
            text = f"'{name}' is empty on {named(empty)}, between others that show it. Review whether it is there."
            notes.append(Note(text))
    return notes
