"""Tables of a result: volumes per object, the slices to review first, and both as CSV text."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.support.matching import has_place, slice_names
from ProxyPromptSegmentLib.tracking.choices import DISAGREEMENT
from ProxyPromptSegmentLib.tracking.result import FramesResult
from ProxyPromptSegmentLib.wording import ranges

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job

UNSURE = 0.7
"""Confidence below which a slice is listed for that reason alone."""

JUMP = 1.6
"""Factor by which an area may differ from both neighbours' before the slice is listed."""

ABRUPT = 0.75
"""Share of the object's largest area above which an empty next slice is suspicious."""

LONGEST_GAP = 3
"""In slices; a longer gap separates two parts of the object."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ResultArrays:
    """The arrays of a result that the tables need; for slices of a volume or frames of a sequence.

    `arrays_of` makes it from a result.

    Attributes:
        objects: Names of the ``N`` objects.
        masks: uint8 ``(S, N, H, W)``.
        confidence: 0..1, ``(S, N)``.
        presence: 0..1, ``(S, N)``: probability that the slice shows the object at all.
        done: Slices that were computed, bool ``(S,)``.
        voxel_mm3: Volume of a voxel in mm³; None for pictures (no spacing) and frames (not a volume).
        pixel_mm2: Area of a pixel in mm²; None if it is not known.
        agreement: 0..1 or NaN, ``(S, N)``: agreement of proxy prompt and memory; None without a memory.
        frames: Whether these are frames of a sequence instead of slices of a volume.
        names: Names of the slices.
        filled: Slices that were filled in between slices that show the object, bool ``(S, N)``; None if none.
    """

    objects: tuple[str, ...]
    masks: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    done: npt.NDArray[np.bool_]
    voxel_mm3: float | None = None
    pixel_mm2: float | None = None
    agreement: npt.NDArray[np.float32] | None = None
    frames: bool = False
    names: SliceNames = SliceNames()
    filled: npt.NDArray[np.bool_] | None = None

    def name(self, index: int) -> str:
        """Return the name of a slice or frame, e.g. ``slice 12 (S 34.5 mm)`` or ``frame 12``."""
        return f"{'frame' if self.frames else 'slice'} {self.short(index)}"

    def short(self, index: int) -> str:
        """Return the name without the word, e.g. ``12 (S 34.5 mm)``."""
        return f"{index}" if self.frames else self.names.short(index)


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


DETAILS = ("Voxels", "On slice", "Position")


@dataclass(frozen=True)
class Table:
    """Rows for a table node.

    Attributes:
        columns: Names of the columns.
        units: Unit of each column; "" if it has none.
        rows: Plain values (str, int, float or None) in the order of the columns.
    """

    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: list[list[Any]]

    def brief(self) -> Table:
        """Return the table without the columns that do not fit into a narrow panel."""
        kept = [place for place, name in enumerate(self.columns) if name not in DETAILS]

        def of(values: Sequence[Any]) -> list[Any]:
            return [values[place] for place in kept]

        return Table(tuple(of(self.columns)), tuple(of(self.units)), [of(row) for row in self.rows])

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return each row as a dictionary by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def arrays_of(
    found: VolumeResult | FramesResult, job: Job | None = None, spacing_mm: tuple[float, float] | None = None
) -> ResultArrays:
    """Extract the arrays for the tables from a result.

    Args:
        found: The result.
        job: The job; without it the pixel size of the slices is unknown and a picture counts as a volume.
        spacing_mm: Pixel size (row, column) of frames in mm, if known; by default the job's.
    """
    placed = job is None or has_place(job.target)
    if isinstance(found, FramesResult):
        if spacing_mm is None and job is not None and placed:
            spacing_mm = job.view.spacing_mm
        return ResultArrays(
            objects=found.objects,
            masks=found.stacked_masks(),
            confidence=found.stacked("confidence"),
            presence=found.stacked("presence"),
            done=found.is_done,
            pixel_mm2=None if spacing_mm is None else math.prod(spacing_mm),
            agreement=found.stacked("agreement", np.nan),
            frames=True,
        )
    return ResultArrays(
        objects=found.objects,
        masks=found.masks,
        confidence=found.confidence,
        presence=found.result.presence,
        done=found.result.done,
        voxel_mm3=math.prod(found.segmentation.geometry.spacing_mm) if placed else None,
        pixel_mm2=math.prod(job.view.spacing_mm) if job is not None and placed else None,
        names=SliceNames() if job is None else slice_names(job.target, job.view.axis),
        filled=found.filled,
    )


def _taken(found: VolumeResult | FramesResult | ResultArrays, job: Job | None) -> ResultArrays:
    """Return arrays unchanged; convert anything else with `arrays_of`."""
    return found if isinstance(found, ResultArrays) else arrays_of(found, job)


@dataclass(frozen=True)
class Found:
    """Measurements of one object in a result.

    Attributes:
        voxels: Number of voxels in its mask.
        volume_ml: Volume in ml; None for pictures and frames.
        slices: Indices of the slices that show it.
        least: The slices of lowest confidence as ``(slice, confidence)``, lowest first.
        highest_presence: Highest presence on any slice; None if none was computed.
    """

    voxels: int
    volume_ml: float | None
    slices: list[int]
    least: list[tuple[int, float]]
    highest_presence: float | None


def measure(arrays: ResultArrays, number: int, least: int = 1) -> Found:
    """Measure one object.

    Args:
        arrays: The result.
        number: Index of the object.
        least: Number of slices of lowest confidence to list.
    """
    mask, confidence = arrays.masks[:, number], arrays.confidence[:, number]
    voxels = int(mask.sum(dtype=np.int64))
    slices = [int(n) for n in np.flatnonzero(mask.any(axis=(1, 2)))]
    ordered = sorted(slices, key=lambda n: (float(confidence[n]), n))[:least]
    presence = arrays.presence[arrays.done, number]
    return Found(
        voxels,
        None if arrays.voxel_mm3 is None else voxels * arrays.voxel_mm3 / 1000,
        slices,
        [(n, float(confidence[n])) for n in ordered],
        float(presence.max()) if presence.size else None,
    )


# --- slices to review ---------------------------------------------------------------------------------------


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
    found: VolumeResult | FramesResult | ResultArrays, most: int = 10, job: Job | None = None
) -> list[Doubt]:
    """List the slices to review first, least confident first; one entry per slice and object, with all its reasons.

    If anything was computed, there is at least one entry per object: its slice of lowest confidence, or for an object
    that was not found the slice where it is most likely.

    Args:
        found: The result, or what `arrays_of` made of it.
        most: Largest number of entries.
        job: The job, needed for areas in mm² in the reasons.
    """
    arrays = _taken(found, job)
    doubts = []
    for number in range(len(arrays.objects)):
        doubts += _doubts_on(arrays, number)
    return sorted(doubts, key=lambda doubt: (doubt.sure, doubt.object_index, doubt.index))[: max(0, most)]


def _doubts_on(arrays: ResultArrays, number: int) -> list[Doubt]:
    """List the doubts about one object, in the order of the slices."""
    what = "frame" if arrays.frames else "slice"
    done = np.flatnonzero(arrays.done)
    if not done.size:
        return []
    confidence, name = arrays.confidence[:, number], arrays.objects[number]
    shown = np.asarray(arrays.masks[:, number].any(axis=(1, 2)))
    reasons = {int(n): _Reasons() for n in done}
    if not shown.any():
        place = int(done[np.argmax(arrays.presence[done, number])])
        presence = float(arrays.presence[place, number])
        words = f"'{name}' was not found; if present at all, most likely on this {what} (presence {presence:.2f})"
        reasons[place].add(words, 0.5)
        return [_doubt(arrays, number, place, reasons[place])]
    for n in done:
        if arrays.filled is not None and arrays.filled[n, number]:
            reasons[int(n)].add("filled in, because slices on both sides show it; its own presence was too low", 0.5)
        if confidence[n] < UNSURE:
            words = f"the model is not sure of the contour ({confidence[n]:.2f})"
            if not shown[n]:
                words = f"the model is not sure that '{name}' is absent ({confidence[n]:.2f})"
            reasons[int(n)].add(words, 1.0)
        if arrays.agreement is not None and arrays.agreement[n, number] < DISAGREEMENT:  # NaN is not
            agreement = float(arrays.agreement[n, number])
            words = f"proxy prompt and memory disagree (agreement {agreement:.2f})"
            reasons[int(n)].add(words, max(agreement, 0.1))
    _judge_areas(arrays, number, reasons, what)
    if not any(one.words for one in reasons.values()):
        least = measure(arrays, number).least[0][0]
        reasons[least].add(f"lowest confidence of all {what}s of '{name}'; nothing else is suspicious", 1.0)
    return [_doubt(arrays, number, n, one) for n, one in reasons.items() if one.words]


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
                reasons[n].add(f"it ends abruptly: nothing on {arrays.name(missing[0])}", 0.7)


def _area(arrays: ResultArrays, pixels: int) -> str:
    """Return an area with its unit."""
    if arrays.pixel_mm2 is None:
        return f"{pixels} pixels"
    return f"{pixels * arrays.pixel_mm2:.4g} mm²"


# --- tables -------------------------------------------------------------------------------------------------


def object_table(found: VolumeResult | FramesResult | ResultArrays, job: Job | None = None) -> Table:
    """Return one row per object: name, volume in ml, voxels, slices found, lowest confidence and its slice.

    For frames: name, frames found, smallest and largest area, lowest confidence and its frame.
    """
    arrays = _taken(found, job)
    rows: list[list[Any]] = []
    for number, name in enumerate(arrays.objects):
        one = measure(arrays, number)
        where, least = one.least[0] if one.least else (None, None)
        doubt = [None if least is None else round(least, 4), where]
        at = None if where is None else arrays.names.position(where)
        if arrays.frames:
            areas = arrays.masks[one.slices, number].sum(axis=(1, 2), dtype=np.int64).tolist()
            ends = [min(areas), max(areas)] if areas else [None, None]
            mm2 = [None if e is None or arrays.pixel_mm2 is None else round(e * arrays.pixel_mm2, 3) for e in ends]
            rows.append([name, len(one.slices), ranges(one.slices), *ends, *mm2, *doubt])
        else:
            volume = None if one.volume_ml is None else round(one.volume_ml, 3)
            rows.append([name, volume, one.voxels, len(one.slices), ranges(one.slices), *doubt, at])
    if arrays.frames:
        return Table(
            (
                *("Object", "Frames", "Found on", "Smallest", "Largest", "Smallest area", "Largest area"),
                *("Lowest confidence", "On frame"),
            ),
            ("", "", "", "pixels", "pixels", "mm²", "mm²", "", ""),
            rows,
        )
    return Table(
        ("Object", "Volume", "Voxels", "Slices", "Found on", "Lowest confidence", "On slice", "Position"),
        ("", "ml", "", "", "", "", "", ""),
        rows,
    )


def doubt_table(doubts: Sequence[Doubt], frames: bool = False) -> Table:
    """Return one row per slice to review: slice, object, confidence, reason."""
    columns = ("Frame" if frames else "Slice", "Object", "Confidence", "Why")
    return Table(columns, ("",) * 4, [[d.index, d.name, round(d.confidence, 4), d.reason] for d in doubts])


def csv_text(table: Table) -> str:
    """Return the table as CSV with units in brackets after the column names; missing values are empty cells."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{c} [{u}]" if u else c for c, u in zip(table.columns, table.units, strict=True)])
    writer.writerows([["" if value is None else value for value in row] for row in table.rows])
    return text.getvalue()
