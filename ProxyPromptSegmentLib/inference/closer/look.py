"""Segments small structures a second time, enlarged, and joins both results."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.closer.choice import AGREEMENT, WEIGHT, Crop, crop_around
from ProxyPromptSegmentLib.inference.helps import Helps
from ProxyPromptSegmentLib.inference.results import THRESHOLD

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.results import SegmentResult
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.networks.values import PreparedSupport


@dataclass(frozen=True, eq=False)
class CloserLook:
    """The second look at some objects of a target.

    Attributes:
        segmenter: Model and device.
        objects: Numbers of the objects, of all that are segmented.
        support: The prepared support of these objects, see `choice.enlarged`.
    """

    segmenter: Segmenter
    objects: tuple[int, ...]
    support: PreparedSupport

    def into(
        self,
        result: SegmentResult,
        images: np.ndarray,
        index: int,
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        helps: Helps | None = None,
        keep: Callable[[np.ndarray], MutableMapping[int, EncodedSlices]] | None = None,
    ) -> None:
        """Look closer at a slice and join what is seen with its probabilities; presence and quality stay.

        Nothing is done where the whole slice showed none of the objects, nor for an object that looks quite different
        from close by, such as one that is not found there.

        Args:
            result: The result of ``images``, in which the whole slice is segmented.
            images: ``(S, H, W)`` or ``(S, H, W, 3)``.
            index: 0-based index of the slice.
            window: Intensities mapped to 0 and 1, those of the whole target.
            spacing_mm: Pixel size (row, column).
            helps: What is known of the slices beside their images.
            keep: Returns cached embeddings of a stack of one crop, which are reused and completed.
        """
        objects = list(self.objects)
        present = result.presence[index, objects] > THRESHOLD
        shown = (result.probability[index, objects] > THRESHOLD) & present[:, None, None]
        crop = crop_around(np.any(shown, axis=0), spacing_mm)
        if crop is None:
            return
        image = np.ascontiguousarray(images[index][crop])[None]
        known = _within(helps or Helps(), index, objects, crop)
        encoded = self.segmenter.embedded(image, [0], window, spacing_mm, None if keep is None else keep(image))
        (seen,) = self.segmenter.predict(encoded.at_depths(known.depths), self.support, helps=known)
        for own, number in enumerate(objects):
            whole = result.probability[index, number][crop]
            if dice(shown[own][crop], seen.probability[own] > THRESHOLD) < AGREEMENT:
                continue
            result.probability[index, number][crop] = (1 - WEIGHT) * whole + WEIGHT * seen.probability[own]


def _within(helps: Helps, index: int, objects: list[int], crop: Crop) -> Helps:
    """Return what is known of the part of a slice."""
    known = helps.at([index])
    if known.prior is None:
        return known
    return replace(known, prior=np.ascontiguousarray(known.prior[:, objects][(..., *crop)]))
