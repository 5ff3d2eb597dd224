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

from ProxyPromptSegmentLib.support.matching import has_place
from ProxyPromptSegmentLib.tracking.choices import DISAGREEMENT
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


@dataclass(frozen=True, eq=False)
class Findings:
    """The arrays of an outcome that the tables need; for slices of a volume or frames of a sequence.

    `findings_of` makes it from an outcome.

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
    """

    index: int
    name: str
    confidence: float
    reason: str
    sure: float
    object_index: int


DETAILS = ("Voxels", "On slice")


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


def findings_of(
    outcome: Any,
    job: Job | None = None,
    agreement: npt.NDArray[np.float32] | None = None,
    spacing_mm: tuple[float, float] | None = None,
) -> Findings:
    """Extract the arrays for the tables from an outcome.

    Args:
        outcome: `pipeline.Outcome`, the worker's `TaskOutcome` around it, or its `FramesOutcome`.
        job: The job; without it the pixel size of the slices is unknown and a picture counts as a volume.
        agreement: See `Findings`; by default the outcome's own, if any.
        spacing_mm: Pixel size (row, column) of frames in mm, if known; by default the job's.
    """
    outcome = getattr(outcome, "outcome", outcome)
    if agreement is None:
        agreement = getattr(outcome, "agreement", None)
    result = getattr(outcome, "result", None)
    if result is None:  # frames
        if spacing_mm is None and job is not None and has_place(job.target):
            spacing_mm = job.view.spacing_mm
        shown = (outcome.masks, outcome.confidence, outcome.presence, outcome.done)
        pixel = None if spacing_mm is None else math.prod(spacing_mm)
        return Findings(tuple(outcome.objects), *shown, None, pixel, agreement, True)
    placed = job is None or has_place(job.target)
    return Findings(
        tuple(result.objects),
        outcome.masks,
        outcome.confidence,
        result.presence,
        result.done,
        math.prod(outcome.segmentation.geometry.spacing_mm) if placed else None,
        math.prod(job.view.spacing_mm) if job is not None and placed else None,
        agreement,
    )


def _taken(outcome: Any, job: Job | None) -> Findings:
    """Return findings unchanged; convert anything else with `findings_of`."""
    return outcome if isinstance(outcome, Findings) else findings_of(outcome, job)


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


