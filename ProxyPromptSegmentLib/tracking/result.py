"""The result of tracking: compressed masks, and a few values for each frame."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.results import SINGLE_TYPE, FrameResult, ModelFacts
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.remedies import Note

Masks = npt.NDArray[np.uint8]
UNUSABLE = "it cannot be used"


@dataclass(kw_only=True)
class FramesResult:
    """The result of tracking through a clip, a sequence or the slices of a volume; the same for all interfaces.

    Attributes:
        objects: Names of the ``N`` objects.
        shape: Rows and columns of a frame.
        colors: Red, green, blue in 0..1 of each object, as in the support.
        terminologies: Slicer's terminology entry of each object, or None.
        values: Value of each object in a label map, as its support has it; 0 if it has none.
        count: Number of frames of the target; None if unknown.
        wanted: Number of requested frames; None if the target's number of frames is unknown.
        done: Results of the segmented frames, by frame index.
        skipped: Why a frame could not be used, by frame index.
        window: Intensities that were mapped to 0..1.
        cancelled: Whether the run was cancelled between two frames.
        notes: Notes for the user, including the fallbacks.
        seconds: Seconds of each stage; reading the frames counts as ``segmentation``.
        model: The model's weights; None before anything was computed.
        device: Device that computed the last frames, e.g. ``cuda:0`` or ``cpu``.
        rungs: Sentences about the fallbacks when memory ran out, in order; empty if it did not.
        half: Whether the last frames were computed in half precision.
        precision: The type of its products: ``float32``, ``bfloat16`` or ``float16``.
        filled: Objects that were filled in between slices that show them, by slice index of a volume.
    """

    objects: tuple[str, ...]
    shape: tuple[int, int]
    colors: tuple[tuple[float, float, float], ...] = ()
    terminologies: tuple[dict[str, Any] | None, ...] = ()
    values: tuple[int, ...] = ()
    count: int | None = None
    wanted: int | None = None
    done: dict[int, FrameResult] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    window: tuple[float, float] = (0.0, 1.0)
    cancelled: bool = False
    notes: list[Note] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    model: ModelFacts | None = None
    device: str = ""
    rungs: list[str] = field(default_factory=list)
    half: bool = False
    precision: str = SINGLE_TYPE
    filled: dict[int, list[str]] = field(default_factory=dict)
    _packed: dict[int, bytes] = field(default_factory=dict)

    def keep(self, index: int, masks: Masks, found: FrameResult) -> None:
        """Store masks ``(N, H, W)`` and result of a frame; masks have few smooth contours, so they compress well."""
        self._packed[index] = zlib.compress(np.packbits(masks).tobytes(), 1)
        self.done[index] = found

    def masks(self, index: int) -> Masks | None:
        """Return the masks of a frame, uint8 ``(N, H, W)``; None if it was not segmented."""
        if index not in self._packed:
            return None
        shape = (len(self.objects), *self.shape)
        bits = np.frombuffer(zlib.decompress(self._packed[index]), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)

    def masks_of(self, numbers: Iterable[int]) -> Iterator[Masks]:
        """Yield the masks of some frames, one after another; empty ones for frames that were not segmented."""
        for index in numbers:
            masks = self.masks(index)
            yield np.zeros((len(self.objects), *self.shape), np.uint8) if masks is None else masks

    def stacked_masks(self) -> Masks:
        """Return the masks of all frames from 0 on, uint8 ``(T, N, H, W)``; 0 for frames that were not segmented."""
        stacked = np.zeros((self.length, len(self.objects), *self.shape), np.uint8)
        for index, masks in zip(self.done, self.masks_of(self.done), strict=True):
            stacked[index] = masks
        return stacked

    def stacked(self, name: str, missing: float = 0.0) -> npt.NDArray[np.float32]:
        """Return one attribute of the `FrameResult` of all frames from 0 on, float32 ``(T, N)``.

        Args:
            name: Name of the attribute.
            missing: The value for frames that were not segmented.
        """
        stacked = np.full((self.length, len(self.objects)), missing, np.float32)
        for index, found in self.done.items():
            stacked[index] = getattr(found, name)
        return stacked

    @property
    def empty(self) -> bool:
        """Whether no object was found on any frame; a result like any other, but its user should be told."""
        return not any(found.area_px.any() for found in self.done.values())

    @property
    def is_done(self) -> npt.NDArray[np.bool_]:
        """Which frames from 0 on were segmented, bool ``(T,)``."""
        done = np.zeros(self.length, bool)
        done[list(self.done)] = True
        return done

    @property
    def length(self) -> int:
        """Number ``T`` of frames from 0 on: all of the target, or those up to the last one read if that is unknown."""
        return self.count if self.count is not None else max(self.seen, default=-1) + 1

    @property
    def seen(self) -> list[int]:
        """Indices of the frames that were segmented or skipped, in order."""
        return sorted({*self.done, *self.skipped})

    @property
    def disagreeing(self) -> dict[int, list[str]]:
        """Objects about which proxy prompt and memory disagree, by frame index."""
        return {
            index: [name for name, wrong in zip(self.objects, found.disagrees, strict=True) if wrong]
            for index, found in sorted(self.done.items())
            if found.disagrees.any()
        }


def frames_of_volume(found: VolumeResult, slices: Sequence[int], window: tuple[float, float]) -> FramesResult:
    """Return the result of a volume as that of frames, one for each slice.

    Args:
        found: The result of the volume; if its slices were not tracked, agreement is NaN.
        slices: The requested slices.
        window: Intensities that were mapped to 0..1.
    """
    result = FramesResult(
        objects=found.objects,
        shape=(found.masks.shape[2], found.masks.shape[3]),
        colors=tuple(segment.color_rgb for segment in found.segmentation.segments),
        terminologies=tuple(segment.terminology for segment in found.segmentation.segments),
        values=tuple(int(segment.metadata.get("label_value", 0)) for segment in found.segmentation.segments),
        count=len(found.masks),
        wanted=len(slices),
        window=window,
        cancelled=found.cancelled,
        notes=found.notes,
        seconds=found.seconds,
        model=found.model,
        device=found.device,
        rungs=found.rungs,
        half=found.half,
        precision=found.precision,
        filled=_filled(found),
    )
    for index in slices:
        if found.result.done[index]:
            result.keep(index, found.masks[index], found.followed.get(index) or _unfollowed(found, index))
        elif not found.cancelled:
            result.skipped[index] = UNUSABLE
    return result


def _filled(found: VolumeResult) -> dict[int, list[str]]:
    """Return the objects that were filled in, by slice index."""
    by_slice: dict[int, list[str]] = {}
    if found.filled is not None:
        for index, number in np.argwhere(found.filled).tolist():
            by_slice.setdefault(index, []).append(found.objects[number])
    return by_slice


def _unfollowed(found: VolumeResult, index: int) -> FrameResult:
    """Return the result of a slice that was segmented without a memory."""
    count = len(found.objects)
    return FrameResult(
        area_px=found.masks[index].sum(axis=(1, 2), dtype=np.int64),
        confidence=found.confidence[index],
        presence=found.result.presence[index],
        agreement=np.full(count, np.nan, np.float32),
        disagrees=np.zeros(count, bool),
        reanchored=np.zeros(count, bool),
    )
