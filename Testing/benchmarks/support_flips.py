"""How often the support check calls a real mask mirrored, and how often it finds one that was mirrored.

    python Testing/benchmarks/support_flips.py DATA_FOLDER

Every annotated case of the public sets is looked at as it is (false alarms) and with its masks mirrored in the three
ways (found). Of PSFHS every fourth picture is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import DATASETS, load_dataset
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.review.flip import ENOUGH, flip_scores, judged

FLIPS = ("left-right", "up-down", "left-right and up-down")


def combined(first: str, second: str) -> str:
    """Two ways of mirroring, one after the other."""
    rows, columns = (("up-down" in first) != ("up-down" in second), ("left" in first) != ("left" in second))
    return {(0, 0): "", (0, 1): FLIPS[0], (1, 0): FLIPS[1], (1, 1): FLIPS[2]}[rows, columns]


def main() -> None:
    """Prints one line for each set and one for all."""
    everything = []
    for name in DATASETS:
        rows = []
        for case in load_dataset(Path(sys.argv[1]), name)[:: 4 if name == "psfhs" else 1]:
            k, j, i = case.images.shape[:3]
            geometry = VolumeGeometry((i, j, k), (1, 1, 1))
            segments = [Segment(o, case.masks[:, n]) for n, o in enumerate(case.objects)]
            scores = flip_scores(Volume(case.images, geometry), Segmentation(segments, geometry), "k")
            if scores is not None:
                alarms = [
                    any(judged(scores, combined(given, flip), given) > ENOUGH for flip in FLIPS)
                    for given in ("", *FLIPS)
                ]
                rows.append(alarms)
        everything += rows
        print(line(name, rows), flush=True)
    print(line("all", everything))


def line(name: str, rows: list[list[bool]]) -> str:
    """False alarms and what was found, in per cent."""
    shares = 100 * np.mean(rows, axis=0)
    return f"{name:12s} {len(rows):4d} cases  false alarms {shares[0]:4.1f} %  found " + ", ".join(
        f"{flip} {share:.0f} %" for flip, share in zip(FLIPS, shares[1:], strict=True)
    )


if __name__ == "__main__":
    main()
