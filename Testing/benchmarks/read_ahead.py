"""What reading ahead gains in front of a graphics card, which is stood in for: Docs/results/speed.md.

    python Testing/benchmarks/read_ahead.py

An encoder of 1024 pixels waits for as long as a card takes for each slice, without using the processor, and slices are
read as they are. Wall-clock time of both, measured alternately in one run: median of the ratios, and their quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from ProxyPromptSegmentLib.inference.reading_ahead import ReadingAhead
from ProxyPromptSegmentLib.inference.slice_encoder import SliceEncoder
from ProxyPromptSegmentLib.networks.values import ImageFeatures

SLICES, BATCH, SIDE = 24, 4, 256
WINDOW, SPACING = (0.0, 1.0), (1.0, 1.0)


class Card(torch.nn.Module):
    """Waits in place of an image encoder."""

    name, image_size, grid, keeps_aspect, needs_support = "card", 1024, 64, True, True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    @property
    def backbone(self) -> Card:
        """Itself, so that it is its own model."""
        return self

    def encode(self, images: torch.Tensor, valid: torch.Tensor) -> ImageFeatures:
        """Wait."""
        time.sleep(self.seconds * len(images))
        return ImageFeatures(top=torch.zeros(len(images), 1, 64, 64), positions=torch.zeros(1, 64, 64), valid=valid)


def seconds_of(encoder: SliceEncoder, images: np.ndarray) -> float:
    """Return the wall-clock seconds of a volume, batch by batch."""
    start = time.perf_counter()
    parts = [list(range(first, first + BATCH)) for first in range(0, len(images), BATCH)]
    for part, following in zip(parts, [*parts[1:], []], strict=True):
        encoder.read_ahead(images, following, WINDOW, SPACING)
        encoder.embedded(images, part, WINDOW, SPACING)
    if encoder.ahead is not None:
        encoder.ahead.close()
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ms", type=float, default=25.0, help="of a slice on the card (25: ViT-B in half precision)")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = np.random.default_rng(0).random((SLICES, SIDE, SIDE)).astype(np.float32)
    plain, ahead = (SliceEncoder(Card(args.ms / 1000), "cpu", BATCH) for _ in range(2))
    ahead.ahead = ReadingAhead()
    seconds_of(plain, images), seconds_of(ahead, images)
    pairs = [(seconds_of(ahead, images), seconds_of(plain, images)) for _ in range(args.repeats)]
    low, middle, high = statistics.quantiles([one / other for one, other in pairs], n=4)
    one, other = (1000 / SLICES * statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{one:.1f} / {other:.1f} ms a slice, ratio {middle:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
