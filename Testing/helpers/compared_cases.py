"""Drawn cases and a tiny model for the tests of the compared systems."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson


def drawn_case(number: int, shift: int = 0, slices: int = 1, side: int = 64, dataset: str = "made") -> Case:
    """Discs on a noisy slope: a bright one with a dark one inside; nothing on the first and last slice of a volume."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:side, :side]
    far = np.hypot(rows - side / 2 - shift, columns - side / 2 + shift / 2)
    masks = np.stack([far < side * 0.28, far < side * 0.14])
    picture = 100 + 40.0 * columns / side + 90 * masks[0] - 120 * masks[1]
    images = np.stack([picture] * slices) + rng.normal(0, 3, (slices, side, side))
    stacked = np.stack([masks] * slices).astype(np.uint8)
    if slices > 2:
        for end in (0, -1):
            images[end] = 100 + 40.0 * columns / side + rng.normal(0, 3, (side, side))
            stacked[end] = 0
    return Case(
        dataset=dataset,
        patient=f"p{number}",
        images=images.astype(np.float32),
        masks=stacked,
        objects=("disc", "core"),
        spacing_mm=None,
        name=f"c{number}",
    )


def drawn_lesson(count: int = 2, slices: int = 1, **settings) -> Lesson:
    """A lesson of drawn cases; trainings end after a step."""
    few = tuple(drawn_case(number, shift=2 * number, slices=slices) for number in range(count))
    return Lesson(few=few, **{"seconds": 0.0, "threads": 1, **settings})


def tiny_frozen(seed: int = 0):
    """A model with random weights on 64 pixels."""
    pytest.importorskip("torch")
    from engine_doubles import tiny_model
    from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    return Frozen.of(Segmenter(tiny_model(seed), "cpu"), "tiny")


def check_masks(masks: np.ndarray, case: Case) -> None:
    """Check that masks are what a system promises."""
    assert masks.shape == case.masks.shape and masks.dtype == np.uint8 and set(np.unique(masks)) <= {0, 1}


def tiny_tracking():
    """A model with a memory and random weights."""
    pytest.importorskip("sam2")
    import torch

    from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.model import build_model
    from shared_models import SMALL_SHARED

    torch.manual_seed(3)
    return Frozen.of(Segmenter(build_model("sam2-compact", SMALL_SHARED), "cpu"), "tiny SAM 2")
