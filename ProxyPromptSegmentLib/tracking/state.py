"""What a tracker says of a frame, and what it holds of a sequence between two frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from ProxyPromptSegmentLib.inference.results import THRESHOLD, FrameResult, confidence_of
from ProxyPromptSegmentLib.inference.segmenter import EncodedSlices
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, logits_to_slice
from ProxyPromptSegmentLib.networks.protocols import Decoded, FrameMemory, Prompt, presence_of
from ProxyPromptSegmentLib.tracking.agreement import Agreement
from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank

ARRAYS = ("probability", "presence", "quality", "agreement", "disagrees", "reanchored")


@dataclass(frozen=True, kw_only=True)
class FramePrediction:
    """The prediction for one frame and ``N`` objects.

    Attributes:
        index: Number of the frame, as the caller counts.
        probability: Of the mask, without presence; float32 ``(N, H, W)``.
        presence: Probability that the object is in the frame at all, ``(N,)``.
        quality: The decoder's estimate of its own IoU, 0..1, ``(N,)``.
        agreement: How far the proxy prompt alone and the prediction with memory say the same, 0..1, ``(N,)``; nan
            where this was not checked.
        disagrees: Where they do not, and somebody should look, bool ``(N,)``.
        reanchored: Objects whose memory was dropped here, so that the proxy prompt alone speaks; bool ``(N,)``.
    """

    index: int
    probability: np.ndarray
    presence: np.ndarray
    quality: np.ndarray
    agreement: np.ndarray
    disagrees: np.ndarray
    reanchored: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def masks(self, threshold: float = THRESHOLD) -> np.ndarray:
        """Masks uint8 ``(N, H, W)``: probability times presence above the threshold, of this frame alone."""
        return (self.probability * self.presence[:, None, None] > threshold).astype(np.uint8)

    def confidence(self, threshold: float = THRESHOLD) -> np.ndarray:
        """0..1 for each object: the estimated IoU lowered by doubt in presence where shown, else of absence."""
        shown = self.masks(threshold).any(axis=(-2, -1))
        return confidence_of(shown, self.quality, self.presence)


def frame_result(
    prediction: FramePrediction, masks: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32] | None = None
) -> FrameResult:
    """Return what a prediction and the masks that were made of it say of a frame.

    Args:
        prediction: For ``N`` objects; its probability is not used.
        masks: uint8 ``(N, H, W)``.
        confidence: Of the masks, ``(N,)``; by default by `confidence_of`.
    """
    if confidence is None:
        confidence = confidence_of(masks.any(axis=(1, 2)), prediction.quality, prediction.presence)
    return FrameResult(
        area_px=masks.sum(axis=(1, 2), dtype=np.int64),
        confidence=confidence,
        presence=prediction.presence,
        agreement=prediction.agreement,
        disagrees=prediction.disagrees,
        reanchored=prediction.reanchored if len(prediction.reanchored) else np.zeros(len(masks), bool),
    )


@dataclass(frozen=True, kw_only=True)
class Present:
    """The last frame: it can still be corrected or predicted anew, and enters the banks when time goes on.

    Attributes:
        frame: Number in the order of tracking.
        encoded: Its embedding.
        prediction: What was said of it.
        memories: What will be remembered of it, one for each object; empty where nothing is remembered.
        agreed: What comparing proxy prompt and memory found.
        corrected: Objects that somebody corrected.
        stale: Whether the objects were switched since.
    """

    frame: int
    encoded: EncodedSlices
    prediction: FramePrediction
    memories: tuple[FrameMemory, ...]
    agreed: Agreement
    corrected: frozenset[int] = frozenset()
    stale: bool = False


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A moment of tracking, to which `Tracker.return_to` goes back.

    Attributes:
        banks: The memory of each object.
        frame: Number of the next frame in the order of tracking.
        begun: Number of the frame from which the support speaks.
        index: The caller's number of the next frame.
        shape: Rows and columns of the frames; None before the first.
        asked_from: See `Agreement`.
        present: The last frame.
    """

    banks: tuple[MemoryBank, ...] = ()
    frame: int = 0
    begun: int = 0
    index: int = 0
    shape: tuple[int, int] | None = None
    asked_from: tuple[int, ...] = ()
    present: Present | None = None


def answer_of(decoded: Decoded, prompt: Prompt, box: Letterbox) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability ``(N, H, W)``, presence and quality ``(N,)`` of one frame."""
    probability = torch.sigmoid(logits_to_slice(decoded.logits[0], box)).cpu().numpy()
    quality = decoded.quality[0].float().clamp(0, 1)
    score = presence_of(decoded, prompt)
    presence = torch.ones_like(quality) if score is None else torch.sigmoid(score[0].float())
    both = torch.stack([presence, quality]).cpu().numpy()
    return probability, both[0], both[1]


def unchecked(index: int, probability: np.ndarray, presence: np.ndarray, quality: np.ndarray) -> FramePrediction:
    """A prediction that was not compared with the proxy prompt."""
    none = np.zeros(len(presence), bool)
    doubt = np.full(len(presence), np.nan, np.float32)
    return FramePrediction(
        index=index,
        probability=probability,
        presence=presence,
        quality=quality,
        agreement=doubt,
        disagrees=none,
        reanchored=none.copy(),
    )


def given_answer(index: int, masks: np.ndarray) -> FramePrediction:
    """What given masks ``(N, H, W)`` say of their objects."""
    there = np.asarray(masks.any(axis=(-2, -1)), np.float32)
    return unchecked(index, masks.astype(np.float32), there, np.ones(len(masks), np.float32))


def objects_of(prediction: FramePrediction, tracks: Sequence[int]) -> FramePrediction:
    """The prediction of some objects."""
    return FramePrediction(index=prediction.index, **{name: getattr(prediction, name)[list(tracks)] for name in ARRAYS})


def with_objects(
    present: Present, tracks: Sequence[int], answer: FramePrediction, memories: Sequence[FrameMemory]
) -> Present:
    """The frame with a correction of some objects.

    Args:
        present: The frame as predicted.
        tracks: The objects.
        answer: What is said of these now.
        memories: What is to be remembered of these, one each; empty where nothing is remembered.
    """
    arrays = {name: getattr(present.prediction, name).copy() for name in ARRAYS}
    for name in ARRAYS:
        arrays[name][list(tracks)] = getattr(answer, name)
    kept = list(present.memories)
    for track, memory in zip(tracks, memories, strict=False):
        kept[track] = memory
    prediction = FramePrediction(index=present.prediction.index, **arrays)
    corrected = present.corrected | set(tracks)
    return replace(present, prediction=prediction, memories=tuple(kept), corrected=corrected)
