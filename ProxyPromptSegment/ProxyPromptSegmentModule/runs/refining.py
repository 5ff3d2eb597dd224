"""What can be done with the masks of a run that has ended: small pieces removed, slices smoothed, its certainty shown.

All of it is computed on the worker thread from what the run keeps; the main thread only writes the slices that change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.refinement import drop_small_pieces, smooth_between_slices

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.geometry import SliceView
    from ProxyPromptSegmentLib.inference.results import SegmentResult
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine

Masks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Refinement:
    """How masks are refined.

    Attributes:
        pieces: Whether pieces that are much smaller than the largest one are removed.
        smooth: Whether slices are smoothed with their neighbours.
    """

    pieces: bool = False
    smooth: bool = False


@dataclass(frozen=True, eq=False)
class Refined:
    """Refined masks.

    Attributes:
        how: How they were refined.
        masks: All masks, uint8 ``(S, N, H, W)``.
        changed: Slices that differ from what was shown before.
    """

    how: Refinement
    masks: Masks
    changed: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class RefineTask:
    """The task that refines the masks of a run.

    Attributes:
        masks: The masks as the run made them, uint8 ``(S, N, H, W)``.
        shown: The masks as they are shown now.
        done: Slices that were computed, bool ``(S,)``.
        how: How they are to be refined.
    """

    masks: Masks
    shown: Masks
    done: npt.NDArray[np.bool_]
    how: Refinement

    def __call__(self, engine: Engine, context: Context) -> Refined:
        """Do the work on the worker thread."""
        masks = self.masks.copy()
        for number in range(masks.shape[1]):
            if self.how.pieces:  # first: a speck would pull at the slice beside it
                masks[:, number] = drop_small_pieces(masks[:, number])
            if self.how.smooth:
                masks[:, number] = smooth_between_slices(masks[:, number], self.done)
        changed = [int(index) for index in range(len(masks)) if (masks[index] != self.shown[index]).any()]
        return Refined(self.how, masks, tuple(changed))


@dataclass(frozen=True, eq=False, kw_only=True)
class UnsureTask:
    """The task that draws where a run was not sure; returns uint8 ``(K, J, I)``, 255 where it was not at all."""

    result: SegmentResult
    view: SliceView
    shape: tuple[int, int, int]
    threshold: float

    def __call__(self, engine: Engine, context: Context) -> Masks:
        """Do the work on the worker thread."""
        values = np.zeros(self.shape, np.uint8)
        slices = self.view.take(values)
        for index in np.flatnonzero(self.result.done):
            slices[index] = unsure(self.result.gated_slice(int(index)), self.threshold).max(axis=0)
        return values


def unsure(probability: npt.NDArray[np.float32], threshold: float) -> Masks:
    """Return how near probabilities are to the threshold: 255 there, 0 for impossible and certain; the same shape."""
    above = probability > threshold
    far = np.where(above, (probability - threshold) / (1 - threshold), (threshold - probability) / threshold)
    values: Masks = np.rint(255 * (1 - np.clip(far, 0, 1))).astype(np.uint8)
    return values
