"""What half precision changes in masks: Docs/results/speed.md.

    python Testing/benchmarks/half_precision.py DATA_FOLDER

Validation patients of each set are segmented in single precision and under autocast, as on a graphics card, with the
same supports of training patients. Without a card the processor's autocast stands in: it rounds the same products to
the same types, and sums in another order. Dice is of a volume, or of an image of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports, segment_case
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter

MODELS = ("sam-compact", "sam2-compact")
SETS = ("psfhs", "promise12")
TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SUPPORTS, SEED = 4, 0


def scores(segmenter: Segmenter, half: Segmenter, case: Case, pool: list[Case]) -> list[tuple[float, float, float]]:
    """Return of each object: Dice in single precision, in half precision, and of both masks with each other."""
    support, _ = draw_supports(pool, case, SUPPORTS, SEED)
    single, other = (segment_case(one, case, support) for one in (segmenter, half))
    found = []
    for number in range(len(case.objects)):
        truth, one, two = case.masks[:, number], single[:, number], other[:, number]
        if truth.any():
            found.append((dice(truth, one), dice(truth, two), dice(one, two)))
    return found


def main() -> None:
    """Print a row for each model, set and type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--most", type=int, default=20, help="most cases of a set (20), evenly spread")
    parser.add_argument("--types", nargs="+", default=["bfloat16"], choices=list(TYPES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | set | type | masks | Dice, single | half minus single, mean [least, most] | Dice of both masks |")
    print("|---|---|---|---|---|---|---|")
    for name in SETS:
        parts = split(load_dataset(args.data, name), name)
        places = np.unique(np.linspace(0, len(parts.validation) - 1, args.most).round().astype(int))
        for model in MODELS:
            segmenter = load(model, "cpu").segmenter
            for kind in args.types:
                half = segmenter.in_half(TYPES[kind])
                found = np.array(
                    [row for place in places for row in scores(segmenter, half, parts.validation[place], parts.train)]
                )
                apart = found[:, 1] - found[:, 0]
                print(
                    f"| {model} | {name} | {kind} | {len(found)} | {found[:, 0].mean():.4f} | {apart.mean():+.4f} "
                    f"[{apart.min():+.4f}, {apart.max():+.4f}] | {np.nanmean(found[:, 2]):.4f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
