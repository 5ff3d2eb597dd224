"""The result of segmenting a volume: masks on the target's grid, with model, device and times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import SliceView, VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.gaps import notes_on_gaps
from ProxyPromptSegmentLib.inference.helps import HelpsUsed
from ProxyPromptSegmentLib.inference.postprocess import smooth_over_slices
from ProxyPromptSegmentLib.inference.results import (
    PRESENCE_THRESHOLD,
    SINGLE_TYPE,
    FrameResult,
    ModelFacts,
    SegmentResult,
)
from ProxyPromptSegmentLib.inference.tiling.plan import TileUse
from ProxyPromptSegmentLib.inference.unlike import nearest_of, note_if_unlike
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind
from ProxyPromptSegmentLib.support.asked import Asked

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.calibration import Calibration
    from ProxyPromptSegmentLib.inference.job import Job


@dataclass(frozen=True)
class Forecast:
    """What a run takes, estimated after its first batches.

    Attributes:
        seconds: Wall-clock seconds from the beginning of the task to its end.
        memory_bytes: Largest memory: of the whole process on a CPU, else of the device.
        looks: Looks at slices that were left when it was made.
    """

    seconds: float
    memory_bytes: int
    looks: int


@dataclass(kw_only=True)
class VolumeResult:
    """The result of a segmented volume; the same for the command line, Slicer and scripts.

    Attributes:
        segmentation: One segment per object on exactly the target's grid; empty where nothing was found.
        masks: The same by slice, in the orientation of the job's view; uint8 ``(S, N, H, W)``.
        result: Probabilities, presence and quality by slice.
        confidence: Confidence of each slice and object, 0..1, ``(S, N)``.
        cancelled: Whether the run was cancelled between two slices; the masks of finished slices are final.
        notes: Notes for the user, including those of the job and the fallbacks.
        seconds: Seconds of each stage.
        model: The model's weights.
        device: Device that computed the last slices, e.g. ``cuda:0`` or ``cpu``.
        rungs: Sentences about the fallbacks when memory ran out, in order; empty if it did not.
        embedded: Number of slices that had to be embedded; the others were cached by an earlier run.
        pairs: Number of support pairs that prompted the last slices.
        half: Whether the last slices were computed in half precision.
        precision: The type of its products: ``float32``, ``bfloat16`` or ``float16``.
        tiles: How tiles were used; None if every object was segmented in whole slices.
        helps: Which helps beside the images were used.
        followed: Results by slice index, if the slices were tracked with SAM 2's memory; empty otherwise.
        filled: Slices that were filled in between slices that show the object, bool ``(S, N)``; see `gaps`.
        forecast: What the run was estimated to take after its first batches; None if it had ended before.
        peak_bytes: Largest memory of the device, or of the whole process on a CPU; None where it is not known.
    """

    segmentation: Segmentation
    masks: npt.NDArray[np.uint8]
    result: SegmentResult
    confidence: npt.NDArray[np.float32]
    cancelled: bool
    notes: list[Note]
    seconds: dict[str, float]
    model: ModelFacts
    device: str
    rungs: list[str] = field(default_factory=list)
    embedded: int = 0
    pairs: int = 0
    half: bool = False
    precision: str = SINGLE_TYPE
    tiles: TileUse | None = None
    helps: HelpsUsed = HelpsUsed()
    followed: Mapping[int, FrameResult] = field(default_factory=dict)
    filled: npt.NDArray[np.bool_] | None = None
    forecast: Forecast | None = None
    peak_bytes: int | None = None

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the ``N`` objects."""
        return self.result.objects

    @property
    def empty(self) -> bool:
        """Whether no object was found on any slice; a result like any other, but its user should be told."""
        return not self.masks.any()

    @property
    def slices(self) -> int:
        """Number of slices that were segmented."""
        return int(self.result.done.sum())


def put_back(masks: npt.NDArray[np.uint8], support: Asked, view: SliceView, geometry: VolumeGeometry) -> Segmentation:
    """Return oriented masks ``(S, N, H, W)`` as segments on the grid, with their names and colours."""
    segments = []
    for n, name in enumerate(support.objects):
        volume = np.zeros(geometry.shape_kji, np.uint8)
        view.take(volume)[...] = masks[:, n]
        value = support.values[n] if support.values else 0
        kept = {"label_value": value} if value else {}
        segments.append(Segment(name, volume, support.colors[n], support.terminologies[n], kept))
    return Segmentation(segments, geometry)


def notes_on(
    result: SegmentResult,
    masks: npt.NDArray[np.uint8],
    threshold: float,
    filled: npt.NDArray[np.bool_] | None = None,
    named: Callable[[Iterable[int]], str] | None = None,
    calibration: Calibration | None = None,
    job: Job | None = None,
) -> list[Note]:
    """Return a note on each object that was not found or has gaps, and on an image that resembles no support.

    Args:
        result: The prediction.
        masks: Its final masks, ``(S, N, H, W)``.
        threshold: The threshold of the masks.
        filled: Slices that were filled in, bool ``(S, N)``.
        named: Names slices; by default by their indices.
        calibration: The calibration of the weights, from which it is known when an image resembles no support.
        job: What was asked for; by default objects of a support.
    """
    alone = job is not None and not job.support.pairs
    if not result.done.any():
        return []
    unlike = note_if_unlike(nearest_of(result.evidence), calibration, bool(masks.any()))
    if unlike is not None and not masks.any():
        return [unlike]
    presence = smooth_over_slices(result.presence, result.done)
    notes = [] if unlike is None else [unlike]
    for n, name in enumerate(result.objects):
        highest = float(presence[:, n].max())
        if masks[:, n].any() or (job is not None and n in job.ruled_out):
            continue
        if highest < PRESENCE_THRESHOLD and alone:
            text = (
                f"The target does not show '{name}' as far as the model knows it (highest presence {highest:.2f} of "
                "1): its segment is empty. Check that the modality is one in which the model knows it."
            )
            notes.append(Note(text))
        elif highest < PRESENCE_THRESHOLD:
            text = (
                f"Nothing in the target resembles '{name}' of the support (highest presence {highest:.2f} of "
                "1): its segment is empty. Check that support and target show the same organ in the same "
                "modality, or choose another support."
            )
            notes.append(Note(text))
        else:
            text = (
                f"The segment '{name}' is empty: no voxel reaches the threshold {threshold:g} on the slices "
                "that may show it."
            )
            notes.append(Note(text, Remedy(kind=RemedyKind.LOWER_THRESHOLD)))
    if filled is None:
        filled = np.zeros(masks.shape[:2], bool)
    shown = np.asarray(masks.any(axis=(2, 3)))
    return notes + notes_on_gaps(result.objects, shown, filled, result.done, named or SliceNames().names)
