"""The slices of a result to review first: at most a handful for a case, chosen by a threshold.

The threshold is chosen on validation patients by ``Testing/benchmarks/doubts.py``; Docs/results/doubts.md has what it
finds, and misses, on test patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.reports.results_table import ResultArrays, Table, taken
from ProxyPromptSegmentLib.tracking.choices import DISAGREEMENT

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.tracking.result import FramesResult

DOUBTFUL = 0.7
"""Slices that are less sure than this are doubtful, see `Doubt.sure`."""

MOST = 5
"""Largest number of entries for a case: with more, a reader who is short of time would not know where to begin."""

JUMP = 1.6
"""Factor by which an area may differ from both neighbours' before that is a reason."""

ABRUPT = 0.75
"""Share of the object's largest area above which an empty next slice is suspicious."""

LONGEST_GAP = 3
"""In slices; a longer gap separates two parts of the object."""


@dataclass(frozen=True)
class Doubt:
    """A slice that should be reviewed.

    Attributes:
        index: The slice along the job's axis (or the frame), counted from 0.
        name: Name of the object.
        confidence: The model's own confidence, 0..1.
        reason: Why the slice should be reviewed.
        sure: 0..1, the confidence reduced for suspicious masks; doubts are ordered by it.
        object_index: Index of the object.
        where: Index and position of the slice, e.g. ``12 (S 34.5 mm)``; of a frame the index.
    """

    index: int
    name: str
    confidence: float
    reason: str
    sure: float
    object_index: int
    where: str = ""


@dataclass
class _Reasons:
    """The reasons to review one slice of one object."""

    words: list[str] = field(default_factory=list)
    factor: float = 1.0

    def add(self, words: str, factor: float) -> None:
        """Add a reason and reduce the confidence by its factor."""
        self.words.append(words)
        self.factor *= factor


def slices_to_look_at(
    found: VolumeResult | FramesResult | ResultArrays,
    most: int = MOST,
    job: Job | None = None,
    threshold: float = DOUBTFUL,
) -> list[Doubt]:
    """List the doubtful slices, the least sure first; one entry per slice and object, with all its reasons.

    An object that was not found has an entry whatever the threshold: the slice where it is most likely.

    Args:
        found: The result, or what `arrays_of` made of it.
        most: Largest number of entries.
        job: The job, needed for areas in mm² in the reasons.
        threshold: Slices that are less sure are doubtful.
    """
    return doubtful(judged(taken(found, job)), most, threshold)


def doubtful(every: Sequence[Judged], most: int = MOST, threshold: float = DOUBTFUL) -> list[Doubt]:
    """List the doubtful slices among those of `judged`, the least sure first; see `slices_to_look_at`."""
    listed = [one.doubt_below(threshold) for one in every if one.missing or one.doubt.sure < threshold]
    return sorted(listed, key=lambda doubt: (doubt.sure, doubt.object_index, doubt.index))[: max(0, most)]


@dataclass(frozen=True)
class Judged:
    """A slice of an object and how sure it is.

    Attributes:
        doubt: The slice as it is listed if it is doubtful; without the reason that its confidence is low.
        shown: Whether the slice shows the object.
        missing: Whether the object was not found, and is most likely on this slice.
    """

    doubt: Doubt
    shown: bool
    missing: bool = False

    def doubt_below(self, threshold: float) -> Doubt:
        """Return the doubt with all its reasons."""
        doubt = self.doubt
        if self.missing or doubt.confidence >= threshold:
            return doubt
        words = f"the model is not sure of the contour ({doubt.confidence:.2f})"
        if not self.shown:
            words = f"the model is not sure that '{doubt.name}' is absent ({doubt.confidence:.2f})"
        return replace(doubt, reason="; ".join(one for one in (words, doubt.reason) if one))


def judged(arrays: ResultArrays) -> list[Judged]:
    """Judge every computed slice of every object, except the other slices of an object that was not found."""
    return [one for number in range(len(arrays.objects)) for one in _judged_object(arrays, number)]


