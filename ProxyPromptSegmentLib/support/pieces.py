"""Whether a support shows an object in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.pairs import SupportSet


def one_piece(support: SupportSet) -> tuple[bool, ...]:
    """For each object whether every support slice that shows it shows it in one piece.

    Specks below 2 % of the slice's mask do not count: hand-drawn masks have them.
    """
    from scipy.ndimage import label

    answers = []
    for number in range(len(support.objects)):
        whole = True
        for pair in support.pairs:
            parts, count = label(pair.masks[number])
            if count > 1:
                sizes = np.bincount(parts.ravel())[1:]
                whole = whole and bool((sizes >= 0.02 * sizes.sum()).sum() == 1)
        answers.append(whole)
    return tuple(answers)
