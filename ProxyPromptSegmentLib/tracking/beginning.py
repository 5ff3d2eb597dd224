"""The beginning of tracking where there is no support: a frame on which the user says by hand where the objects are."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.inference.by_hand.decode import corrected, nothing_yet
from ProxyPromptSegmentLib.inference.by_hand.prompts import OnSlice
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.tracking.clicks import masks_of
from ProxyPromptSegmentLib.tracking.state import FramePrediction
from ProxyPromptSegmentLib.tracking.tracker import Tracker


def begin_by_hand(
    tracker: Tracker, image: np.ndarray, said: OnSlice, index: int, encoded: EncodedSlices
) -> FramePrediction:
    """Begin a sequence with a frame that is prompted by hand, like SAM 2's annotated first frame.

    Args:
        tracker: A tracker without a support whose sequence has begun, with the names of the objects.
        image: ``(H, W)`` or ``(H, W, 3)``.
        said: What the user says, by number of the object; the others are not on the frame.
        index: The caller's number of the frame.
        encoded: The embedding of the image.

    Raises:
        InputError: If the image cannot be used.
        UsageError: If a frame was predicted already.
    """
    drawn = corrected(
        tracker.segmenter, encoded, said, nothing_yet(0, len(tracker.names), (image.shape[0], image.shape[1]))
    )
    tracker.anchor(image, masks_of(drawn))
    tracker.step(image, index, encoded)
    # What the user says is the answer, not what the memory of it draws.
    return tracker.correct_by_hand(said, anew=True)