def _judged_object(arrays: ResultArrays, number: int) -> list[Judged]:
    """Judge the slices of one object, in their order."""
    what = "frame" if arrays.frames else "slice"
    done = np.flatnonzero(arrays.done)
    if not done.size:
        return []
    name = arrays.objects[number]
    shown = np.asarray(arrays.masks[:, number].any(axis=(1, 2)))
    reasons = {int(n): _Reasons() for n in done}
    if not shown.any():
        place = int(done[np.argmax(arrays.presence[done, number])])
        presence = float(arrays.presence[place, number])
        words = f"'{name}' was not found; if present at all, most likely on this {what} (presence {presence:.2f})"
        reasons[place].add(words, 0.5)
        return [Judged(_doubt(arrays, number, place, reasons[place]), False, missing=True)]
    for n in done:
        if arrays.filled is not None and arrays.filled[n, number]:
            reasons[int(n)].add("filled in, because slices on both sides show it; its own presence was too low", 0.5)
        if arrays.agreement is not None and arrays.agreement[n, number] < DISAGREEMENT:  # NaN is not
            agreement = float(arrays.agreement[n, number])
            words = f"proxy prompt and memory disagree (agreement {agreement:.2f})"
            reasons[int(n)].add(words, max(agreement, 0.1))
    _judge_areas(arrays, number, reasons, what)
    return [Judged(_doubt(arrays, number, n, one), bool(shown[n])) for n, one in reasons.items()]


def _doubt(arrays: ResultArrays, number: int, index: int, reasons: _Reasons) -> Doubt:
    confidence = float(arrays.confidence[index, number])
    words = "; ".join(reasons.words)
    sure, where = confidence * reasons.factor, arrays.short(index)
    return Doubt(index, arrays.objects[number], confidence, words, sure, number, where)


def _judge_areas(arrays: ResultArrays, number: int, reasons: dict[int, _Reasons], what: str) -> None:
    """Add the reasons that the areas give: gaps, isolated slices, jumps and abrupt ends.

    Only computed slices count, and only direct neighbours are compared.
    """
    done = arrays.done
    areas = np.where(done, arrays.masks[:, number].sum(axis=(1, 2), dtype=np.int64), 0)
    shown = np.flatnonzero(areas)
    first, last, largest = int(shown[0]), int(shown[-1]), int(areas.max())

    def beside(n: int) -> list[tuple[int, int]]:
        """Return the computed neighbours and their areas."""
        return [(m, int(areas[m])) for m in (n - 1, n + 1) if 0 <= m < len(areas) and done[m]]

    for before, after in zip(shown[:-1], shown[1:], strict=True):
        gap = [int(n) for n in range(before + 1, after) if done[n]]
        if 0 < len(gap) == after - before - 1 <= LONGEST_GAP:
            for n in gap:
                reasons[n].add(
                    f"not found here, but on {what}s {arrays.short(int(before))} and {arrays.short(int(after))}", 0.5
                )
    for n in (int(one) for one in shown):
        around = beside(n)
        values = [area for _, area in around]
        if len(around) == 2 and not any(values):
            alone = len(shown) == 1
            reasons[n].add(f"found only on this {what}" if alone else f"not found on the neighbouring {what}s", 0.5)
        elif len(around) == 2 and all(values):
            low, high = min(values), max(values)
            if areas[n] > JUMP * high or JUMP * areas[n] < low:
                ratio = float(areas[n] / high if areas[n] > high else low / areas[n])
                here = _area(arrays, int(areas[n]))
                there = " and ".join(_area(arrays, value) for value in values)
                reasons[n].add(f"its area jumps: {here} here, {there} on its neighbours", max(0.2, 1 / ratio))
        elif last - first >= 3 and areas[n] >= ABRUPT * largest and n in (first, last):
            missing = [m for m, area in around if not area and not first <= m <= last]
            if missing:
                reasons[n].add(f"it ends abruptly: nothing on {arrays.name(missing[0])}", 0.75)


def _area(arrays: ResultArrays, pixels: int) -> str:
    """Return an area with its unit."""
    if arrays.pixel_mm2 is None:
        return f"{pixels} pixels"
    return f"{pixels * arrays.pixel_mm2:.4g} mm²"


def doubt_table(doubts: Sequence[Doubt], frames: bool = False) -> Table:
    """Return one row per slice to review: slice, object, confidence, reason."""
    columns = ("Frame" if frames else "Slice", "Object", "Confidence", "Why")
    return Table(columns, ("",) * 4, [[d.index, d.name, round(d.confidence, 4), d.reason] for d in doubts])
