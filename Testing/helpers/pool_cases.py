"""Pools of drawn images, as a pack of data sets gives them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.training.broad.pools import SIDE, build_pool

CPU = torch.device("cpu")


def picture(seed: int, shape=(SIDE, 200)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with two blobs, their bits, and four regions."""
    chance = np.random.default_rng(seed)
    image = chance.integers(30, 60, (*shape, 3)).astype(np.uint8)
    bits = np.zeros(shape, np.uint8)
    for bit, (row, column) in enumerate(((60, 60), (150, 120))):
        row, column = row + int(chance.integers(0, 20)), column + int(chance.integers(0, 20))
        bits[row : row + 50, column : column + 40] |= 1 << bit
        image[row : row + 50, column : column + 40] += np.uint8(80 + 60 * bit)
    regions = np.zeros(shape, np.uint8)
    regions[: shape[0] // 2] += 1
    regions[:, : shape[1] // 2] += 2
    return image, bits, regions


def pool(name: str = "drawn", images: int = 6, volumes: bool = False):
    items = [picture(seed) for seed in range(images)]
    patients = [f"p{n // 2}" for n in range(images)]
    return build_pool(name, items, patients, [f"v{n // 3}" if volumes else None for n in range(images)], CPU)
