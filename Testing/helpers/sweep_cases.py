"""Drawn sweeps and discs for the tests of measurements of tracking."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case

SIDE = 20


def sweep(name: str, offsets: list[int], dataset: str = "ccaus_video", objects: int = 1) -> Case:
    """Frames with a bright bar of ten columns that begins at the offset; the other object is the bar's upper half."""
    masks = np.zeros((len(offsets), objects, SIDE, SIDE), np.uint8)
    for index, offset in enumerate(offsets):
        masks[index, 0, :, offset : offset + 10] = 1
        if objects > 1:
            masks[index, 1, : SIDE // 2, offset : offset + 10] = 1
    images = np.random.default_rng(len(name)).uniform(0, 20, (len(offsets), SIDE, SIDE)) + 100 * masks[:, 0]
    names = ("vessel", "upper half")[:objects]
    return Case(
        dataset=dataset,
        patient=name,
        images=images.astype(np.float32),
        masks=masks,
        objects=names,
        spacing_mm=None,
        name=name,
    )


def disc(number: int) -> Case:
    y, x = np.mgrid[:SIDE, :SIDE]
    masks = np.stack([(y - 10) ** 2 + (x - 10) ** 2 < r**2 for r in (8, 4)]).astype(np.uint8)[None]
    images = np.repeat(masks.sum(axis=1)[..., None] * 60.0 + number, 3, axis=-1).astype(np.float32)
    return Case(
        dataset="drishti_gs",
        patient=f"disc{number}",
        images=images,
        masks=masks,
        objects=("optic disc", "optic cup"),
        spacing_mm=None,
        name=f"disc{number}",
    )


POOL = [sweep("a", [0, 1, 2]), sweep("bb", [5, 6, 7])]
FOREIGN = [disc(n) for n in range(6)]
