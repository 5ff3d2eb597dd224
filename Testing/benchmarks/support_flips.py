"""How often the support check calls a right mask mirrored, and how often it finds one that was mirrored.

    python Testing/benchmarks/support_flips.py DATA_FOLDER [--sets SET ...] [--most CASES]

Annotated cases of the public sets, patients for training and validation alone, are looked at as they are (false alarms)
and with their masks mirrored in the three ways (found): all objects together, and each alone where there are several,
as users keep them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.parts import data_set_names, load_parts
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.review.flip import probable_flip

FLIPS = {"": (), "left-right": (2,), "up-down": (1,), "left-right and up-down": (1, 2)}
SLICES = 3
"""Most annotated slices of a volume that are looked at, evenly spread; the check itself looks at more."""


def choices(case: Case) -> Iterator[list[int]]:
    """The objects that are looked at together: all, and each alone."""
    shown = [n for n in range(len(case.objects)) if case.masks[:, n].any()]
    if shown:
        yield shown
    if len(shown) > 1:
        yield from ([n] for n in shown)


def answers(case: Case, chosen: list[int]) -> list[bool]:
    """Whether a flip is reported for the masks as they are and mirrored in each way."""
    marked = np.flatnonzero(case.masks[:, chosen].any(axis=(1, 2, 3)))
    marked = marked[np.unique(np.linspace(0, len(marked) - 1, min(SLICES, len(marked))).astype(int))]
    images, masks = case.images[marked], case.masks[marked]
    k, j, i = images.shape[:3]
    geometry = VolumeGeometry((i, j, k), (1, 1, 1))
    found = []
    for axes in FLIPS.values():
        segments = [Segment(case.objects[n], np.flip(masks[:, n], axes).copy()) for n in chosen]
        found.append(bool(probable_flip(Volume(images, geometry), Segmentation(segments, geometry), "k")))
    return found


def main() -> None:
    """Prints one line for each set and one for all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--most", type=int, default=8, help="cases of each set, evenly spread (8)")
    parser.add_argument("--offset", type=int, default=0, help="begin with this case")
    args = parser.parse_args()
    everything = []
    for name in args.sets or data_set_names(args.data):
        parts = load_parts(args.data, name)
        cases = [*parts.validation, *parts.train][args.offset :]
        picked = np.unique(np.linspace(0, len(cases) - 1, min(args.most, len(cases))).astype(int)) if cases else []
        rows = [answers(cases[n], chosen) for n in picked for chosen in choices(cases[n])]
        everything += rows
        if rows:
            print(line(name, rows), flush=True)
    print(line("all", everything))


def line(name: str, rows: list[list[bool]]) -> str:
    """False alarms and what was found, in per cent."""
    shares = 100 * np.mean(rows, axis=0)
    return f"{name:20s} {len(rows):4d} supports  false alarms {shares[0]:4.1f} %  found " + ", ".join(
        f"{flip} {share:.0f} %" for flip, share in zip(list(FLIPS)[1:], shares[1:], strict=True)
    )


if __name__ == "__main__":
    main()
