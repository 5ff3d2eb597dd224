"""From volumes to a segmentation: read supports and target, plan, segment, collect. Command line and Slicer share it.

Reading and planning need no torch, so that bad input is refused at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import GeometryError, InputError, SupportError, UsageError
from .geometry import Axis, SliceView, VolumeGeometry, slice_view, take_slices
from .matching import choose_axes, differences
from .preprocess import intensity_window
from .progress import CancelToken, Progress
from .segmentations import Segment, Segmentation, read_segmentation
from .support import MAX_SLICES, SupportSet, merge_supports, support_from_volume
from .volumes import Volume, image_to_array, read_image, read_volume

if TYPE_CHECKING:
    from .segmenter import Segmenter, SegmentResult, SlicePrediction

THRESHOLD = 0.5
PRESENCE_THRESHOLD = 0.5


@dataclass(frozen=True)
class SupportCase:
    """A retrospective case with its annotation.

    Attributes:
        volume: The image.
        segmentation: The annotation on the image's grid.
        slices: Which slices prompt, counted from 0; None chooses among the annotated ones.
        source: The annotation's file, if any.
    """

    volume: Volume
    segmentation: Segmentation
    slices: tuple[int, ...] | None = None
    source: Path | None = None


@dataclass(frozen=True)
class SupportSlice:
    """Where a pair of the support set comes from: case, axis, slice, and the objects marked on it."""

    case: int
    axis: Axis
    index: int
    objects: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Everything that decides a result, but the model.

    Attributes:
        support: Pairs in the orientation in which a radiologist looks at them.
        shown: Where each pair comes from.
        target: The volume to segment.
        view: How its slices are turned in the same way.
        slices: Which of them are segmented, in this order.
        window: Intensities ``(low, high)`` of the target that are mapped to 0..1.
        notes: What the user should know, as sentences.
    """

    support: SupportSet
    shown: tuple[SupportSlice, ...]
    target: Volume
    view: SliceView
    slices: tuple[int, ...]
    window: tuple[float, float]
    notes: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to segment, and where it comes from."""

    segmenter: Segmenter
    name: str
    path: Path
    sha256: str
    metadata: dict[str, Any]


def read_support_case(image: Path, segmentation: Path, slices: Sequence[int] | None = None) -> SupportCase:
    """Reads one annotated case.

    Raises:
        InputError: If a file is missing or no image.
        SupportError: If the annotation is empty or of another size than the image.
        GeometryError: If it lies on another grid.
    """
    volume = read_volume(image)
    try:
        marked = read_segmentation(segmentation, volume.geometry)
    except InputError:
        if _is_all_zero(segmentation):
            raise SupportError(
                f"the support's mask {segmentation.name} is empty: nothing is marked in it. Choose another support, on "
                "which the object is annotated."
            ) from None
        raise
    except GeometryError as error:
        own = read_segmentation(segmentation).geometry.size_ijk
        if own != volume.geometry.size_ijk:
            raise SupportError(f"the support's mask has another size than its image {image.name}: {error}") from None
        raise
    return SupportCase(volume, marked, None if slices is None else tuple(slices), segmentation)


def _is_all_zero(path: Path) -> bool:
    """Whether a mask file is a readable label map without any label."""
    try:
        return not image_to_array(read_image(path), path)[0].any()
    except InputError:
        return False


def plan(
    cases: Sequence[SupportCase],
    target: Volume,
    objects: Sequence[str] | None = None,
    axis: str = "auto",
    slices: Sequence[int] | None = None,
    max_slices: int = MAX_SLICES,
) -> Job:
    """Turns supports and target the same way and chooses their slices.

    Args:
        cases: At least one support.
        target: The volume to segment.
        objects: Names of the objects; by default all that every support has.
        axis: Slicing axis of the target, see `choose_axes`.
        slices: Slices of the target along that axis, counted from 0; all by default.
        max_slices: How many support slices are chosen at most, of all cases together (one of each case at least).

    Raises:
        SupportError: If a support has none of the objects, or nothing on the slices named.
        UsageError: If a slice of the target does not exist, or the axis is unusable.
    """
    if not cases:
        raise SupportError("there is no support; give at least one annotated case.")
    pairs = [(case.volume, case.segmentation) for case in cases]
    chosen_axis, axes, notes = choose_axes(pairs, target, axis)
    names = list(objects) if objects else None
    if names is None and len(cases) > 1:
        names, left_out = shared_objects([case.segmentation for case in cases])
        if left_out:
            notes.append(f"Not every support has {_listed(left_out)}; only {_listed(names)} will be segmented.")
    sets, shown = [], []
    share = max(1, -(-max_slices // len(cases)))
    for number, (case, own) in enumerate(zip(cases, axes, strict=True)):
        one = support_from_volume(
            case.volume, case.segmentation, names, case.slices, own, max_slices=share, oriented=True
        )
        sets.append(one)
        for pair in one.pairs:
            marked = tuple(name for name, mask in zip(one.objects, pair.masks, strict=True) if mask.any())
            shown.append(SupportSlice(number, own, _slice_of(pair.source), marked))
    notes += differences([(case.volume, own) for case, own in zip(cases, axes, strict=True)], target, chosen_axis)
    count = take_slices(target.array, chosen_axis).shape[0]
    wanted = tuple(range(count)) if slices is None else tuple(dict.fromkeys(int(n) for n in slices))
    outside = [n for n in wanted if not 0 <= n < count]
    if outside or not wanted:
        raise UsageError(
            f"the target {target.name} has no slice {outside[0] if outside else 'that was asked for'} along {chosen_axis}; "
            f"its slices are 0 to {count - 1} (counted from 0)."
        )
    return Job(
        merge_supports(sets),
        tuple(shown),
        target,
        slice_view(target.geometry, chosen_axis, oriented=True),
        wanted,
        intensity_window(target.array),
        tuple(notes),
    )


def _slice_of(source: str) -> int:
    """The slice number that `support_from_volume` wrote into a pair's source."""
    found = re.search(r"slice (\d+) along [kji]$", source)
    return int(found[1]) if found else -1


