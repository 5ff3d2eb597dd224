"""What came of a job, for a person: volumes, where to look first, and both as tables and as CSV text."""

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
"""Confidence below which a slice is looked at for that alone."""

JUMP = 1.6
"""Factor by which an area may differ from both its neighbours' before somebody looks."""

ABRUPT = 0.75
"""Share of the object's largest area from which it is strange that the next slice shows nothing."""

LONGEST_GAP = 3
"""Slices; a longer stretch without the object lies between two parts of it."""

"""Dice below which proxy prompt and memory say different things; as the tracker counts it."""


@dataclass(frozen=True, eq=False)
class Findings:
    """The part of an outcome that tables are made of; slices of a volume or frames of a sequence.

    `findings_of` makes it from an outcome.

    Attributes:
        objects: Names of the ``N`` objects.
        masks: uint8 ``(S, N, H, W)``.
        confidence: 0..1, ``(S, N)``.
        presence: 0..1, ``(S, N)``: whether the object is in the slice at all.
        done: Slices that were computed, bool ``(S,)``.
        voxel_mm3: Size of a voxel; None where millimetres mean nothing (pictures) or slices are no volume (frames).
        pixel_mm2: Size of a pixel of a slice; None where it is not known.
        agreement: 0..1 or NaN, ``(S, N)``: how far proxy prompt and memory say the same; None without a memory.
        frames: Whether these are frames of a sequence and not slices of a volume.
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
    """A slice that somebody should look at.

    Attributes:
        index: The slice along the job's axis (or the frame), counted from 0.
        name: The object.
        confidence: 0..1, of the model itself.
        reason: Why to look, in words.
        sure: 0..1, the confidence lowered by what the masks give away; doubts are ordered by it.
        object_index: Number of the object.
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
        units: Unit of each column; "" where it has none.
        rows: Plain values (str, int, float or None) in the order of the columns.
    """

    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: list[list[Any]]

    def brief(self) -> Table:
        """The same without the columns for which a narrow panel has no room."""
        kept = [place for place, name in enumerate(self.columns) if name not in DETAILS]

        def of(values: Sequence[Any]) -> list[Any]:
            return [values[place] for place in kept]

        return Table(tuple(of(self.columns)), tuple(of(self.units)), [of(row) for row in self.rows])

    def as_dicts(self) -> list[dict[str, Any]]:
        """One dictionary by column name for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def findings_of(
    outcome: Any,
    job: Job | None = None,
    agreement: npt.NDArray[np.float32] | None = None,
    spacing_mm: tuple[float, float] | None = None,
) -> Findings:
    """Takes what the tables need out of an outcome.

    Args:
        outcome: `pipeline.Outcome`, the worker's `TaskOutcome` around it, or its `FramesOutcome`.
        job: The job; without it the pixel size of the slices is not known and a picture passes for a volume.
        agreement: See `Findings`; by default the outcome's own if it has one.
        spacing_mm: Pixel size (row, column) of frames, where it is known; by default the job's.
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
    """Findings as they are; of everything else `findings_of`."""
    return outcome if isinstance(outcome, Findings) else findings_of(outcome, job)


@dataclass(frozen=True)
class Found:
    """What was found of one object.

    Attributes:
        voxels: Voxels of its mask.
        volume_ml: None where millimetres mean nothing.
        slices: Slices that show it.
        least: The least sure of these ``(slice, confidence)``, least sure first.
        highest_presence: The highest probability that a slice shows it; None if none was computed.
    """

    voxels: int
    volume_ml: float | None
    slices: list[int]
    least: list[tuple[int, float]]
    highest_presence: float | None


def measure(findings: Findings, number: int, least: int = 1) -> Found:
    """Measures one object.

    Args:
        findings: The result.
        number: Which object.
        least: How many of its least sure slices are listed.
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


# --- where to look ------------------------------------------------------------------------------------------


@dataclass
class _Reasons:
    """What speaks against one slice of one object."""

    words: list[str] = field(default_factory=list)
    factor: float = 1.0

    def add(self, words: str, factor: float) -> None:
        """Another one; the confidence is lowered by its factor."""
        self.words.append(words)
        self.factor *= factor


def slices_to_look_at(outcome: Any, most: int = 10, job: Job | None = None) -> list[Doubt]:
    """The slices to look at first, least sure first; one entry for a slice and object, with all its reasons.

    A job that computed anything has at least one for each object: its least sure slice, or where an object that was
    not found would be.

    Args:
        outcome: `Findings`, or what `findings_of` takes.
        most: How many at most.
        job: Makes areas in mm² possible in the reasons.
    """
    findings = _taken(outcome, job)
    doubts = []
    for number in range(len(findings.objects)):
        doubts += _doubts_on(findings, number)
    return sorted(doubts, key=lambda doubt: (doubt.sure, doubt.object_index, doubt.index))[: max(0, most)]


