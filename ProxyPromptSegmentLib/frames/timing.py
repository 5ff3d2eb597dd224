"""Presentation times of frames and the intervals between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.frames import FrameSource


def time_of(source: FrameSource, index: int) -> float | None:
    """Return the presentation time of a frame in seconds; None if it is not known."""
    times = source.times_s
    return times[index] if times and index < len(times) else None


def time_steps(source: FrameSource, indices: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the intervals in seconds between neighbouring frames among ``indices``, where known."""
    timed = {index: t for index in indices if (t := time_of(source, index)) is not None}
    return np.array([timed[index + 1] - t for index, t in timed.items() if index + 1 in timed])
