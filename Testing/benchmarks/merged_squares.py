"""What larger squares of merged keys change in masks: Docs/results/speed.md.

    python Testing/benchmarks/merged_squares.py DATA_FOLDER --sets acdc psfhs

Validation patients of each set are segmented with squares of 2 x 2 keys alone and as in use, with the same supports of
training patients. Dice is of a volume, or of an image of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports, segment_case
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.networks.proxy_prompt import merged_keys

BEFORE = {2: 1}
SUPPORTS, SEED = 4, 0


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=["psfhs", "promise12", "acdc"])
    parser.add_argument("--most", type=int, default=30, help="most cases of a set (30), evenly spread")
    parser.add_argument("--model", default="sam-compact")
    args = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = load(args.model, "cpu").segmenter
    print("| set | masks | Dice, squares of 2 | as in use minus that, mean (error) [least, most] |")
    print("|---|---|---|---|")
    for name in args.sets:
        parts = split(load_dataset(args.data, name), name)
        places = np.unique(np.linspace(0, len(parts.validation) - 1, args.most).round().astype(int))
        found = []
        for case in (parts.validation[place] for place in places):
            support, _ = draw_supports(parts.train, case, SUPPORTS, SEED)
            with mock.patch.object(merged_keys, "SQUARES", BEFORE):
                before = segment_case(segmenter, case, support)
            now = segment_case(segmenter, case, support)
            for number in range(len(case.objects)):
                truth = case.masks[:, number]
                if truth.any():
                    found.append([dice(truth, masks[:, number]) for masks in (before, now)])
        scores = np.array(found)
        apart = scores[:, 1] - scores[:, 0]
        print(
            f"| {name} | {len(apart)} | {scores[:, 0].mean():.4f} | {apart.mean():+.4f} "
            f"({apart.std() / len(apart) ** 0.5:.4f}) [{apart.min():+.4f}, {apart.max():+.4f}] |",
            flush=True,
        )


if __name__ == "__main__":
    main()
