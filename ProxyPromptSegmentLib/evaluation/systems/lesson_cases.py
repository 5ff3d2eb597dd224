"""The slices of a lesson's cases as the systems take them: as supports, or to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.support.pairs import MAX_SLICES, SupportPair, SupportSet
from ProxyPromptSegmentLib.support.sides import lies_on_both_sides
from ProxyPromptSegmentLib.support.spreading import spread, with_all_objects

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.few_shot_unet import AnnotatedSlice


def marked_slices(case: Case) -> list[int]:
    """Return the slices of a case that show an object: those with every object, where there are any."""
    shown = np.asarray(case.masks.any(axis=(2, 3)))
    whole = np.flatnonzero(shown.all(axis=1))
    return [int(index) for index in (whole if len(whole) else np.flatnonzero(shown.any(axis=1)))]


def chosen_slices(case: Case, count: int) -> list[int]:
    """Return about so many slices of a case that show an object, evenly spread; each of its objects is on one."""
    return with_all_objects(spread(marked_slices(case), count), np.asarray(case.masks.any(axis=(2, 3))))


def marked_pairs(cases: Sequence[Case], most: int | None = None) -> list[SupportPair]:
    """Return slices that show an object, of every case as many and evenly spread over it.

    Args:
        cases: The cases; those without a mark give none.
        most: Slices of all cases together, rounded up to as many of each, at least one; None for all.
    """
    share = None if most is None else max(1, -(-most // max(1, len(cases))))
    return [
        pair_of(case, index)
        for case in cases
        for index in (marked_slices(case) if share is None else chosen_slices(case, share))
    ]


def support_of(few: Sequence[Case], most: int = MAX_SLICES) -> SupportSet:
    """Return the supports that a run in use would choose of the few cases.

    Raises:
        SupportError: If no case shows an object, or an object is in none of them.
    """
    pairs = marked_pairs(few, most)
    if not pairs:
        raise SupportError(
            f"none of the {len(few)} annotated cases shows an object; give at least one on which it is marked."
        )
    return SupportSet(tuple(pairs), few[0].objects)


def may_mirror(cases: Sequence[Case]) -> bool:
    """Return whether slices of the cases are mirrored in training: by one rule for every system, that of `adapt`."""
    return not cases or lies_on_both_sides(cases[0].objects, [masks for case in cases for masks in case.masks])


def annotated_slices(cases: Sequence[Case]) -> list[AnnotatedSlice]:
    """Return all slices of the cases, those without an object included, as a U-Net learns from them."""
    from ProxyPromptSegmentLib.evaluation.few_shot_unet import AnnotatedSlice

    return [
        AnnotatedSlice(image=image, masks=masks, window=window)
        for case in cases
        for window in [intensity_window(case.images)]
        for image, masks in zip(case.images, case.masks, strict=True)
    ]
