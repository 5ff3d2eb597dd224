"""How often leave-one-out among four supports tells of a good one, and of one whose masks were spoiled.

    python Testing/benchmarks/support_trials.py DATA_FOLDER promise12 psfhs drishti_gs

Eight times four training or validation cases are drawn. They are checked as they are, and with the masks of the first
mirrored up-down, moved by a quarter of the image, or in reversed order of slices.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.review.leave_one_out import leave_one_out, trial_findings
from ProxyPromptSegmentLib.support.case import SupportCase

SPOILED = {
    "mirrored": lambda masks: masks[:, :, ::-1],
    "moved": lambda masks: np.roll(masks, masks.shape[2] // 4, axis=2),
    "reversed": lambda masks: masks[::-1],
}


def support(case: Case, masks: np.ndarray) -> SupportCase:
    k, j, i = case.images.shape[:3]
    grid = VolumeGeometry((i, j, k))
    segments = [Segment(name, masks[:, n].copy()) for n, name in enumerate(case.objects)]
    return SupportCase(Volume(case.images, grid, case.name), Segmentation(segments, grid))


def told(segmenter, cases: list[SupportCase]) -> tuple[set[str], list[float]]:
    """Names of the cases that a finding is about, and every Dice."""
    answers, names = leave_one_out(segmenter, cases), [case.volume.name for case in cases]
    text = " ".join(finding.text for finding in trial_findings(answers, names))
    return {name for name in names if f"'{name}'" in text}, [answer.dice for answer in answers]


def main() -> None:
    """Prints a line for each set."""
    segmenter, chance = load("sam-compact", "cpu").segmenter, np.random.default_rng(0)
    for name in sys.argv[2:]:
        parts = split(load_dataset(Path(sys.argv[1]), name), name)
        cases, alarms, dices = [*parts.train, *parts.validation], [], []
        found: dict[str, list[bool]] = {}
        for _ in range(8):
            drawn = [cases[n] for n in chance.choice(len(cases), 4, replace=False)]
            good = [support(case, case.masks) for case in drawn]
            names, values = told(segmenter, good)
            alarms.append(len(names))
            dices += values
            for how, spoil in SPOILED.items():
                if how != "reversed" or len(drawn[0].images) > 1:
                    spoiled = [support(drawn[0], spoil(drawn[0].masks)), *good[1:]]
                    found.setdefault(how, []).append(drawn[0].name in told(segmenter, spoiled)[0])
        figures = ", ".join(f"{how} {sum(hits)} of {len(hits)}" for how, hits in found.items())
        print(f"{name}: {sum(alarms)} of 32 good ones told, Dice median {np.median(dices):.2f}, lowest "
              f"{min(dices):.2f}; spoiled ones told: {figures}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
