"""Which masks "everything" should keep: limits of quality and stability on validation images: Docs/results/clicks.md.

    python Testing/benchmarks/everything_limits.py DATA_FOLDER --part validation --cases 1

Of each data set, the slice with the largest section of each object (at most --slices of a case) is clicked on at the
points of the grid. For each pair of limits, the label map is drawn as `everything` draws it, and each object of the
reference is compared with the label that overlaps it most.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.evaluation.broad.tasks import TEST, VALIDATION, set_names, tasks_of
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.by_hand import everything
from ProxyPromptSegmentLib.inference.by_hand.duplicates import apart, distinct
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
from ProxyPromptSegmentLib.inference.by_hand.labels import LinkedLabels
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter

QUALITIES, STABILITIES = (0.0, 0.1, 0.2, 0.3), (0.3, 0.5, 0.55, 0.6, 0.7, 0.8)


def slices(options: argparse.Namespace, name: str) -> Iterator[tuple[object, int, list[np.ndarray]]]:
    """Yield case, slice and the masks of the objects on it."""
    chosen: dict[tuple[str, int], tuple[object, int, list[np.ndarray]]] = {}
    for task in tasks_of(options.data, [name], options.part, options.cases):
        for case in task.targets:
            for number in range(len(case.objects)):
                areas = case.masks[:, number].sum(axis=(1, 2))
                if areas.any():
                    index = int(areas.argmax())
                    found = chosen.setdefault((case.name, index), (case, index, []))
                    found[2].append(case.masks[index, number] > 0)
    yield from list(chosen.values())[: options.slices]


def candidates(segmenter: Segmenter, case, index: int, points: int) -> list[everything.FoundMask]:
    """All masks of the grid's points, whatever their quality and stability."""
    spacing = (1.0, 1.0) if case.spacing_mm is None else case.spacing_mm[1:]
    encoded = segmenter.encode(case.images[index : index + 1], intensity_window(case.images), spacing)
    choice = EverythingChoice(points=points, quality=0.0, stability=0.0)
    grid = everything.grid_points(points, encoded.box.shape)
    kept = []
    with torch.inference_mode():
        for start in range(0, len(grid), choice.batch):
            kept += everything._passing(segmenter, encoded, grid[start : start + choice.batch], choice)
    return [(one, everything._unpacked(one, encoded.box)) for one in kept]


def drawn(masks, quality: float, stability: float, shape: tuple[int, int], pieces: bool) -> np.ndarray:
    """The label map that these limits give."""
    good = [one for one in masks if one[0].quality > quality and one[0].stability >= stability]
    best = distinct([one[0].box for one in good], [one[0].quality for one in good], everything.MOST_OVERLAP)
    found = [good[number][1] for number in best[: EverythingChoice().most]]
    if pieces:
        return LinkedLabels(1, shape).add(0, found)
    chosen = apart([one.mask for one in found], [one.quality * one.stability for one in found])
    return LinkedLabels(1, shape).add(0, [found[number] for number in chosen])


def best_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    """Dice of an object and the label that overlaps it most."""
    sizes, both = np.bincount(labels.ravel()), np.bincount(labels[truth], minlength=labels.max() + 1)
    dice = 2 * both[1:] / (sizes[1:] + truth.sum())
    return float(dice.max(initial=0.0))


def main() -> None:
    """Prints a row for each pair of limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--part", choices=(VALIDATION, TEST), default=VALIDATION)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--model", default="sam-compact")
    parser.add_argument("--cases", type=int, default=1, help="patients of each set and object")
    parser.add_argument("--slices", type=int, default=2, help="slices of each set")
    parser.add_argument("--pieces", action="store_true", help="keep masks that cut each other")
    parser.add_argument("--points", type=int, default=EverythingChoice().points)
    options = parser.parse_args()
    segmenter = load(options.model).segmenter
    dice: dict[tuple[float, float], list[float]] = {pair: [] for pair in product(QUALITIES, STABILITIES)}
    count: dict[tuple[float, float], list[int]] = {pair: [] for pair in dice}
    for name in set_names(options.data, options.sets):
        for case, index, truths in slices(options, name):
            masks = candidates(segmenter, case, index, options.points)
            for pair in dice:
                labels = drawn(masks, *pair, case.images.shape[1:3], options.pieces)
                count[pair].append(int(labels.max()))
                dice[pair] += [best_dice(labels, truth) for truth in truths]
    print("| quality | stability | mean best Dice | Dice >= 0.5 | things, median (most) | slices with nothing |")
    print("|---|---|---|---|---|---|")
    for (quality, stability), values in dice.items():
        things = np.array(count[quality, stability])
        print(
            f"| {quality:g} | {stability:g} | {np.mean(values):.3f} | {np.mean(np.array(values) >= 0.5):.2f} | "
            f"{np.median(things):g} ({things.max()}) | {np.mean(things == 0):.2f} |"
        )


if __name__ == "__main__":
    main()
