"""Results of a segmenter or a tracker: probabilities by slice, and the masks and confidences derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.calibration import EVIDENCE
from ProxyPromptSegmentLib.inference.gaps import fill_gaps
from ProxyPromptSegmentLib.inference.postprocess import drop_small_parts, smooth_slice
from ProxyPromptSegmentLib.remedies import Note

SINGLE_TYPE = "float32"
"""The type in which products are computed unless half precision is used."""
THRESHOLD = 0.5
"""Probability above which a voxel belongs to the object, unless the user chooses another."""

PRESENCE_THRESHOLD = 0.5
"""Presence above which an object counts as shown on a slice."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The weights that computed a result.

    Attributes:
        name: Name of the model.
        sha256: SHA-256 of its file.
        path: Its file.
        metadata: Metadata of the checkpoint.
    """

    name: str
    sha256: str
    path: Path
    metadata: dict[str, Any] = field(default_factory=dict)


def confidence_of(
    shown: npt.ArrayLike, quality: npt.NDArray[np.floating], presence: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Return the model's confidence in its masks, 0..1; the same formula for slices and frames.

    Args:
        shown: Whether the mask has any pixel, bool; the shape of ``quality``.
        quality: Confidence in the mask if it has pixels, clipped to 0..1; see `calibration`.
        presence: Probability that the slice shows the object at all, 0..1.

    Returns:
        float32, the same shape. For a mask with pixels: its quality; for an empty one: the probability that the object
        is absent.
    """
    return np.where(shown, np.clip(quality, 0, 1), 1.0 - presence).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SlicePrediction:
    """The prediction for one slice.

    Attributes:
        index: Position of the slice in the requested order.
        probability: float32 ``(N, H, W)``, 0..1.
        presence: Probability that the slice shows the object at all, ``(N,)``; 1 if the model has no presence head.
        quality: Confidence in the mask if it has pixels, 0..1, ``(N,)``; see `calibration`.
        evidence: What presence and quality were estimated from, ``(N, E)``; see `calibration.EVIDENCE`. Empty if the
            slice was predicted in tiles.
    """

    index: int
    probability: np.ndarray
    presence: np.ndarray
    quality: np.ndarray
    evidence: np.ndarray = field(default_factory=lambda: np.zeros((0, len(EVIDENCE)), np.float32))


