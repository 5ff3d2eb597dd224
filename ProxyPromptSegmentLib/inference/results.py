"""What a segmenter or a tracker found: probabilities slice by slice, and the masks and doubts that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.postprocess import drop_small_parts, smooth_over_slices, smooth_slice
from ProxyPromptSegmentLib.remedies import Note

THRESHOLD = 0.5
"""Probability above which a voxel belongs to the object, unless the user chooses another."""

PRESENCE_THRESHOLD = 0.5
"""Presence from which an object counts as being in a slice."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Which weights computed a result.

    Attributes:
        name: Name of the model.
        sha256: Hash of its file.
        path: Its file.
        metadata: What the checkpoint says of itself.
    """

    name: str
    sha256: str
    path: Path
    metadata: dict[str, Any] = field(default_factory=dict)


def confidence_of(
    shown: npt.ArrayLike, quality: npt.NDArray[np.floating], presence: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Return how sure the model is of what it shows, 0..1: the one formula for slices and frames.

    Args:
        shown: Whether the mask has any pixel, bool; the shape of ``quality``.
        quality: The decoder's estimate of the mask's IoU.
        presence: Probability that the object is in the slice at all.

    Returns:
        float32, the same shape. Where the object is shown: the estimated IoU, lowered where presence is in doubt;
        elsewhere: the probability that it is absent.
    """
    return np.where(shown, np.clip(quality, 0, 1) * presence, 1.0 - presence).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SlicePrediction:
    """The prediction for one slice.

    Attributes:
        index: Position of the slice in the order that was asked for.
        probability: float32 ``(N, H, W)``.
        presence: Probability that the object is in the slice at all, ``(N,)``; 1 where the model has no such head.
        quality: The decoder's estimate of its own IoU, 0..1, ``(N,)``.
    """

    index: int
    probability: np.ndarray
    presence: np.ndarray
    quality: np.ndarray


@dataclass(kw_only=True)
class SegmentResult:
    """The prediction for all slices that were done.

    Attributes:
        objects: Names of the ``N`` objects.
        probability: float32 ``(S, N, H, W)``; 0 where not done.
        presence: ``(S, N)``.
        quality: ``(S, N)``.
        done: bool ``(S,)``.
        cancelled: Whether somebody stopped it.
        notes: What the user should know.
        one_piece: For each object whether the supports show it in one piece.
        across_slices: Whether masks use what neighbouring slices say; see `postprocess`.
    """

    objects: tuple[str, ...]
    probability: np.ndarray
    presence: np.ndarray
    quality: np.ndarray
    done: np.ndarray
    cancelled: bool = False
    notes: list[Note] = field(default_factory=list)
    one_piece: tuple[bool, ...] = ()
    across_slices: bool = True

    def gated_probability(self) -> np.ndarray:
        """Probability of each voxel, times the presence of the object in its slice; float32 ``(S, N, H, W)``.

        Both are averaged with the neighbouring slices (``across_slices``), because an organ does not flicker.
        """
        return np.stack([self._gated(index) for index in range(len(self.done))])

    def _gated(self, index: int) -> np.ndarray:
        """One slice of `gated_probability`, so that a long volume is not copied whole."""
        if not self.across_slices:
            return self.probability[index] * self.presence[index][:, None, None]
        presence = smooth_slice(self.presence, self.done, index)
        return smooth_slice(self.probability, self.done, index) * presence[:, None, None]

    def slice_masks(self, index: int, threshold: float = THRESHOLD) -> np.ndarray:
        """Binary masks uint8 ``(N, H, W)`` of one slice, by the neighbours that are done so far.

        Parts that are small beside the largest of the whole object are still in it; see `masks`.
        """
        return (self._gated(index) > threshold).astype(np.uint8)

    def slice_confidence(self, index: int, masks: np.ndarray) -> np.ndarray:
        """`confidence` of one slice, ``(N,)``, by what is done so far.

        Args:
            index: The slice.
            masks: Its masks ``(N, H, W)``.
        """
        presence = smooth_slice(self.presence, self.done, index)
        return confidence_of(masks.any(axis=(-2, -1)), self.quality[index], presence)

    def masks(self, threshold: float = THRESHOLD) -> np.ndarray:
        """Binary masks uint8 ``(S, N, H, W)``: where the gated probability is above the threshold.

        Of an object that the supports show in one piece, parts that are small beside the largest are left out.
        """
        masks = np.stack([self.slice_masks(index, threshold) for index in range(len(self.done))])
        for number, whole in enumerate(self.one_piece):
            if whole and self.across_slices:
                masks[:, number] = drop_small_parts(masks[:, number])
        return masks

    def confidence(self, masks: np.ndarray | None = None) -> np.ndarray:
        """0..1 for each slice and object, ``(S, N)``: how sure the model is of what it shows there.

        On a slice where the object is shown: the estimated IoU, lowered where presence is in doubt; elsewhere:
        how sure it is that nothing is there.
        """
        # Averaged in any case: a slice beside one without the object is in doubt.
        smooth = smooth_over_slices(self.presence, self.done)
        shown = (self.masks() if masks is None else masks).any(axis=(-2, -1))
        return confidence_of(shown, self.quality, smooth)


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """What was found on one frame, or on one slice that was followed, for each of the ``N`` objects.

    Attributes:
        area_px: Pixels inside the mask, ``(N,)``.
        confidence: 0..1, see `confidence_of`.
        presence: 0..1.
        agreement: Of proxy prompt and memory, 0..1; nan where they were not compared.
        disagrees: Whether the two disagree, so that the frame should be reviewed.
        reanchored: Whether the memory was dropped here.
    """

    area_px: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    agreement: npt.NDArray[np.float32]
    disagrees: npt.NDArray[np.bool_]
    reanchored: npt.NDArray[np.bool_]


def empty_result(
    objects: tuple[str, ...],
    count: int,
    shape: tuple[int, int],
    one_piece: tuple[bool, ...] = (),
    across_slices: bool = True,
) -> SegmentResult:
    """A result in which nothing is done yet.

    Args:
        objects: Names of the ``N`` objects.
        count: Number of slices ``S``.
        shape: Rows and columns of a slice.
        one_piece: See `SegmentResult`.
        across_slices: See `SegmentResult`.
    """
    return SegmentResult(
        objects=objects,
        probability=np.zeros((count, len(objects), *shape), np.float32),
        presence=np.zeros((count, len(objects)), np.float32),
        quality=np.zeros((count, len(objects)), np.float32),
        done=np.zeros(count, bool),
        one_piece=one_piece,
        across_slices=across_slices,
    )