def _doubts_on(findings: Findings, number: int) -> list[Doubt]:
    """The doubts about one object, in the order of the slices."""
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
        words = f"'{name}' was not found; if it is there at all, then rather on this {what} (presence {presence:.2f})"
        reasons[place].add(words, 0.5)
        return [_doubt(findings, number, place, reasons[place])]
    for n in done:
        if confidence[n] < UNSURE:
            words = f"the model is not sure of what it shows ({confidence[n]:.2f})"
            if not shown[n]:
                words = f"the model is not sure that '{name}' is absent ({confidence[n]:.2f})"
            reasons[int(n)].add(words, 1.0)
        if findings.agreement is not None and findings.agreement[n, number] < DISAGREEMENT:  # NaN is not
            agreement = float(findings.agreement[n, number])
            words = f"support and memory say different things (they agree by {agreement:.2f})"
            reasons[int(n)].add(words, max(agreement, 0.1))
    _judge_areas(findings, number, reasons, what)
    if not any(one.words for one in reasons.values()):
        least = measure(findings, number).least[0][0]
        reasons[least].add(f"the least sure {what} of '{name}', with nothing against it", 1.0)
    return [_doubt(findings, number, n, one) for n, one in reasons.items() if one.words]


def _doubt(findings: Findings, number: int, index: int, reasons: _Reasons) -> Doubt:
    confidence = float(findings.confidence[index, number])
    words = "; ".join(reasons.words)
    return Doubt(index, findings.objects[number], confidence, words, confidence * reasons.factor, number)


def _judge_areas(findings: Findings, number: int, reasons: dict[int, _Reasons], what: str) -> None:
    """Adds what the areas give away: gaps, lone slices, jumps and abrupt ends.

    Only slices that were computed speak, and only direct neighbours are compared.
    """
    done = findings.done
    areas = np.where(done, findings.masks[:, number].sum(axis=(1, 2), dtype=np.int64), 0)
    shown = np.flatnonzero(areas)
    first, last, largest = int(shown[0]), int(shown[-1]), int(areas.max())

    def beside(n: int) -> list[tuple[int, int]]:
        """The computed neighbours and their areas."""
        return [(m, int(areas[m])) for m in (n - 1, n + 1) if 0 <= m < len(areas) and done[m]]

    for before, after in zip(shown[:-1], shown[1:], strict=True):
        gap = [int(n) for n in range(before + 1, after) if done[n]]
        if 0 < len(gap) == after - before - 1 <= LONGEST_GAP:
            for n in gap:
                reasons[n].add(f"not found here, though on {what}s {before} and {after}", 0.5)
    for n in (int(one) for one in shown):
        around = beside(n)
        values = [area for _, area in around]
        if len(around) == 2 and not any(values):
            alone = len(shown) == 1
            reasons[n].add(f"found on this {what} alone" if alone else f"not found on the {what}s beside it", 0.5)
        elif len(around) == 2 and all(values):
            low, high = min(values), max(values)
            if areas[n] > JUMP * high or JUMP * areas[n] < low:
                ratio = float(areas[n] / high if areas[n] > high else low / areas[n])
                here = _area(findings, int(areas[n]))
                there = " and ".join(_area(findings, value) for value in values)
                reasons[n].add(f"its area jumps: {here} here, {there} beside it", max(0.2, 1 / ratio))
        elif last - first >= 3 and areas[n] >= ABRUPT * largest and n in (first, last):
            missing = [m for m, area in around if not area and not first <= m <= last]
            if missing:
                reasons[n].add(f"it ends abruptly: nothing on {what} {missing[0]}", 0.7)


def _area(findings: Findings, pixels: int) -> str:
    """An area in words."""
    if findings.pixel_mm2 is None:
        return f"{pixels} pixels"
    return f"{pixels * findings.pixel_mm2:.4g} mm²"


# --- tables -------------------------------------------------------------------------------------------------


def object_table(outcome: Any, job: Job | None = None) -> Table:
    """One row for each object: object, volume in ml, voxels, slices found, lowest confidence and where.

    For frames: object, frames found, smallest and largest area, lowest confidence and where.
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
    """One row for each slice to look at: slice, object, confidence, reason."""
    columns = ("Frame" if frames else "Slice", "Object", "Confidence", "Why")
    return Table(columns, ("",) * 4, [[d.index, d.name, round(d.confidence, 4), d.reason] for d in doubts])


def csv_text(table: Table) -> str:
    """The table as CSV, units in brackets behind the column names; empty cells where there is no value."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{c} [{u}]" if u else c for c, u in zip(table.columns, table.units, strict=True)])
    writer.writerows([["" if value is None else value for value in row] for row in table.rows])
    return text.getvalue()
