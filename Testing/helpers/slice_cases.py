"""Stacks of slices with a box that moves, and supports of the same kind."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

FIELDS = ("probability", "presence", "quality")


def stack(count=5, shape=(40, 56), seed=0, channels=()):
    """Slices with a bright box that moves."""
    images = np.random.default_rng(seed).uniform(0, 60, (count, *shape, *channels)).astype(np.float32)
    for s in range(count):
        images[s, 8 + s : 24 + s, 10 : 30 + s] += 100
    return images


def support(pairs=2, shape=(40, 56), seed=7, channels=(), names=("box", "rest")):
    images = stack(pairs, shape, seed, channels)
    masks = np.zeros((pairs, 2, *shape), np.uint8)
    masks[:, 0, 8:24, 10:30] = 1
    masks[:, 1, 26:38, 34:50] = 1
    masks = masks[:, : len(names)]
    made = [SupportPair(i, m, (1.0, 1.0), (0.0, 160.0)) for i, m in zip(images, masks, strict=True)]
    return SupportSet(tuple(made), names)


def assert_same(first, second, **tolerance):
    for field in FIELDS:
        allowed = {"atol": 1e-5, "rtol": 0, **tolerance}
        np.testing.assert_allclose(getattr(first, field), getattr(second, field), **allowed)
    assert (first.done == second.done).all()
