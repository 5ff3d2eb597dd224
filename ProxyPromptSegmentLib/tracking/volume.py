"""Tracking through the slices of a volume, in both directions from the slice that is most like the support.

Slice 0 of a volume rarely shows the object, and a memory without the object is a bad start. Tracking therefore begins
where the proxy prompt alone sees the object best, runs to one end, returns to the memory of the first slice, and runs
to the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.by_hand.prompts import OnSlice
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE
from ProxyPromptSegmentLib.inference.results import SegmentResult
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece
from ProxyPromptSegmentLib.tracking.beginning import begin_by_hand
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.tracker import FramePrediction, Tracker
from ProxyPromptSegmentLib.wording import ranges

# Number of slices in the first search for the beginning, so that an object that spans a twelfth of the volume is not
# missed. With the halving that follows, 200 slices need about 20 embeddings, which tracking needs anyway, and as many
# decodings, a tenth of the work. An embedding of the official size takes 17 MB, so not all can be cached.
COARSE = 12


def track_volume(
    tracker: Tracker,
    images: np.ndarray,
    support: SupportSet | PreparedSupport | None,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    slices: Sequence[int] | None = None,
    start: int | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    on_frame: Callable[[FramePrediction], None] | None = None,
    encoded: MutableMapping[int, EncodedSlices] | None = None,
    by_hand: Mapping[int, OnSlice] | None = None,
    names: tuple[str, ...] = (),
) -> SegmentResult:
    """Segment a stack of slices with the memory of their neighbours.

    Args:
        tracker: The tracker, which begins a new sequence.
        images: ``(S, H, W)`` or ``(S, H, W, 3)``.
        support: The support, with the objects to track; in ``bank_only`` a `SupportSet`, whose pairs are given frames,
            or None.
        window: Intensities mapped to 0 and 1; by default of the whole stack.
        spacing_mm: Pixel size (row, column).
        slices: 0-based indices of the slices to segment; None means all. Slices between them count as time for the
            memory.
        start: Index of the slice to begin with; by default the one most like the support.
        progress: Informed of each slice.
        cancel: Checked before each slice.
        on_frame: Called with each prediction in the order of tracking, with ``index`` into the stack.
        encoded: Embeddings by slice index, which are reused and completed, as in `Segmenter.segment`.
        by_hand: What the user says by hand, by slice; tracking begins with the first of these slices.
        names: The objects, where there is no support: they are then known by ``by_hand`` alone.

    Returns:
        The predictions so far; ``cancelled`` if some slices are missing; ``notes`` name the slices to review.

    Raises:
        UsageError: If ``start`` or a slice does not exist, or the tracker cannot use the support.
        InputError: If the stack is constant.
        DeviceError: If memory runs out.
    """
    progress, cancel = progress or Progress(), cancel or CancelToken()
    wanted = _wanted(len(images), slices, start)
    window = window or intensity_window(images)
    said = {index: one for index, one in (by_hand or {}).items() if index in wanted}
    if support is None and not said:
        raise UsageError("without a support something must be prompted by hand on one of the slices to track")
    if support is None:
        tracker.start(None, window, spacing_mm, names)
    else:
        tracker.start(support, window, spacing_mm)
    run = _Run(tracker, images, window, spacing_mm, encoded, said)
    result = _empty_result(tracker, images, support)
    try:
        if said and start is None:
            start = min(said)
        if start is None and wanted and support is not None:
            start = _most_like_the_support(run, wanted, _area(support), progress, cancel)
        if start is None or cancel.cancelled:
            result.cancelled = bool(wanted)
            return result
        progress.start(len(wanted), "tracking")
        upwards = [index for index in wanted if index >= start]
        downwards = [index for index in reversed(wanted) if index < start]
        beginning = None
        previous = start
        for index in upwards + downwards:
            if cancel.cancelled:
                result.cancelled = True
                break
            if downwards and index == downwards[0] and beginning is not None:
                tracker.return_to(beginning)
                previous = start
            for _ in range(abs(index - previous) - 1):
                tracker.skip()
            prediction = run.step(index, result.notes)
            previous = index
            if index == start:
                beginning = tracker.mark()
            if prediction is not None:
                _enter(result, prediction, said.get(index))
                run.doubts(prediction)
                if on_frame:
                    on_frame(prediction)
            progress.step()
    finally:
        progress.close()
    result.notes += run.notes()
    return result


@dataclass
class _Run:
    """One pass over a stack, with its embeddings and the slices to review."""

    tracker: Tracker
    images: np.ndarray
    window: tuple[float, float]
    spacing_mm: tuple[float, float]
    kept: MutableMapping[int, EncodedSlices] | None
    said: Mapping[int, OnSlice] = field(default_factory=dict)
    begun: bool = False
    waiting: dict[int, EncodedSlices] = field(default_factory=dict)
    disagreeing: dict[int, list[int]] = field(default_factory=dict)

    def embeddings(self, indices: list[int]) -> list[EncodedSlices]:
        """Return the embeddings of some slices; compute missing ones together."""
        segmenter, cache = self.tracker.segmenter, self.waiting if self.kept is None else self.kept
        box = segmenter.letterbox((self.images.shape[1], self.images.shape[2]), self.spacing_mm)
        missing = [
            index
            for index in indices
            # The caller's embeddings may be of another stack; those in `waiting` are of this one.
            if index not in cache
            or (self.kept is not None and cache[index].keys != (segmenter.key(self.images[index], self.window, box),))
        ]
        if missing:
            fresh = segmenter.encode(self.images[missing], self.window, self.spacing_mm)
            cache.update({index: fresh.one(offset) for offset, index in enumerate(missing)})
        return [cache[index] for index in indices]

    def step(self, index: int, notes: list[Note]) -> FramePrediction | None:
        """Predict a slice, and correct it by what is said by hand; report and skip an unusable one."""
        image, said = self.images[index], self.said.get(index)
        try:
            encoded = self.embeddings([index])[0]
            if said and not self.begun and self.tracker.mode is TrackingMode.BANK_ONLY:
                prediction = begin_by_hand(self.tracker, image, said, index, encoded)
            else:
                prediction = self.tracker.step(image, index, encoded)
                prediction = self.tracker.correct_by_hand(said) if said else prediction
            self.begun = True
            return prediction
        except InputError as error:
            notes.append(Note(f"Slice {index} was skipped: {str(error).rstrip('.')}."))
            self.tracker.skip(index)
            return None
        finally:
            self.waiting.pop(index, None)

    def doubts(self, prediction: FramePrediction) -> None:
        """Record the slices on which proxy prompt and memory disagree."""
        for track in np.flatnonzero(prediction.disagrees):
            self.disagreeing.setdefault(int(track), []).append(prediction.index)

    def notes(self) -> list[Note]:
        """Return a note for each object with slices to review."""
        return [
            Note(
                f"On {len(indices)} slices ({ranges(indices)}) the proxy prompt alone and the memory of earlier slices "
                f"disagree about '{self.tracker.names[track]}'; review them."
            )
            for track, indices in sorted(self.disagreeing.items())
        ]


def _wanted(count: int, slices: Sequence[int] | None, start: int | None) -> list[int]:
    """Return the requested slices in the order of the stack."""
    wanted = list(range(count)) if slices is None else sorted({int(index) for index in slices})
    outside = [index for index in wanted if not 0 <= index < count]
    if outside:
        raise UsageError(f"slices {outside} do not exist; the stack has {count} slices, counted from 0")
    if start is not None and start not in wanted:
        raise UsageError(f"the start slice {start} is not among the slices to track")
    return wanted


def _empty_result(tracker: Tracker, images: np.ndarray, support: SupportSet | PreparedSupport | None) -> SegmentResult:
    """Return a result without finished slices."""
    count, objects = len(images), len(tracker.names)
    pieces: tuple[bool, ...] = ()
    if support is not None:
        pieces = one_piece(support) if isinstance(support, SupportSet) else support.one_piece
    return SegmentResult(
        objects=tracker.names,
        probability=np.zeros((count, objects, *images.shape[1:3]), np.float32),
        presence=np.zeros((count, objects), np.float32),
        quality=np.zeros((count, objects), np.float32),
        done=np.zeros(count, bool),
        evidence=np.full((count, objects, len(EVIDENCE)), np.nan, np.float32),
        one_piece=pieces,
        across_slices=tracker.segmenter.across_slices,
    )


def _enter(result: SegmentResult, prediction: FramePrediction, said: OnSlice | None) -> None:
    """Write a slice into the result, and which of its objects were prompted by hand."""
    index = prediction.index
    result.probability[index] = prediction.probability
    result.presence[index], result.quality[index] = prediction.presence, prediction.quality
    if result.evidence is not None:
        result.evidence[index] = prediction.evidence
    result.done[index] = True
    if said:
        if result.by_hand is None:
            result.by_hand = np.zeros((len(result.done), len(result.objects)), bool)
        result.by_hand[index, list(said)] = True


def _area(support: SupportSet | PreparedSupport) -> np.ndarray:
    """Return the mean share of the slice that each object fills in the supports that show it, 0..1, ``(N,)``."""
    if isinstance(support, SupportSet):
        shares = np.stack([pair.masks.mean(axis=(1, 2)) for pair in support.pairs])
    else:
        size = support.valid.sum(dim=1).clamp(min=1)[:, None]
        shares = (support.occupancy.sum(dim=-1) / size).float().cpu().numpy()
    return shares.sum(axis=0) / np.maximum((shares > 0).sum(axis=0), 1)


def _most_like_the_support(
    run: _Run, wanted: list[int], area: np.ndarray, progress: Progress, cancel: CancelToken
) -> int | None:
    """Find the slice to begin with: score evenly spread slices, then those around the best at halved distances.

    A slice's score is presence times estimated IoU, averaged over the objects. It is lowered for objects smaller than
    in the supports, because a small mask at the end of an organ is a worse start than a full one in its middle.

    Returns:
        Index of the slice; None if cancelled.
    """
    scores: dict[int, float] = {}
    stride = -(-len(wanted) // COARSE)
    # Beginning in the middle of the first interval, so that the ends are no farther from a sample than other slices.
    places = list(range((stride - 1) // 2, len(wanted), stride))
    halvings = (stride - 1).bit_length()
    progress.start(len(places) + 2 * halvings, "searching for the slice most like the support")
    while True:
        fresh = [place for place in places if place not in scores]
        batch = run.tracker.segmenter.batch
        for begin in range(0, len(fresh), batch):
            if cancel.cancelled:
                return None
            part = fresh[begin : begin + batch]
            embeddings = run.embeddings([wanted[place] for place in part])
            for place, embedding in zip(part, embeddings, strict=True):
                scores[place] = _score(run.tracker.peek(embedding), area)
            progress.step(len(part))
        best = max(scores, key=lambda place: scores[place])
        if stride == 1:
            progress.close()
            return wanted[best]
        stride = -(-stride // 2)
        places = [place for place in (best - stride, best + stride) if 0 <= place < len(wanted)]


def _score(prediction: FramePrediction, area: np.ndarray) -> float:
    """Return how well a slice shows the objects of the supports, 0..1."""
    shown = prediction.masks().mean(axis=(1, 2))
    size = np.minimum(1.0, shown / np.maximum(area, 1e-6))
    return float(np.nan_to_num(np.mean(prediction.quality * size)))
