"""Masks of a chosen quality: empty, drawn by SAM from a box, or with edges moved until they have a given Dice.

References:
    Proxy Prompt, section 11.5: six levels of support masks, of which two are by people; those are simulated here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.without_support import boxed_masks
from ProxyPromptSegmentLib.imaging.metrics import dice

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

EMPTY, BOX, EDGES, TRUTH = "empty", "box", "edges", "truth"
LEVELS = (EMPTY, BOX, EDGES, TRUTH)
BISECTIONS = 14
WAVES = 8  # of an image's longer side; the scale on which edges move
TOO_MUCH = 4.0  # times the depth of an object, as far as edges are moved


def changed_masks(segmenter: Segmenter, case: Case, level: str, wanted: float, seed: int) -> npt.NDArray[np.uint8]:
    """Return other masks of a case, ``(S, N, H, W)``.

    Args:
        segmenter: The frozen model, which draws masks from boxes.
        case: The case with its true masks.
        level: One of `LEVELS`.
        wanted: Dice with the truth, for ``edges``.
        seed: Seed of the movement.

    Raises:
        UsageError: If there is no such level.
    """
    from dataclasses import replace

    if level not in LEVELS:
        raise UsageError(f"masks of the quality '{level}' do not exist; choose one of {', '.join(LEVELS)}")
    if level == EMPTY:
        return np.zeros_like(case.masks)
    if level == TRUTH:
        return case.masks
    if level == BOX:
        parts = [
            boxed_masks(segmenter, replace(case, masks=case.masks[:, [n]], objects=(name,)), {})
            for n, name in enumerate(case.objects)
        ]
        return np.stack(parts, axis=1)
    rng = np.random.default_rng(seed)
    moved = [[moved_edges(mask, wanted, int(rng.integers(2**31))) for mask in own] for own in case.masks]
    return np.array(moved, np.uint8)


def moved_edges(mask: npt.NDArray[np.uint8], wanted: float, seed: int) -> npt.NDArray[np.uint8]:
    """Return a mask ``(H, W)`` whose edge was moved in and out by smooth noise until it has a Dice with the first."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    inside = mask.astype(bool)
    if not inside.any() or wanted >= 1:
        return mask
    depth = distance_transform_edt(inside) - distance_transform_edt(~inside)
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(mask.shape), max(mask.shape) / WAVES / 2)
    noise /= max(1e-9, float(np.abs(noise).max()))
    low, high = 0.0, TOO_MUCH * float(depth.max())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        changed = (depth + middle * noise > 0).astype(np.uint8)
        low, high = (middle, high) if dice(mask, changed) > wanted else (low, middle)
    return (depth + low * noise > 0).astype(np.uint8)
