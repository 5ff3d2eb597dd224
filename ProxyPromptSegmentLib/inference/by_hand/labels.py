"""A label map of everything: the masks of each slice one above the other, linked from slice to slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.by_hand.found import MOST_LABELS, FoundMask

Labels = npt.NDArray[np.uint16]

SAME_THING = 0.5
"""Intersection over union of what lies on neighbouring slices from which it is the same thing."""


class LinkedLabels:
    """The labels of the slices of a volume; slices may be added in any order, neighbours are linked if they are there.

    Attributes:
        labels: 0 where nothing was found, uint16 ``(S, H, W)``.
        done: Which slices were added, bool ``(S,)``.
        left_out: Number of masks for which there was no label left.
    """

    def __init__(self, count: int, shape: tuple[int, int], most: int = MOST_LABELS) -> None:
        """Begin with ``count`` empty slices of ``shape`` and at most so many labels."""
        self.labels: Labels = np.zeros((count, *shape), np.uint16)
        self.done = np.zeros(count, bool)
        self.left_out = 0
        self._most, self._highest = most, 0
        self._quality: dict[int, list[float]] = {}

    @property
    def count(self) -> int:
        """Number of labels."""
        return self._highest

    @property
    def qualities(self) -> list[float]:
        """Mean estimated IoU of each label's masks, in the order of the labels."""
        return [float(np.mean(self._quality[label])) for label in range(1, self._highest + 1)]

    def add(self, index: int, found: Sequence[FoundMask]) -> Labels:
        """Add the masks of a slice; return its labels ``(H, W)``.

        Smaller masks lie above larger ones, of which they are parts. What is hidden entirely gets no label.
        """
        own = np.zeros(self.labels.shape[1:], np.int32)
        order = sorted(range(len(found)), key=lambda number: -int(found[number].mask.sum()))
        for number in order:
            own[found[number].mask] = number + 1
        seen = [number for number in np.unique(own).tolist() if number]
        chosen = self._linked(index, own, seen)
        table = np.zeros(len(found) + 1, np.uint16)
        for number in seen:
            label = chosen.get(number)
            if label is None and self._highest < self._most:
                self._highest += 1
                label = self._highest
            if label is None:
                self.left_out += 1
                continue
            table[number] = label
            self._quality.setdefault(label, []).append(found[number - 1].quality)
        self.labels[index], self.done[index] = table[own], True
        return self.labels[index]

    def _linked(self, index: int, own: npt.NDArray[np.int32], seen: list[int]) -> dict[int, int]:
        """Return the labels of neighbouring slices that a slice's masks continue, the most alike first, each once."""
        pairs: list[tuple[float, int, int]] = []
        for neighbour in (index - 1, index + 1):
            if not 0 <= neighbour < len(self.labels) or not self.done[neighbour]:
                continue
            other = self.labels[neighbour]
            for number in seen:
                inside = own == number
                labels, counts = np.unique(other[inside], return_counts=True)
                for label, both in zip(labels.tolist(), counts.tolist(), strict=True):
                    if label:
                        union = int(inside.sum()) + int((other == label).sum()) - both
                        pairs.append((both / union, number, label))
        chosen: dict[int, int] = {}
        for overlap, number, label in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= SAME_THING and number not in chosen and label not in chosen.values():
                chosen[number] = label
        return chosen
