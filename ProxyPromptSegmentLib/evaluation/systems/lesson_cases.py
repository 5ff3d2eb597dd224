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

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.few_shot_unet import AnnotatedSlice


def marked_slices(case: Case) -> list[int]:
    """Return the slices of a case that show an object: those with every object, where there are any."""
    shown = np.asarray(case.masks.any(axis=(2, 3)))
    whole = np.flatnonzero(shown.all(axis=1))
    return [int(index) for index in (whole if len(whole) else np.flatnonzero(shown.any(axis=1)))]


def marked_pairs(cases: Sequence[Case], most: int | None = None) -> list[SupportPair]:
    """Return slices that show an object, of every case as many and evenly spread over it.

    Args:
        cases: The cases; those without a mark give none.
        most: Slices of all cases together, rounded up to as many of each, at least one; None for all.
    """
    share = None if most is None else max(1, -(-most // max(1, len(cases))))
    pairs = []
    for case in cases:
        marked = marked_slices(case)
        if share is not None and len(marked) > share:
            marked = [marked[int((n + 0.5) * len(marked) / share)] for n in range(share)]
        pairs += [pair_of(case, index) for index in marked]
    return pairs


def support_of(few: Sequence[Case], most: int = MAX_SLICES) -> SupportSet:
    """Return the supports that a run in use would choose of the few cases.

    Raises:
        SupportError: If no case shows an object, or an object is on none of the slices.
    """
    pairs = marked_pairs(few, most)
    if not pairs:
        raise SupportError(
            f"none of the {len(few)} annotated cases shows an object; give at least one on which it is marked."
        )
    return SupportSet(tuple(pairs), few[0].objects)


def annotated_slices(cases: Sequence[Case]) -> list[AnnotatedSlice]:
    """Return all slices of the cases, those without an object included, as a U-Net learns from them."""
    from ProxyPromptSegmentLib.evaluation.few_shot_unet import AnnotatedSlice

    return [
        AnnotatedSlice(image=image, masks=masks, window=window)
        for case in cases
        for window in [intensity_window(case.images)]
        for image, masks in zip(case.images, case.masks, strict=True)
    ]
