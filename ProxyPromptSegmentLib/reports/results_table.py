"""Tables of a result: volumes per object, and tables as CSV text."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.support.matching import has_place, slice_names
from ProxyPromptSegmentLib.tracking.result import FramesResult
from ProxyPromptSegmentLib.wording import ranges

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job


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
    deep = job is None or job.target.has_depth  # of a radiograph nobody knows how thick its one slice is
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
        voxel_mm3=math.prod(found.segmentation.geometry.spacing_mm) if placed and deep else None,
        pixel_mm2=math.prod(job.view.spacing_mm) if job is not None and placed else None,
        names=SliceNames() if job is None else slice_names(job.target, job.view.axis),
        filled=found.filled,
    )


def taken(found: VolumeResult | FramesResult | ResultArrays, job: Job | None) -> ResultArrays:
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
        mean: Mean confidence of the slices that show it; None where none does.
    """

    voxels: int
    volume_ml: float | None
    slices: list[int]
    least: list[tuple[int, float]]
    highest_presence: float | None
    mean: float | None = None


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
        float(np.mean(confidence[slices])) if slices else None,
    )


# --- tables -------------------------------------------------------------------------------------------------


def object_table(found: VolumeResult | FramesResult | ResultArrays, job: Job | None = None) -> Table:
    """Return one row per object: name, volume in ml, voxels, slices found, lowest confidence and its slice.

    For frames: name, frames found, smallest and largest area, lowest confidence and its frame.
    """
    arrays = taken(found, job)
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


def csv_text(table: Table) -> str:
    """Return the table as CSV with units in brackets after the column names; missing values are empty cells."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{c} [{u}]" if u else c for c, u in zip(table.columns, table.units, strict=True)])
    writer.writerows([["" if value is None else value for value in row] for row in table.rows])
    return text.getvalue()
