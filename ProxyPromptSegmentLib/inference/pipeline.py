"""From a job to a segmentation: load a model, segment, collect; for command line, evaluation and Slicer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import SliceView, VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.inference.job import Job, SupportSlice, plan
from ProxyPromptSegmentLib.inference.results import PRESENCE_THRESHOLD, THRESHOLD
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.support.case import SupportCase, read_support_case
from ProxyPromptSegmentLib.support.pairs import SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.results import SegmentResult, SlicePrediction
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

__all__ = [
    "Job",
    "LoadedModel",
    "Outcome",
    "SupportCase",
    "SupportSlice",
    "load",
    "outcome_of",
    "plan",
    "put_back",
    "read_support_case",
    "run",
]


@dataclass
class Outcome:
    """What came of a job.

    Attributes:
        segmentation: One segment per object on exactly the target's grid; empty where nothing was found.
        masks: The same, slice by slice as they were looked at; uint8 ``(S, N, H, W)``.
        result: Probabilities, presence and quality in the same order.
        confidence: 0..1 per slice and object, ``(S, N)``.
        cancelled: Whether somebody stopped it between two slices.
        seconds: Time of each stage.
        notes: What the user should know, as sentences.
    """

    segmentation: Segmentation
    masks: npt.NDArray[np.uint8]
    result: SegmentResult
    confidence: npt.NDArray[np.float32]
    cancelled: bool
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to segment, and where it comes from."""

    segmenter: Segmenter
    name: str
    path: Path
    sha256: str
    metadata: dict[str, Any]


def load(model: str, device: str = "auto", across_slices: bool = True) -> LoadedModel:
    """Loads a model by name or path.

    Raises:
        CheckpointError: If it is unknown, damaged or has another hash.
        DeviceError: If the device is not there.
    """
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.checkpoints import load_model, sha256
    from ProxyPromptSegmentLib.networks.devices import choose_device
    from ProxyPromptSegmentLib.weights.registry import resolve

    path, expected = resolve(model)
    chosen = choose_device(device)
    network, metadata = load_model(path, expected)
    # One slice at a time costs a processor next to nothing, and Ctrl-C and progress act on every slice.
    batch = 1 if chosen.type == "cpu" else None
    segmenter = Segmenter(network, chosen, batch, across_slices)
    return LoadedModel(
        segmenter=segmenter,
        name=str(metadata.get("name", path.stem)),
        path=path,
        sha256=expected or sha256(path),
        metadata=metadata,
    )


def run(
    segmenter: Segmenter,
    job: Job,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    on_slice: Callable[[SlicePrediction], None] | None = None,
) -> Outcome:
    """Segments a job's slices and puts them back where they came from.

    Args:
        segmenter: Model and device.
        job: What to do.
        threshold: Voxels of higher probability belong to the object, 0..1.
        progress: Told of each slice.
        cancel: Stops between two slices; what is done is kept.
        on_slice: Told of each prediction; its ``index`` counts along the axis of ``job.view``.

    Raises:
        DeviceError: If memory runs out.
    """
    start = time.perf_counter()
    prepared = segmenter.prepare(job.support)
    ready = time.perf_counter()
    images = job.view.take(job.target.array)
    result = segmenter.segment(
        images, prepared, job.window, job.view.spacing_mm, job.slices, progress, cancel, on_slice
    )
    masks = result.masks(threshold)
    seconds = {"support": ready - start, "segmentation": time.perf_counter() - ready}
    return outcome_of(job, result, masks, threshold, seconds)


def outcome_of(
    job: Job, result: SegmentResult, masks: npt.NDArray[np.uint8], threshold: float, seconds: dict[str, float]
) -> Outcome:
    """Puts a job's masks back where its slices came from.

    Args:
        job: What was done.
        result: What was found.
        masks: Of the result, at the threshold; uint8 ``(S, N, H, W)``.
        threshold: Voxels of higher probability belong to the object.
        seconds: Time of each stage.
    """
    segmentation = put_back(masks, job.support, job.view, job.target.geometry)
    notes = [*result.notes, *_notes_on(result, masks, threshold)]
    return Outcome(segmentation, masks, result, result.confidence(masks), result.cancelled, seconds, notes)


def put_back(
    masks: npt.NDArray[np.uint8], support: SupportSet, view: SliceView, geometry: VolumeGeometry
) -> Segmentation:
    """Segments on a grid from turned slices ``(S, N, H, W)``, named and coloured as in the support."""
    segments = []
    for n, name in enumerate(support.objects):
        volume = np.zeros(geometry.shape_kji, np.uint8)
        view.take(volume)[...] = masks[:, n]
        segments.append(Segment(name, volume, support.colors[n], support.terminologies[n]))
    return Segmentation(segments, geometry)


def _notes_on(result: SegmentResult, masks: npt.NDArray[np.uint8], threshold: float) -> list[str]:
    """Sentences about objects that were not found."""
    from ProxyPromptSegmentLib.inference.postprocess import smooth_over_slices

    if not result.done.any():
        return []
    presence = smooth_over_slices(result.presence, result.done)
    notes = []
    for n, name in enumerate(result.objects):
        highest = float(presence[:, n].max())
        if masks[:, n].any():
            continue
        if highest < PRESENCE_THRESHOLD:
            notes.append(
                f"Nothing in the target resembles '{name}' of the support (highest presence {highest:.2f} of "
                "1): its segment is empty. Check that support and target show the same organ in the same "
                "modality, or choose another support."
            )
        else:
            notes.append(
                f"The segment '{name}' is empty: no voxel reaches the threshold {threshold:g} on the slices "
                "that may show it. Choose a lower --threshold or another support."
            )
    return notes
