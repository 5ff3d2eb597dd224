"""What scripts give to the public functions, checked and converted for tasks; without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.events import Event, SliceReady

OnSlice = Callable[[int, npt.NDArray[np.uint8], npt.NDArray[np.float32]], None]
"""Called with each segmented slice or frame: 0-based index, masks ``(N, H, W)`` and confidences ``(N,)``."""


class Where(TypedDict):
    """Settings that all tasks of a loaded model share."""

    model: str
    device: str
    precision: str


def names_of(objects: Sequence[str] | str | None) -> Sequence[str] | None:
    """Return names as a list; a single name is one object, not its letters."""
    return [objects] if isinstance(objects, str) else objects


def check_settings(threshold: float, most_read: int | None) -> None:
    """Refuse a threshold that no probability can be compared with, and slices that read no support.

    Raises:
        UsageError: If the threshold is not between 0 and 1, or the number of supports is below 1.
    """
    if not 0 < threshold < 1:
        raise UsageError(f"the threshold is {threshold:g}; give a probability between 0 and 1")
    if most_read is not None and most_read < 1:
        raise UsageError(f"{most_read} supports per slice were requested; give at least 1, or None for all")


def context_of(progress: Progress | None, cancel: CancelToken | None, on_slice: OnSlice | None) -> Context:
    """Return a context that forwards slices to ``on_slice`` and ignores all other events."""

    def emit(event: Event) -> None:
        if on_slice is not None and isinstance(event, SliceReady):
            on_slice(event.index, event.masks, event.confidence)

    return Context(0, cancel or CancelToken(), emit, progress=progress or Progress())