def measure(findings: Findings, number: int, least: int = 1) -> Found:
    """Measure one object.

    Args:
        findings: The result.
        number: Index of the object.
        least: Number of slices of lowest confidence to list.
    """
    mask, confidence = findings.masks[:, number], findings.confidence[:, number]
    voxels = int(mask.sum(dtype=np.int64))
    slices = [int(n) for n in np.flatnonzero(mask.any(axis=(1, 2)))]
    ordered = sorted(slices, key=lambda n: (float(confidence[n]), n))[:least]
    presence = findings.presence[findings.done, number]
    return Found(
        voxels,
        None if findings.voxel_mm3 is None else voxels * findings.voxel_mm3 / 1000,
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


def slices_to_look_at(outcome: Any, most: int = 10, job: Job | None = None) -> list[Doubt]:
    """Return the slices to review, lowest confidence first; one entry per slice and object with all reasons.

    If anything was computed, there is at least one entry per object: its slice of lowest confidence, or for an object
    that was not found the slice where it is most likely.

    Args:
        outcome: `Findings`, or what `findings_of` takes.
        most: Largest number of entries.
        job: The job, needed for areas in mm² in the reasons.
    """
    findings = _taken(outcome, job)
    doubts = []
    for number in range(len(findings.objects)):
        doubts += _doubts_on(findings, number)
    return sorted(doubts, key=lambda doubt: (doubt.sure, doubt.object_index, doubt.index))[: max(0, most)]


def _doubts_on(findings: Findings, number: int) -> list[Doubt]:
    """Return the doubts about one object, in slice order."""
    what = "frame" if findings.frames else "slice"
    done = np.flatnonzero(findings.done)
    if not done.size:
        return []
    confidence, name = findings.confidence[:, number], findings.objects[number]
    shown = np.asarray(findings.masks[:, number].any(axis=(1, 2)))
    reasons = {int(n): _Reasons() for n in done}
    if not shown.any():
        place = int(done[np.argmax(findings.presence[done, number])])
        presence = float(findings.presence[place, number])
        words = f"'{name}' was not found; if present at all, most likely on this {what} (presence {presence:.2f})"
        reasons[place].add(words, 0.5)
        return [_doubt(findings, number, place, reasons[place])]
    for n in done:
        if confidence[n] < UNSURE:
            words = f"the model is not sure of the contour ({confidence[n]:.2f})"
            if not shown[n]:
                words = f"the model is not sure that '{name}' is absent ({confidence[n]:.2f})"
            reasons[int(n)].add(words, 1.0)
        if findings.agreement is not None and findings.agreement[n, number] < DISAGREEMENT:  # NaN is not
            agreement = float(findings.agreement[n, number])
            words = f"proxy prompt and memory disagree (agreement {agreement:.2f})"
            reasons[int(n)].add(words, max(agreement, 0.1))
    _judge_areas(findings, number, reasons, what)
    if not any(one.words for one in reasons.values()):
        least = measure(findings, number).least[0][0]
        reasons[least].add(f"lowest confidence of all {what}s of '{name}'; nothing else is suspicious", 1.0)
    return [_doubt(findings, number, n, one) for n, one in reasons.items() if one.words]


def _doubt(findings: Findings, number: int, index: int, reasons: _Reasons) -> Doubt:
    confidence = float(findings.confidence[index, number])
    words = "; ".join(reasons.words)
    return Doubt(index, findings.objects[number], confidence, words, confidence * reasons.factor, number)


def _judge_areas(findings: Findings, number: int, reasons: dict[int, _Reasons], what: str) -> None:
    """Add reasons based on the areas: gaps, isolated slices, jumps and abrupt ends.

    Only computed slices count, and only direct neighbours are compared.
    """
    done = findings.done
    areas = np.where(done, findings.masks[:, number].sum(axis=(1, 2), dtype=np.int64), 0)
    shown = np.flatnonzero(areas)
    first, last, largest = int(shown[0]), int(shown[-1]), int(areas.max())

    def beside(n: int) -> list[tuple[int, int]]:
        """Return the computed neighbours and their areas."""
        return [(m, int(areas[m])) for m in (n - 1, n + 1) if 0 <= m < len(areas) and done[m]]

    for before, after in zip(shown[:-1], shown[1:], strict=True):
        gap = [int(n) for n in range(before + 1, after) if done[n]]
        if 0 < len(gap) == after - before - 1 <= LONGEST_GAP:
            for n in gap:
                reasons[n].add(f"not found here, but on {what}s {before} and {after}", 0.5)
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
                here = _area(findings, int(areas[n]))
                there = " and ".join(_area(findings, value) for value in values)
                reasons[n].add(f"its area jumps: {here} here, {there} on its neighbours", max(0.2, 1 / ratio))
        elif last - first >= 3 and areas[n] >= ABRUPT * largest and n in (first, last):
            missing = [m for m, area in around if not area and not first <= m <= last]
            if missing:
                reasons[n].add(f"it ends abruptly: nothing on {what} {missing[0]}", 0.7)


def _area(findings: Findings, pixels: int) -> str:
    """Return an area with its unit."""
    if findings.pixel_mm2 is None:
        return f"{pixels} pixels"
    return f"{pixels * findings.pixel_mm2:.4g} mm²"


# --- tables -------------------------------------------------------------------------------------------------


def object_table(outcome: Any, job: Job | None = None) -> Table:
    """Return one row per object: name, volume in ml, voxels, slices found, lowest confidence and its slice.

    For frames: name, frames found, smallest and largest area, lowest confidence and its frame.
    """
    findings = _taken(outcome, job)
    rows: list[list[Any]] = []
    for number, name in enumerate(findings.objects):
        found = measure(findings, number)
        where, least = found.least[0] if found.least else (None, None)
        doubt = [None if least is None else round(least, 4), where]
        if findings.frames:
            areas = findings.masks[found.slices, number].sum(axis=(1, 2), dtype=np.int64).tolist()
            ends = [min(areas), max(areas)] if areas else [None, None]
            mm2 = [None if e is None or findings.pixel_mm2 is None else round(e * findings.pixel_mm2, 3) for e in ends]
            rows.append([name, len(found.slices), ranges(found.slices), *ends, *mm2, *doubt])
        else:
            volume = None if found.volume_ml is None else round(found.volume_ml, 3)
            rows.append([name, volume, found.voxels, len(found.slices), ranges(found.slices), *doubt])
    if findings.frames:
        return Table(
            (
                *("Object", "Frames", "Found on", "Smallest", "Largest", "Smallest area", "Largest area"),
                *("Lowest confidence", "On frame"),
            ),
            ("", "", "", "pixels", "pixels", "mm²", "mm²", "", ""),
            rows,
        )
    return Table(
        ("Object", "Volume", "Voxels", "Slices", "Found on", "Lowest confidence", "On slice"),
        ("", "ml", "", "", "", "", ""),
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
