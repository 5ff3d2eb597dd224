"""What folded norms and channels last save in the compact image encoder: Docs/results/speed.md.

    python Testing/benchmarks/folded_trunk.py

Processor seconds of both encoders, measured alternately in one run; the median of the ratios, and their quartiles.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from ProxyPromptSegmentLib.networks.checkpoints import load_model
from ProxyPromptSegmentLib.networks.folding import fold_norms
from ProxyPromptSegmentLib.weights.registry import resolve

REPEATS = 25


def seconds(model: torch.nn.Module, images: torch.Tensor) -> float:
    """Return the processor seconds of one embedding."""
    start = time.process_time()
    model.backbone.encode(images)  # type: ignore[operator, union-attr]
    return time.process_time() - start


def main() -> None:
    """Print a row for each batch."""
    torch.set_num_threads(1)
    plain = load_model(*resolve("sam-compact"))[0].eval()
    folded = copy.deepcopy(plain)
    fold_norms(folded)
    print("| images at once | plain, ms an image | folded, ms an image | folded / plain, median [quartiles] |")
    print("|---|---|---|---|")
    with torch.inference_mode():
        for batch in (1, 8):
            images = torch.rand(batch, 3, 256, 256)
            seconds(plain, images), seconds(folded, images)
            pairs = [(seconds(plain, images), seconds(folded, images)) for _ in range(REPEATS)]
            low, middle, high = statistics.quantiles([after / before for before, after in pairs], n=4)
            one, other = (1000 / batch * statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"| {batch} | {one:.1f} | {other:.1f} | {middle:.2f} [{low:.2f}, {high:.2f}] |")


if __name__ == "__main__":
    main()
