"""Connectedness of the objects in a support."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.imaging.components import component_labels, component_sizes

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.pairs import SupportSet


def one_piece(support: SupportSet) -> tuple[bool, ...]:
    """Return for each object whether it is a single connected component on every support slice that shows it.

    Specks below 2 % of the slice's mask are ignored: hand-drawn masks contain them.
    """
    answers = []
    for number in range(len(support.objects)):
        whole = True
        for pair in support.pairs:
            sizes = component_sizes(component_labels(pair.masks[number])[0])
            if len(sizes) > 1:
                whole = whole and bool((sizes >= 0.02 * sizes.sum()).sum() == 1)
        answers.append(whole)
    return tuple(answers)
