"""Slices on their way to whoever watches: as soon as there is something to show, and again where it has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.results import SegmentResult

__all__ = ["Stream", "outwards"]

Send = Callable[[int, npt.NDArray[np.uint8], npt.NDArray[np.float32], bool], None]


def outwards(slices: Sequence[int], batch: int, first: int | None) -> list[list[int]]:
    """The order in which slices are segmented: from the one on screen both ways.

    Slices stay in the batches that they have in their own order, so that batches give the same numbers in every order.

    Args:
        slices: Which; repeated ones count once.
        batch: How many go through together.
        first: The slice on screen, or the one nearest to it; None keeps the order.
    """
    wanted = list(dict.fromkeys(slices))
    batches = [wanted[start : start + batch] for start in range(0, len(wanted), batch)]
    if first is None:
        return batches
    nearest = min(range(len(wanted)), key=lambda place: abs(wanted[place] - first)) // batch if wanted else 0
    return [batches[place] for place in sorted(range(len(batches)), key=lambda place: abs(place - nearest))]


class Stream:
    """Remembers what was sent of each slice, in a bit for each voxel."""

    def __init__(self, send: Send) -> None:
        """Takes where slices go: index, masks, confidence, final."""
        self._send = send
        self._sent: dict[int, bytes] = {}

    def now(self, index: int, masks: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32]) -> None:
        """Sends a slice as it is known now."""
        self._sent[index] = np.packbits(masks).tobytes()
        self._send(index, masks, confidence, False)

    def from_result(self, result: SegmentResult, indices: Iterable[int], threshold: float) -> None:
        """Sends slices of a result as they are known now."""
        for index in indices:
            masks = result.slice_masks(index, threshold)
            self.now(index, masks, result.slice_confidence(index, masks))

    def end(self, indices: Iterable[int], masks: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32]) -> None:
        """Sends the slices whose final masks, ``(S, N, H, W)``, are others than what was sent last, or were not sent.

        A slice that was sent and is not among ``indices`` is sent too: its final mask is empty.
        """
        for index in sorted({*indices, *self._sent}):
            if np.packbits(masks[index]).tobytes() != self._sent.get(index):
                self._send(index, masks[index].copy(), confidence[index].copy(), True)
