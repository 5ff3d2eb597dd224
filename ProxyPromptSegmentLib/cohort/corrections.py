"""A result that was corrected by hand, kept beside the program's own, which stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.cohort.folder import CohortFolder
from ProxyPromptSegmentLib.cohort.studies import Study
from ProxyPromptSegmentLib.cohort.writing import read_json
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import AXES, take_slices
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation, read_segmentation, write_segmentation

Mask = npt.NDArray[np.uint8]

_OF_A_RECORD = ("format", "version", "program", "created", "key", "work", "study", "path", "result")
"""What every record says of itself."""


def save_correction(folder: CohortFolder, study: Study, record: Mapping[str, Any], corrected: Segmentation) -> None:
    """Write a correction of a study that is done, as another version; from then on it is the study's result.

    Confidence and slices to review are kept of the slices that nobody has changed.

    Args:
        folder: The cohort's folder.
        study: The study.
        record: Its record, see `CohortFolder.record`.
        corrected: All its segments as they are now, on the study's grid.

    Raises:
        InputError: If the record has no key.
        GeometryError: If the program's result lies on another grid.
        OutputError: If the correction cannot be written.
    """
    key, before = record.get("key"), record.get("corrected") or {}
    if not isinstance(key, str):
        raise InputError(f"the record of {study.name} is damaged; segment the study again.")
    original = str(before.get("program_result") or record.get("result"))
    report = read_json(folder.path / str(record.get("report"))) or {}
    known = {str(one.get("name")): one for one in report.get("objects", []) if isinstance(one, dict)}
    target = report.get("inputs", {}).get("target", {})
    axis = target.get("axis") if target.get("axis") in AXES else "k"
    spacing = target.get("spacing_mm", corrected.geometry.spacing_mm)
    voxel_ml = float(np.prod(spacing)) / 1000 if spacing else None
    masks = {one.name: one.mask for one in corrected.segments}
    drawn = _drawn(folder.path / original, corrected)
    objects, changed = [], dict[str, list[int]]()
    for name in dict.fromkeys([*drawn, *masks]):
        mask = masks.get(name, np.zeros(corrected.geometry.shape_kji, np.uint8))
        other = np.not_equal(mask, drawn[name]) if name in drawn else mask > 0
        changed[name] = np.flatnonzero(take_slices(other, axis).any(axis=(1, 2))).tolist()
        confidence = known.get(name, {}).get("confidence", [])
        objects.append(_described(name, take_slices(mask, axis), voxel_ml, confidence, changed[name]))
    review = [
        one for one in record.get("review", []) if one.get("slice") not in changed.get(str(one.get("object")), [])
    ]
    facts = {
        **{name: value for name, value in record.items() if name not in _OF_A_RECORD},
        "objects": objects,
        "review": review,
        "corrected": {
            "slices": {name: found for name, found in changed.items() if found},
            "program_result": original,
        },
    }
    folder.publish_correction(key, study, lambda path: _write(path, corrected), facts)


def _drawn(path: Path, corrected: Segmentation) -> dict[str, Mask]:
    """Return what the program drew; nothing if that is gone: all that there is then counts as drawn by hand."""
    try:
        return {one.name: one.mask for one in read_segmentation(path, corrected.geometry).segments}
    except InputError:
        return {}


def _write(path: Path, corrected: Segmentation) -> None:
    write_segmentation(path, corrected, replace=False)


def _described(
    name: str, slices: Mask, voxel_ml: float | None, confidence: list[float | None], changed: list[int]
) -> dict[str, Any]:
    """Describe a structure as `rows.facts_of` does."""
    shown = np.flatnonzero(slices.any(axis=(1, 2))).tolist()
    voxels, skipped = int(slices.sum(dtype=np.int64)), set(changed)
    sure = {n: confidence[n] for n in shown if n not in skipped and n < len(confidence)}
    values = {n: float(value) for n, value in sure.items() if value is not None}
    least = min(values, key=lambda n: values[n], default=None)
    return {
        "name": name,
        "volume_ml": None if voxel_ml is None else round(voxels * voxel_ml, 3),
        "voxels": voxels,
        "slices": len(shown),
        "mean_confidence": round(sum(values.values()) / len(values), 4) if values else None,
        "lowest_confidence": None if least is None else values[least],
        "lowest_confidence_slice": least,
    }
