"""Results with so many pixels on each slice."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.reports.results_table import ResultArrays

SMOOTH = [0, 60, 80, 100, 100, 90, 60, 0]


def findings(areas, confidence=0.95, done=None, names=("gland",), **more):
    """ResultArrays whose masks have so many pixels on each slice: ``areas`` (S,) or (S, N)."""
    areas = np.array(areas).reshape(len(areas), -1)
    masks = (np.arange(400) < areas[..., None]).astype(np.uint8).reshape(*areas.shape, 20, 20)
    sure = np.broadcast_to(np.asarray(confidence, np.float32).reshape(-1, 1), areas.shape).copy()
    presence = np.where(areas > 0, 0.97, 0.02).astype(np.float32)
    known = np.ones(len(areas), bool) if done is None else np.asarray(done, bool)
    return ResultArrays(objects=tuple(names), masks=masks, confidence=sure, presence=presence, done=known, **more)
