"""Masks that show the same thing, or cut each other into pieces: the better one is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BoxEnds = tuple[float, float, float, float]


def box_of(mask: npt.NDArray[np.bool_]) -> BoxEnds:
    """Return the first and last column and row of a mask that is not empty, as ``(x, y, x, y)``."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def distinct(boxes: Sequence[BoxEnds], scores: Sequence[float], most_overlap: float) -> list[int]:
    """Return the numbers of the boxes that no better kept one overlaps too much, best first.

    The result is that of torchvision's ``nms``, which is not imported: beside a torch of another build it fails.

    Args:
        boxes: ``(x, y, x, y)``.
        scores: Higher is better; equal ones keep their order.
        most_overlap: Intersection over union above which the worse of two is left out.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ends = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = (ends[:, 2] - ends[:, 0]) * (ends[:, 3] - ends[:, 1])
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(ends[best, 2:], ends[order, 2:]) - np.maximum(ends[best, :2], ends[order, :2])
        both = np.prod(np.maximum(sides, 0), axis=1)
        with np.errstate(invalid="ignore"):  # two boxes without an area do not overlap
            overlap = both / (areas[best] + areas[order] - both)
        order = order[~(overlap > most_overlap)]
    return kept


MOST_SHARED, LEAST_INSIDE, SAME = 0.2, 0.9, 0.5
"""Share of the smaller of two masks up to which they lie beside each other, and from which one is a part of the other;
intersection over union from which they are the same. Chosen on validation images, see Docs/results/clicks.md."""


def apart(masks: Sequence[npt.NDArray[np.bool_]], scores: Sequence[float]) -> list[int]:
    """Return the numbers of the masks that lie beside each better kept one, or are parts of each other, best first.

    Args:
        masks: Masks of one slice, each with at least one pixel.
        scores: Higher is better; equal ones keep their order.
    """
    areas = [int(mask.sum()) for mask in masks]
    kept: list[int] = []
    for number in np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist():
        for other in kept:
            both = int(np.count_nonzero(masks[number] & masks[other]))
            inside = both / min(areas[number], areas[other])
            union = areas[number] + areas[other] - both
            if inside > MOST_SHARED and (inside < LEAST_INSIDE or both >= SAME * union):
                break
        else:
            kept.append(number)
    return kept
