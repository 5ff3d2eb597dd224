"""What padding outside the field of view costs, with and without the rule that finds it: Docs/results/turned_grids.md.

    python Testing/benchmarks/padding.py DATA_FOLDER [--windows] [--supports 4] [--draws 2] [--sets chest_ct ...]

The sets of CT are stored in 8 bits, without padding. Their validation images are put back on a scale with air at -1000
and bone at 600, and everything outside of a round field gets one value, as scanners and converters write it.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.evaluation.broad.tasks import VALIDATION, Task, tasks_of
from ProxyPromptSegmentLib.imaging.intensity import WINDOW_PERCENTILES, intensity_window, without_padding
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter

SETS = ("chest_ct", "lung_ct", "lits_liver_ct", "kits_kidney_ct", "curvas_ct_abdomen", "ircad_liver_ct", "pancreas_ct")
AIR, BONE = -1000.0, 600.0
VALUES = (-2000.0, -32768.0)

Window = tuple[float, float]


def rescaled(case: Case) -> Case:
    """A case with air at -1000 and bone at 600."""
    return replace(case, images=np.round(case.images * ((BONE - AIR) / 255) + AIR).astype(np.float32))


def padded(images: np.ndarray, value: float) -> np.ndarray:
    """Images ``(S, H, W)`` with one value outside of the largest circle."""
    rows, columns = np.mgrid[: images.shape[1], : images.shape[2]]
    middle = (images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2
    outside = np.hypot(rows - middle[0], columns - middle[1]) > min(images.shape[1:]) / 2
    return np.where(outside, np.float32(value), images)


def plain_window(images: np.ndarray) -> Window:
    """The window of all values."""
    low, high = np.percentile(images, WINDOW_PERCENTILES)
    return (float(low), float(high)) if high > low else (float(images.min()), float(images.max()))


def contrast(images: np.ndarray, window: Window, plain: Window) -> float:
    """Share of the clean window's contrast that another one leaves: 1 if they are the same."""
    return (plain[1] - plain[0]) / max(window[1] - window[0], 1e-6)


def show_windows(data: Path, sets: Sequence[str]) -> None:
    """Prints what padding leaves of the contrast, and in how many images without padding the rule finds some."""
    left: dict[str, list[float]] = defaultdict(list)
    alarms, seen = 0, 0
    for task in tasks_of(data, sets, VALIDATION):
        for case in (rescaled(case) for case in task.targets):
            seen += 1
            alarms += without_padding(case.images).size < case.images.size
            plain = plain_window(case.images)
            for value in VALUES:
                images = padded(case.images, value)
                left[f"{value:.0f}, all values"].append(contrast(images, plain_window(images), plain))
                left[f"{value:.0f}, with the rule"].append(contrast(images, intensity_window(images), plain))
    for name, values in left.items():
        low, middle, high = np.percentile(values, (0, 50, 100))
        print(f"{name:30s} contrast left: median {middle:.2f}, from {low:.2f} to {high:.2f}")
    print(f"images without padding in which the rule finds some: {alarms} of {seen}", flush=True)


def scores(segmenter: Segmenter, task: Task, case: Case, supports: int, draw: int) -> dict[str, float]:
    """Mean Dice of the objects, by condition; none if there are too few supports."""
    pairs = draw_pairs(task.pool, case, supports, draw)
    if len(pairs) < supports:
        return {}
    found = {}

    def score(name: str, images: np.ndarray, window: Window, marked: list) -> None:
        masks = segmenter.segment(images, support_set(marked, case), window=window).masks()
        found[name] = float(np.mean([dice(case.masks[:, n], masks[:, n]) for n in range(len(case.objects))]))

    score("no padding", case.images, plain_window(case.images), pairs)
    for value in VALUES:
        images = padded(case.images, value)
        both = [replace(pair, image=padded(pair.image[None], value)[0]) for pair in pairs]
        for rule, window in (("all values", plain_window), ("with the rule", intensity_window)):
            score(f"{value:.0f} in the target, {rule}", images, window(images), pairs)
            windowed = [replace(pair, window=window(pair.image)) for pair in both]
            score(f"{value:.0f} in target and supports, {rule}", images, window(images), windowed)
    return found


def show(name: str, found: dict[str, list[float]]) -> None:
    """Prints mean Dice and the change by padding for each condition."""
    print(f"\n{name} ({len(found['no padding'])} targets and draws)")
    for condition, values in found.items():
        change = np.subtract(values, found["no padding"])
        print(f"{condition:60s} {np.mean(values):.3f}  {change.mean():+.3f} (worst {change.min():+.3f})", flush=True)


def main() -> None:
    """Prints a table for each set and for all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="sam-compact")
    parser.add_argument("--supports", type=int, default=4)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--limit", type=int, default=8, help="images of a set and object")
    parser.add_argument("--windows", action="store_true", help="no Dice, which takes long")
    parser.add_argument("--sets", nargs="+", default=SETS)
    options = parser.parse_args()
    show_windows(options.data, options.sets)
    if options.windows:
        return
    segmenter = load(options.model).segmenter
    whole: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for task in tasks_of(options.data, options.sets, VALIDATION, options.limit):
        there = replace(task, targets=[rescaled(c) for c in task.targets], pool=[rescaled(c) for c in task.pool])
        for case in there.targets:
            for draw in range(options.draws):
                for name, value in scores(segmenter, there, case, options.supports, draw).items():
                    whole[task.dataset][name].append(value)
                    whole["all"][name].append(value)
        show(f"so far, with {task.dataset}: {', '.join(task.objects)}", whole["all"])
    for name, found in sorted(whole.items(), key=lambda item: (item[0] == "all", item[0])):
        show(name, found)


if __name__ == "__main__":
    main()