def shared_objects(segmentations: Sequence[Segmentation]) -> tuple[list[str], list[str]]:
    """Names of the objects that all have and that are marked in all, in the order of the first; and the others.

    Raises:
        SupportError: If they have no object in common.
    """
    marked = [{s.name.strip().casefold(): s.name for s in g.segments if s.mask.any()} for g in segmentations]
    common = set(marked[0]).intersection(*marked[1:])
    every = dict(pair for names in reversed(marked) for pair in names.items())
    if not common:
        each = "; ".join(_listed(list(names.values())) or "nothing" for names in marked)
        raise SupportError(f"the supports have no marked object in common ({each}). Name the same object alike in all.")
    return [name for key, name in marked[0].items() if key in common], [
        name for key, name in every.items() if key not in common
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def load(model: str, device: str = "auto") -> LoadedModel:
    """Loads a model by name or path.

    Raises:
        CheckpointError: If it is unknown, damaged or has another hash.
        DeviceError: If the device is not there.
    """
    from .checkpoints import load_model, sha256
    from .registry import resolve
    from .segmenter import Segmenter, choose_device

    path, expected = resolve(model)
    chosen = choose_device(device)
    network, metadata = load_model(path, expected)
    # One slice at a time costs a processor next to nothing, and Ctrl-C and progress act on every slice.
    segmenter = Segmenter(network, chosen, batch=1) if chosen.type == "cpu" else Segmenter(network, chosen)
    return LoadedModel(segmenter, str(metadata.get("name", path.stem)), path, expected or sha256(path), metadata)


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
    segmentation = put_back(masks, job.support, job.view, job.target.geometry)
    notes = [*result.notes, *_notes_on(result, masks, threshold)]
    return Outcome(segmentation, masks, result, result.confidence(), result.cancelled, seconds, notes)


def put_back(
    masks: npt.NDArray[np.uint8], support: SupportSet, view: SliceView, geometry: VolumeGeometry
) -> Segmentation:
    """Segments on a grid from turned slices ``(S, N, H, W)``, with the support's names, colours and terminologies."""
    segments = []
    for n, name in enumerate(support.objects):
        volume = np.zeros(geometry.shape_kji, np.uint8)
        view.take(volume)[...] = masks[:, n]
        segments.append(Segment(name, volume, support.colors[n], support.terminologies[n]))
    return Segmentation(segments, geometry)


def _notes_on(result: SegmentResult, masks: npt.NDArray[np.uint8], threshold: float) -> list[str]:
    """Sentences about objects that were not found."""
    from .segmenter import smooth_presence

    if not result.done.any():
        return []
    presence = smooth_presence(result.presence, result.done)
    notes = []
    for n, name in enumerate(result.objects):
        highest = float(presence[:, n].max())
        if masks[:, n].any():
            continue
        if highest < PRESENCE_THRESHOLD:
            notes.append(
                f"Nothing in the target resembles '{name}' of the support (highest presence {highest:.2f} of 1): its segment "
                "is empty. Check that support and target show the same organ in the same modality, or choose another support."
            )
        else:
            notes.append(
                f"The segment '{name}' is empty: no voxel reaches the threshold {threshold:g} on the slices that may show "
                "it. Choose a lower --threshold or another support."
            )
    return notes
