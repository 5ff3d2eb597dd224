"""The result of following frames: masks packed to a few bytes, and a few numbers for each frame."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.inference.results import FrameResult, ModelFacts
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.remedies import Note

Masks = npt.NDArray[np.uint8]
UNUSABLE = "it cannot be used"


@dataclass(kw_only=True)
class FramesResult:
    """The result of following a clip, a sequence or the slices of a volume; the same for every face.

    Attributes:
        objects: Names of the ``N`` objects.
        shape: Rows and columns of a frame.
        colors: Red, green, blue in 0..1 of each object, as in the support.
        terminologies: Slicer's terminology entry of each object, or None.
        count: Number of frames of the target; None where the target does not say.
        wanted: How many frames were asked for; None where the target does not say how many it has.
        done: What was found, by frame number.
        skipped: Why a frame could not be used, by frame number.
        window: Intensities that were mapped to 0..1.
        cancelled: Whether the run was cancelled between two frames.
        notes: What the user should know; the fallbacks are among them.
        seconds: Time of each stage; reading the frames counts as ``segmentation``.
        model: The weights; None before anything was computed.
        device: Where it ended, such as ``cuda:0`` or ``cpu``.
        rungs: Sentences about what was done because memory ran out, in order; empty where it did not.
        half: Whether it ended in half precision.
    """

    objects: tuple[str, ...]
    shape: tuple[int, int]
    colors: tuple[tuple[float, float, float], ...] = ()
    terminologies: tuple[dict[str, Any] | None, ...] = ()
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
    _packed: dict[int, bytes] = field(default_factory=dict)

    def keep(self, index: int, masks: Masks, found: FrameResult) -> None:
        """Keep the masks ``(N, H, W)`` of a frame. A mask is a few smooth outlines, so its bits pack very well."""
        self._packed[index] = zlib.compress(np.packbits(masks).tobytes(), 1)
        self.done[index] = found

    def masks(self, index: int) -> Masks | None:
        """Return the masks of a frame, uint8 ``(N, H, W)``; None if it was not done."""
        if index not in self._packed:
            return None
        shape = (len(self.objects), *self.shape)
        bits = np.frombuffer(zlib.decompress(self._packed[index]), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)

    def masks_of(self, numbers: Iterable[int]) -> Iterator[Masks]:
        """Yield the masks of some frames, one after another; empty where a frame was not done."""
        for index in numbers:
            masks = self.masks(index)
            yield np.zeros((len(self.objects), *self.shape), np.uint8) if masks is None else masks

    def stacked_masks(self) -> Masks:
        """Return the masks of all frames from 0 on, uint8 ``(T, N, H, W)``; 0 where not done."""
        stacked = np.zeros((self.length, len(self.objects), *self.shape), np.uint8)
        for index, masks in zip(self.done, self.masks_of(self.done), strict=True):
            stacked[index] = masks
        return stacked

    def stacked(self, name: str, missing: float = 0.0) -> npt.NDArray[np.float32]:
        """Return one attribute of the `FrameResult` of all frames from 0 on, float32 ``(T, N)``.

        Args:
            name: Name of the attribute.
            missing: Its value where a frame was not done.
        """
        stacked = np.full((self.length, len(self.objects)), missing, np.float32)
        for index, found in self.done.items():
            stacked[index] = getattr(found, name)
        return stacked

    @property
    def is_done(self) -> npt.NDArray[np.bool_]:
        """Which frames from 0 on were done, bool ``(T,)``."""
        done = np.zeros(self.length, bool)
        done[list(self.done)] = True
        return done

    @property
    def length(self) -> int:
        """Number ``T`` of frames from 0 on: all of the target, or those up to the last one that was looked at."""
        return self.count if self.count is not None else max(self.seen, default=-1) + 1

    @property
    def seen(self) -> list[int]:
        """Numbers of the frames that were looked at, in order."""
        return sorted({*self.done, *self.skipped})

    @property
    def disagreeing(self) -> dict[int, list[str]]:
        """Objects about which proxy prompt and memory disagree, by frame number."""
        return {
            index: [name for name, wrong in zip(self.objects, found.disagrees, strict=True) if wrong]
            for index, found in sorted(self.done.items())
            if found.disagrees.any()
        }


def frames_of_volume(found: VolumeResult, slices: Sequence[int], window: tuple[float, float]) -> FramesResult:
    """Return the result of a volume as that of frames, one for each slice.

    Args:
        found: The volume's; where its slices were not followed, agreement is unknown.
        slices: The slices that were asked for.
        window: Intensities that were mapped to 0..1.
    """
    result = FramesResult(
        objects=found.objects,
        shape=(found.masks.shape[2], found.masks.shape[3]),
        colors=tuple(segment.color_rgb for segment in found.segmentation.segments),
        terminologies=tuple(segment.terminology for segment in found.segmentation.segments),
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
    )
    for index in slices:
        if found.result.done[index]:
            result.keep(index, found.masks[index], found.followed.get(index) or _unfollowed(found, index))
        elif not found.cancelled:
            result.skipped[index] = UNUSABLE
    return result


def _unfollowed(found: VolumeResult, index: int) -> FrameResult:
    """Return what was found on a slice that was segmented without a memory."""
    count = len(found.objects)
    return FrameResult(
        area_px=found.masks[index].sum(axis=(1, 2), dtype=np.int64),
        confidence=found.confidence[index],
        presence=found.result.presence[index],
        agreement=np.full(count, np.nan, np.float32),
        disagrees=np.zeros(count, bool),
        reanchored=np.zeros(count, bool),
    )
