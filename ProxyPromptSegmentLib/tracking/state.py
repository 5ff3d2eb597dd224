"""The prediction of a tracker for a frame, and its state between two frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, Calibration
from ProxyPromptSegmentLib.inference.evidence import Judgement, judge
from ProxyPromptSegmentLib.inference.results import THRESHOLD, FrameResult, confidence_of
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.networks.letterbox import logits_to_slice
from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, Prompt
from ProxyPromptSegmentLib.tracking.agreement import Agreement
from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank

ARRAYS = ("probability", "presence", "quality", "agreement", "disagrees", "reanchored", "evidence")


@dataclass(frozen=True, kw_only=True)
class FramePrediction:
    """The prediction for one frame and ``N`` objects.

    Attributes:
        index: The caller's number of the frame.
        probability: Probability of each pixel, without presence; float32 ``(N, H, W)``, 0..1.
        presence: Probability that the frame shows the object at all, ``(N,)``.
        quality: Confidence in the mask if it has pixels, 0..1, ``(N,)``; see `calibration`.
        agreement: Agreement of the proxy prompt alone and the prediction with memory, 0..1, ``(N,)``; NaN if not
            checked.
        disagrees: Whether the two disagree, so that the frame should be reviewed; bool ``(N,)``.
        reanchored: Whether the memory was dropped, so that the prediction is that of the proxy prompt alone; bool
            ``(N,)``.
        evidence: What presence and quality were estimated from, ``(N, E)``; see `calibration.EVIDENCE`.
    """

    index: int
    probability: np.ndarray
    presence: np.ndarray
    quality: np.ndarray
    agreement: np.ndarray
    disagrees: np.ndarray
    reanchored: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    evidence: np.ndarray = field(default_factory=lambda: np.zeros((0, len(EVIDENCE)), np.float32))

    def masks(self, threshold: float = THRESHOLD) -> np.ndarray:
        """Return masks uint8 ``(N, H, W)``: 1 where probability times presence exceeds the threshold."""
        return (self.probability * self.presence[:, None, None] > threshold).astype(np.uint8)

    def confidence(self, threshold: float = THRESHOLD) -> np.ndarray:
        """Return the confidence of each object, 0..1, ``(N,)``; see `confidence_of`."""
        shown = self.masks(threshold).any(axis=(-2, -1))
        return confidence_of(shown, self.quality, self.presence)


def frame_result(
    prediction: FramePrediction, masks: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32] | None = None
) -> FrameResult:
    """Return the result of a frame from its prediction and its masks.

    Args:
        prediction: The prediction of ``N`` objects; its probability is not used.
        masks: uint8 ``(N, H, W)``.
        confidence: Confidence of the masks, ``(N,)``; by default by `confidence_of`.
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
    """The last frame, which can still be corrected or predicted again, and enters the banks with the next frame.

    Attributes:
        frame: Number of the frame in the order of tracking.
        encoded: Its embedding.
        prediction: Its prediction.
        memories: Its memory for each object; empty if none will be remembered.
        agreed: The comparison of proxy prompt and memory.
        corrected: Numbers of the objects that the user corrected.
        stale: Whether the objects were switched since the prediction.
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
    """The state of a tracker at one moment, which `Tracker.return_to` restores.

    Attributes:
        banks: The memory of each object.
        frame: Number of the next frame in the order of tracking.
        begun: Number of the frame from which the current support is used.
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


def answer_of(
    decoded: Decoded,
    prompt: Prompt,
    encoded: EncodedSlices,
    distance: torch.Tensor | None,
    calibration: Calibration | None,
) -> tuple[np.ndarray, Judgement]:
    """Return the probability ``(N, H, W)`` of one frame, and what is thought of it, ``(1, N)``."""
    probability = torch.sigmoid(logits_to_slice(decoded.logits[0], encoded.box)).cpu().numpy()
    return probability, judge(decoded, prompt, encoded.features, distance, calibration)


def unchecked(
    index: int, probability: np.ndarray, presence: np.ndarray, quality: np.ndarray, evidence: np.ndarray | None = None
) -> FramePrediction:
    """Return a prediction that was not compared with the proxy prompt; evidence is NaN if there is none."""
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
        evidence=np.full((len(presence), len(EVIDENCE)), np.nan, np.float32) if evidence is None else evidence,
    )


def given_answer(index: int, masks: np.ndarray) -> FramePrediction:
    """Return given masks ``(N, H, W)`` as a prediction."""
    there = np.asarray(masks.any(axis=(-2, -1)), np.float32)
    return unchecked(index, masks.astype(np.float32), there, np.ones(len(masks), np.float32))


def objects_of(prediction: FramePrediction, tracks: Sequence[int]) -> FramePrediction:
    """Return the prediction for some of the objects."""
    return FramePrediction(index=prediction.index, **{name: getattr(prediction, name)[list(tracks)] for name in ARRAYS})


def with_objects(
    present: Present, tracks: Sequence[int], answer: FramePrediction, memories: Sequence[FrameMemory]
) -> Present:
    """Return the last frame with a correction of some objects.

    Args:
        present: The frame as predicted.
        tracks: Numbers of the corrected objects.
        answer: Their corrected prediction.
        memories: Their memories, one each; empty if none will be remembered.
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
