"""Results of following frames, made from arrays."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.inference.results import FrameResult
from ProxyPromptSegmentLib.tracking.result import FramesResult


def a_frames_result(objects, masks, confidence=0.9, presence=1.0, agreement=1.0, skipped=None, **more) -> FramesResult:
    """The result of frames with masks ``(T, N, H, W)``; numbers count for all frames, or come as ``(T, N)``."""
    count, number = masks.shape[:2]
    confidence, presence, agreement = (
        np.broadcast_to(np.asarray(one, np.float32), (count, number)) for one in (confidence, presence, agreement)
    )
    skipped = skipped or {}
    found = FramesResult(objects=tuple(objects), shape=masks.shape[2:], count=count, skipped=skipped, **more)
    for index in range(count):
        if index not in skipped:
            one = FrameResult(
                area_px=masks[index].sum(axis=(1, 2), dtype=np.int64),
                confidence=confidence[index],
                presence=presence[index],
                agreement=agreement[index],
                disagrees=agreement[index] < 0.5,
                reanchored=np.zeros(number, bool),
            )
            found.keep(index, masks[index], one)
    return found