@dataclass(kw_only=True)
class SegmentResult:
    """The prediction for all finished slices.

    Attributes:
        objects: Names of the ``N`` objects.
        probability: float32 ``(S, N, H, W)``, 0..1; 0 for unfinished slices.
        presence: float32 ``(S, N)``, 0..1.
        quality: Confidence in the masks if they have pixels, float32 ``(S, N)``, 0..1; see `calibration`.
        done: Which slices are finished, bool ``(S,)``.
        cancelled: Whether the run was cancelled between two slices.
        notes: Notes for the user.
        one_piece: Whether the supports show each object in one piece.
        across_slices: Whether masks use neighbouring slices; see `postprocess`.
        fill_gaps: Whether empty slices between slices that show an object are filled where the mask itself supports
            it, see `gaps`; only with ``across_slices``.
        evidence: What presence and quality were estimated from, float32 ``(S, N, E)``; NaN for unfinished slices and
            all but the distance of objects in tiles.
        thin: For each object whether it is thin, such as a vessel. It lies elsewhere on the next slice and a gap tears
            it apart, so neither are its slices averaged nor its small components removed; empty means that none is.
        by_hand: Masks that a user prompted by hand, bool ``(S, N)``: they stay as they were decoded, whatever the
            neighbouring slices show. None if there is none.
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
    fill_gaps: bool = True
    evidence: np.ndarray | None = None
    thin: tuple[bool, ...] = ()
    by_hand: npt.NDArray[np.bool_] | None = None

    def gated_probability(self) -> np.ndarray:
        """Return the probability of each voxel times the presence of the object; float32 ``(S, N, H, W)``.

        With ``across_slices``, both are averaged with the neighbouring slices, because organs are continuous.
        """
        return np.stack([self.gated_slice(index) for index in range(len(self.done))])

    def gated_slice(self, index: int) -> np.ndarray:
        """Return one slice of `gated_probability`, ``(N, H, W)``, so that a long volume need not be copied."""
        if not self.across_slices:
            return self.probability[index] * self.presence[index][:, None, None]
        return self._smooth(self.probability, index) * self._smooth(self.presence, index)[:, None, None]

    def _smooth(self, values: np.ndarray, index: int) -> np.ndarray:
        """Return one slice of values ``(S, N, ...)``, averaged with its neighbours except for thin objects.

        What was prompted by hand is not averaged either.
        """
        smooth = smooth_slice(values, self.done, index)
        for number in np.flatnonzero(self.thin):
            smooth[number] = values[index, number]
        if self.by_hand is not None:
            smooth[self.by_hand[index]] = values[index, self.by_hand[index]]
        return smooth

    def slice_masks(self, index: int, threshold: float = THRESHOLD) -> np.ndarray:
        """Return the masks of one slice, uint8 ``(N, H, W)``, smoothed with its finished neighbours.

        Small components are not removed, unlike in `masks`.
        """
        return (self.gated_slice(index) > threshold).astype(np.uint8)

    def slice_confidence(self, index: int, masks: np.ndarray) -> np.ndarray:
        """Return the `confidence` of one slice, ``(N,)``, smoothed with its finished neighbours.

        Args:
            index: Index of the slice.
            masks: Its masks ``(N, H, W)``.
        """
        presence = self._smooth(self.presence, index)
        shown = masks.any(axis=(-2, -1))
        return confidence_of(shown, self.quality[index] * _kept(presence, self.presence[index]), presence)

    def masks(self, threshold: float = THRESHOLD) -> np.ndarray:
        """Return the masks of `masks_and_filled`."""
        return self.masks_and_filled(threshold)[0]

    def masks_and_filled(self, threshold: float = THRESHOLD) -> tuple[np.ndarray, np.ndarray]:
        """Return the final masks, and which of them were filled in.

        A mask is 1 where the gated probability exceeds the threshold. With ``across_slices``, components much smaller
        than the largest are removed of objects that the supports show in one piece, and gaps are filled.

        Returns:
            Masks, uint8 ``(S, N, H, W)``; slices that `fill_gaps` filled, bool ``(S, N)``.
        """
        masks = np.stack([self.slice_masks(index, threshold) for index in range(len(self.done))])
        filled = np.zeros(masks.shape[:2], bool)
        if not self.across_slices:
            return masks, filled
        for number in range(len(self.objects)):
            whole = bool(self.one_piece) and self.one_piece[number] and not any(self.thin[number : number + 1])
            drawn = masks[:, number].copy()
            if whole:
                masks[:, number] = drop_small_parts(masks[:, number])
            if self.fill_gaps:
                mask = masks[:, number].copy()
                filled[fill_gaps(mask, partial(self._ungated, number, threshold, whole), self.done), number] = True
                masks[:, number] = mask
            if self.by_hand is not None:
                said = self.by_hand[:, number]
                masks[said, number], filled[said, number] = drawn[said], False
        return masks, filled

    def _ungated(self, number: int, threshold: float, whole: bool, index: int) -> np.ndarray:
        """Return one object's mask on one slice without its presence, bool ``(H, W)``."""
        alone = any(self.thin[number : number + 1])
        of_object = self.probability[:, number]
        mask = (of_object[index] if alone else smooth_slice(of_object, self.done, index)) > threshold
        return drop_small_parts(mask[None])[0] > 0 if whole else mask

    def confidence(self, masks: np.ndarray | None = None) -> np.ndarray:
        """Return the confidence of each slice and object, 0..1, ``(S, N)``; see `confidence_of`.

        Args:
            masks: Masks ``(S, N, H, W)``; by default those at the default threshold.
        """
        # Averaged even without `across_slices`: a slice next to one without the object is less certain.
        smooth = np.stack([self._smooth(self.presence, index) for index in range(len(self.done))])
        shown = (self.masks() if masks is None else masks).any(axis=(-2, -1))
        return confidence_of(shown, self.quality * _kept(smooth, self.presence), smooth)


def _kept(smooth: np.ndarray, presence: np.ndarray) -> np.ndarray:
    """Return the share of presence that is left after averaging with the neighbouring slices, at most 1."""
    return np.minimum(1.0, smooth / np.maximum(presence, 1e-6))


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """The result of one frame, or of one tracked slice, for ``N`` objects; all arrays are ``(N,)``.

    Attributes:
        area_px: Number of pixels in the mask.
        confidence: Confidence, 0..1, see `confidence_of`.
        presence: Presence, 0..1.
        agreement: Agreement of proxy prompt and memory, 0..1; NaN if they were not compared.
        disagrees: Whether the two disagree, so that the frame should be reviewed.
        reanchored: Whether the memory was dropped on this frame.
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
    thin: tuple[bool, ...] = (),
) -> SegmentResult:
    """Return a result without finished slices.

    Args:
        objects: Names of the ``N`` objects.
        count: Number of slices ``S``.
        shape: Rows and columns of a slice.
        one_piece: See `SegmentResult`.
        across_slices: See `SegmentResult`.
        thin: See `SegmentResult`.
    """
    return SegmentResult(
        objects=objects,
        probability=np.zeros((count, len(objects), *shape), np.float32),
        presence=np.zeros((count, len(objects)), np.float32),
        quality=np.zeros((count, len(objects)), np.float32),
        done=np.zeros(count, bool),
        one_piece=one_piece,
        across_slices=across_slices,
        thin=thin,
        evidence=np.full((count, len(objects), len(EVIDENCE)), np.nan, np.float32),
    )
