"""Frames one by one, each without the others: for prompts that need neither a support nor a memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.tracking.inputs import frame_shape
from ProxyPromptSegmentLib.tracking.state import FramePrediction

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.values import Prepared


class FrameByFrame:
    """What a `Tracker` offers to a clip, without a memory."""

    def __init__(self, segmenter: Segmenter, ruled_out: frozenset[int] = frozenset()) -> None:
        """Use a model.

        Args:
            segmenter: Model and device.
            ruled_out: Numbers of the objects that the frames cannot show, which are answered with nothing.
        """
        self._segmenter, self._ruled_out = segmenter, sorted(ruled_out)
        self._shape: tuple[int, int] | None = None

    def start(self, prepared: Prepared, window: tuple[float, float], spacing_mm: tuple[float, float]) -> None:
        """Begin with prepared objects; arguments as of `Tracker.start`."""
        self._prepared, self._window, self._spacing_mm = prepared, window, spacing_mm

    def step(self, image: np.ndarray, index: int) -> FramePrediction:
        """Predict a frame, ``(H, W)`` or ``(H, W, 3)``.

        Raises:
            InputError: If it has another size than the first, or NaN or infinite intensities.
        """
        self._shape = frame_shape(image, f"frame {index}", self._shape)
        encoded = self._segmenter.encode(image[None], self._window, self._spacing_mm)
        (answer,) = self._segmenter.predict(encoded, self._prepared)
        presence, count = answer.presence.copy(), len(answer.presence)
        presence[self._ruled_out] = 0
        return FramePrediction(
            index=index,
            probability=answer.probability,
            presence=presence,
            quality=answer.quality,
            agreement=np.full(count, np.nan, np.float32),
            disagrees=np.zeros(count, bool),
            evidence=answer.evidence,
        )

    def skip(self, index: int) -> None:
        """Do nothing: no frame is remembered."""
