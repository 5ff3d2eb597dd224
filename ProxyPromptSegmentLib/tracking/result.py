"""What following a target has found so far: masks packed to a few bytes, and a few numbers for each frame."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.tracking.tracker import FramePrediction

Masks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FrameFindings:
    """What was found on one frame, for each of the ``N`` objects.

    Attributes:
        area_px: Pixels inside the mask.
        confidence: 0..1, as in `SegmentResult.confidence`.
        presence: 0..1.
        agreement: Of proxy prompt and memory, 0..1; nan where they were not compared.
        disagrees: Whether somebody should look.
        reanchored: Whether the memory was dropped here.
    """

    area_px: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    agreement: npt.NDArray[np.float32]
    disagrees: npt.NDArray[np.bool_]
    reanchored: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, prediction: FramePrediction, masks: Masks, confidence: npt.NDArray[np.float32] | None = None
    ) -> FrameFindings:
        """Those of a prediction and the masks ``(N, H, W)`` that were made of it."""
        shown, presence = masks.any(axis=(1, 2)), prediction.presence
        if confidence is None:  # not the prediction's own, which knows only the threshold 0.5
            confidence = np.where(shown, np.clip(prediction.quality, 0, 1) * presence, 1 - presence).astype(np.float32)
        reanchored = prediction.reanchored if len(prediction.reanchored) else np.zeros(len(masks), bool)
        area = masks.sum(axis=(1, 2), dtype=np.int64)
        return cls(area, confidence, presence, prediction.agreement, prediction.disagrees, reanchored)


@dataclass
class Tracked:
    """What was found of a target.

    Attributes:
        objects: Names of the ``N`` objects.
        shape: Rows and columns of a frame.
        wanted: How many frames were asked for; None where the target does not say how many it has.
        done: What was found, by frame number.
        skipped: Why a frame was left out, by frame number.
        window: Intensities that were mapped to 0..1.
        cancelled: Whether somebody stopped it.
        seconds: Time of following, reading the frames included.
        notes: What the user should know, as sentences.
    """

    objects: tuple[str, ...]
    shape: tuple[int, int]
    wanted: int | None = None
    done: dict[int, FrameFindings] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    window: tuple[float, float] = (0.0, 1.0)
    cancelled: bool = False
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    _packed: dict[int, bytes] = field(default_factory=dict)

    def keep(self, index: int, masks: Masks, found: FrameFindings) -> None:
        """Takes the masks ``(N, H, W)`` of a frame. A mask is a few smooth outlines, so its bits pack very well."""
        self._packed[index] = zlib.compress(np.packbits(masks).tobytes(), 1)
        self.done[index] = found

    def masks(self, index: int) -> Masks | None:
        """The masks of a frame, uint8 ``(N, H, W)``; None if it was not done."""
        if index not in self._packed:
            return None
        shape = (len(self.objects), *self.shape)
        bits = np.frombuffer(zlib.decompress(self._packed[index]), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)

    def masks_of(self, numbers: Iterable[int]) -> Iterator[Masks]:
        """The masks of some frames, one after another; empty where a frame was not done."""
        for index in numbers:
            masks = self.masks(index)
            yield np.zeros((len(self.objects), *self.shape), np.uint8) if masks is None else masks

    @property
    def seen(self) -> list[int]:
        """Numbers of the frames that were looked at, in order."""
        return sorted({*self.done, *self.skipped})

    @property
    def disagreeing(self) -> dict[int, list[str]]:
        """Objects on whose place proxy prompt and memory disagree, by frame number."""
        return {
            index: [name for name, wrong in zip(self.objects, found.disagrees, strict=True) if wrong]
            for index, found in sorted(self.done.items())
            if found.disagrees.any()
        }
