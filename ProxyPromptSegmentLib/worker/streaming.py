"""Streaming of slices to the panel: each one as soon as it is segmented, and again if its final masks differ."""

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
    """Return the batches of slices in the order of segmenting: outwards from the slice on screen.

    The batches are those of the slices' own order, so that the results do not depend on the order of computing.

    Args:
        slices: Indices of the slices; repeated ones count once.
        batch: Number of slices per batch.
        first: Index of the slice on screen, which need not be among ``slices``; None keeps the order.
    """
    wanted = list(dict.fromkeys(slices))
    batches = [wanted[start : start + batch] for start in range(0, len(wanted), batch)]
    if first is None:
        return batches
    nearest = min(range(len(wanted)), key=lambda place: abs(wanted[place] - first)) // batch if wanted else 0
    return [batches[place] for place in sorted(range(len(batches)), key=lambda place: abs(place - nearest))]


class Stream:
    """A sender of slices that remembers the masks it sent, with one bit per voxel."""

    def __init__(self, send: Send) -> None:
        """Send slices to ``send``, called with index, masks ``(N, H, W)``, confidences ``(N,)`` and whether final."""
        self._send = send
        self._sent: dict[int, bytes] = {}

    def now(self, index: int, masks: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32]) -> None:
        """Send the preliminary masks ``(N, H, W)`` and confidences ``(N,)`` of a slice."""
        self._sent[index] = np.packbits(masks).tobytes()
        self._send(index, masks, confidence, False)

    def from_result(self, result: SegmentResult, indices: Iterable[int], threshold: float) -> None:
        """Send the preliminary masks of some slices of a result."""
        for index in indices:
            masks = result.slice_masks(index, threshold)
            self.now(index, masks, result.slice_confidence(index, masks))

    def end(self, indices: Iterable[int], masks: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32]) -> None:
        """Send the slices whose final masks, ``(S, N, H, W)``, differ from those sent last, or were not sent.

        A slice that was sent and is not among ``indices`` is sent too: its final mask is empty.
        """
        for index in sorted({*indices, *self._sent}):
            if np.packbits(masks[index]).tobytes() != self._sent.get(index):
                self._send(index, masks[index].copy(), confidence[index].copy(), True)
