"""Connectedness of the objects in a support."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.components import component_labels, component_sizes

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.pairs import SupportSet


MarkedSlice = tuple[npt.NDArray[np.uint8], tuple[float, float]]
"""The masks ``(N, H, W)`` of a support slice, and its pixel size (row, column) in mm."""


def one_piece(support: SupportSet) -> tuple[bool, ...]:
    """Return for each object whether it is a single connected component on every support slice that shows it."""
    return tuple(in_one_piece([pair.masks[number] for pair in support.pairs]) for number in range(len(support.objects)))


def in_one_piece(masks: Sequence[npt.NDArray[np.uint8]]) -> bool:
    """Return whether a mask is a single connected component on every slice ``(H, W)`` that shows it.

    Specks below 2 % of the slice's mask are ignored: hand-drawn masks contain them.
    """
    for mask in masks:
        sizes = component_sizes(component_labels(mask)[0])
        if len(sizes) > 1 and (sizes >= 0.02 * sizes.sum()).sum() != 1:
            return False
    return True
