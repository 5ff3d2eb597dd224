"""The report of a segmentation as JSON values: inputs, model, settings, times and results."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.imaging.segmentations import label_values
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.gaps import left_empty
from ProxyPromptSegmentLib.remedies import Note, Severity
from ProxyPromptSegmentLib.reports.doubts import slices_to_look_at
from ProxyPromptSegmentLib.reports.results_table import arrays_of, measure
from ProxyPromptSegmentLib.support.matching import has_place, plane_of, slice_names
from ProxyPromptSegmentLib.weights.hashing import sha256

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.helps import HelpsUsed
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.results import ModelFacts
    from ProxyPromptSegmentLib.inference.tiling.plan import TileUse
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.reports.results_table import ResultArrays
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.tracking.result import FramesResult

LEAST_SURE = 3
_PACKAGES = ("torch", "segment-anything", "sam2", "numpy", "SimpleITK", "slicerio", "pynrrd", "safetensors", "av")


def describe_file(path: Path | None) -> dict[str, Any]:
    """Return path and SHA-256 of a file; for a folder, the hash of its files' names and hashes in order."""
    if path is None:
        return {"path": None, "sha256": None}
    if path.is_file():
        return {"path": str(path), "sha256": sha256(path)}
    digest = hashlib.sha256()
    files = sorted(file for file in path.iterdir() if file.is_file())
    for file in files:
        digest.update(f"{file.name}\t{sha256(file)}\n".encode())
    return {"path": str(path), "sha256": digest.hexdigest(), "files": len(files)}


def describe_volume(volume: Volume) -> dict[str, Any]:
    """Describe a volume's file and grid; the hash of its voxels also covers series and detached headers."""
    voxels = hashlib.sha256(np.ascontiguousarray(volume.array).data).hexdigest()
    return {
        **describe_file(volume.source),
        "voxels_sha256": voxels,
        "size_ijk": list(volume.geometry.size_ijk),
        "spacing_mm": list(volume.geometry.spacing_mm) if has_place(volume) else None,
        "colour": volume.is_rgb,
    }


def versions() -> dict[str, str]:
    """Return the versions of this program and of the packages that it computes with."""
    found = {"proxyprompt": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_object(
    job: Job, found: VolumeResult, number: int, label: int, dice: float | None = None
) -> dict[str, Any]:
    """Describe the result for one object.

    Args:
        job: The job.
        found: Its result.
        number: Index of the object.
        label: Its value in a label map.
        dice: Dice against the truth, if there is one.
    """
    segment, names = found.segmentation.segments[number], slice_names(job.target, job.view.axis)
    arrays = arrays_of(found, job)
    measured = measure(arrays, number, LEAST_SURE)
    described: dict[str, Any] = {
        "name": segment.name,
        "label_value": label,
        "color_rgb": [round(float(c), 4) for c in segment.color_rgb],
        "voxels": measured.voxels,
        "volume_ml": _rounded(measured.volume_ml, 3),
        "slices_found": measured.slices,
        "slices_filled": [] if found.filled is None else np.flatnonzero(found.filled[:, number]).tolist(),
        "slices_left_empty": left_empty(np.asarray(found.masks[:, number].any(axis=(1, 2))), found.result.done),
        "highest_presence": _rounded(measured.highest_presence, 4),
        "mean_confidence": _rounded(measured.mean, 4),
        "lowest_confidence": [
            {"slice": n, "position": names.position(n) or None, "confidence": round(value, 4)}
            for n, value in measured.least
        ],
        "confidence": _by_slice(arrays, number),
    }
    if dice is not None:
        described["dice"] = round(dice, 4)
    return described


def _by_slice(arrays: ResultArrays, number: int) -> list[float | None]:
    """Return the confidence of an object on each slice of the target, in hundredths; None where it was not done."""
    pairs = zip(arrays.confidence[:, number], arrays.done, strict=True)
    return [round(float(sure), 2) if done else None for sure, done in pairs]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def describe_supports(cases: Sequence[SupportCase], job: Job) -> list[dict[str, Any]]:
    """Describe each support: its files, and which slices prompt with which objects."""
    return [
        {
            "image": describe_volume(case.volume),
            "segmentation": describe_file(case.source),
            "axis": axis,
            "plane": plane_of(case.volume.geometry, axis) if has_place(case.volume) else None,
            "slices": [
                {"slice": shown.index, "objects": list(shown.objects)} for shown in job.shown if shown.case == number
            ],
            "window": [
                round(w, 4)
                for p, s in zip(job.support.pairs, job.shown, strict=True)
                if s.case == number
                for w in p.window
            ][:2],
        }
        for number, (case, axis) in enumerate(_with_axes(cases, job))
    ]


def describe_asked(job: Job) -> dict[str, Any]:
    """Describe the objects that were asked for without a support, with their codes; empty with one."""
    if job.support.pairs:
        return {}
    entries = [
        {
            "name": name,
            "code": None if terms is None else terms["type"],
            "ruled_out": number in job.ruled_out,
        }
        for number, (name, terms) in enumerate(zip(job.support.objects, job.support.terminologies, strict=True))
    ]
    return {"asked": entries}


def describe_model(model: ModelFacts | None) -> dict[str, Any]:
    """Return name and hash of a model; empty where none was loaded."""
    if model is None:
        return {}
    return {
        "name": model.name,
        "file": model.path.name,
        "sha256": model.sha256,
        "steps": model.metadata.get("steps"),
    }


def build_report(
    job: Job,
    found: VolumeResult,
    cases: Sequence[SupportCase],
    settings: Mapping[str, Any],
    seconds: Mapping[str, float],
    truth: Path | None = None,
    dice: Mapping[str, float] | None = None,
    notes: Sequence[Note] = (),
) -> dict[str, Any]:
    """Return everything needed to reproduce a result and to assess it.

    Args:
        job: The job.
        found: Its result.
        cases: The supports.
        settings: Settings of the run.
        seconds: Time of each stage in seconds.
        truth: File of the reference masks, if any.
        dice: Dice against the truth by object name.
        notes: Notes for the user, worded.

    Returns:
        JSON values; missing numbers are null.
    """
    return {
        **describe_state(found),
        "inputs": {
            "supports": describe_supports(cases, job),
            **describe_asked(job),
            "target": describe_target(job),
            **({"truth": describe_file(truth)} if truth else {}),
        },
        "model": describe_model(found.model),
        "settings": dict(settings),
        "device": found.device,
        "precision": found.precision,
        "versions": versions(),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        **describe_cost(found),
        **describe_result(job, found, dice),
        **describe_notes(notes),
    }


def describe_notes(notes: Sequence[Note]) -> dict[str, Any]:
    """Describe notes for the user: all sentences, and which of them are warnings."""
    return {
        "notes": [note.text for note in notes],
        "warnings": [note.text for note in notes if note.severity is Severity.WARNING],
    }


def describe_cost(found: VolumeResult) -> dict[str, Any]:
    """Describe what a run took, and what was estimated after its first batches if it had more."""
    task = sum(found.seconds.values())
    cost = {"task_seconds": round(task, 3), "peak_memory_bytes": found.peak_bytes}
    if found.forecast is None:
        return cost
    forecast = {"seconds": round(found.forecast.seconds, 3), "memory_bytes": found.forecast.memory_bytes}
    return {**cost, "estimated": forecast}


def describe_state(found: VolumeResult | FramesResult) -> dict[str, Any]:
    """Describe what every report begins with: program, time, state, and whether nothing at all was found."""
    return {
        "program": "proxyprompt",
        "research_use_only": True,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "state": "stopped by the user" if found.cancelled else "complete",
        "nothing_found": found.empty,
    }


def describe_target(job: Job) -> dict[str, Any]:
    """Describe the target: its file and grid, slicing axis and window."""
    return {
        **describe_volume(job.target),
        "axis": job.view.axis,
        "plane": plane_of(job.target.geometry, job.view.axis) if has_place(job.target) else None,
        "slice_positions": asdict(slice_names(job.target, job.view.axis)) if has_place(job.target) else None,
        "window": [round(w, 4) for w in job.window],
    }


def describe_result(job: Job, found: VolumeResult, dice: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Describe which slices were done and the result for each object.

    Args:
        job: The job.
        found: Its result.
        dice: Overlap with the truth by object name.
    """
    labels, scores = label_values(found.segmentation.segments), dict(dice or {})
    return {
        "tiles": describe_tiles(found.tiles),
        "helps": describe_helps(found.helps),
        "slices_wanted": len(job.slices),
        "slices_done": [int(n) for n in np.flatnonzero(found.result.done)],
        "objects": [
            describe_object(job, found, n, labels[n], scores.get(name)) for n, name in enumerate(job.support.objects)
        ],
        "review": describe_review(job, found),
    }


def describe_review(job: Job, found: VolumeResult) -> list[dict[str, Any]]:
    """Describe the slices to review first, the least sure first; see `doubts.slices_to_look_at`."""
    return [
        {"slice": one.index, "object": one.name, "confidence": round(one.confidence, 4), "why": one.reason}
        for one in slices_to_look_at(found, job=job)
    ]


def describe_tiles(use: TileUse | None) -> dict[str, Any] | None:
    """Describe which objects were segmented in tiles, and in which; None without tiles."""
    if use is None:
        return None
    plan = use.plan
    return {
        "magnification": plan.magnification,
        "tiles_per_slice": len(plan.grid),
        "tile_rows_columns": list(plan.grid.tile),
        "support_tiles": use.supports,
        "support_tiles_read": use.read,
        "objects": [
            {
                "name": plan.names[number],
                "highest_dice_whole": round(plan.whole_dice[number], 4),
                "highest_dice_tiles": round(plan.tiled_dice[number], 4),
            }
            for number in plan.in_tiles
        ],
    }


def describe_helps(used: HelpsUsed) -> dict[str, Any]:
    """Describe what was used beside whole slices: their position, registered supports, and a closer look."""
    return {
        "position": used.position,
        "registered": [
            {
                "support": one.name,
                "similarity": round(one.similarity, 4),
                "deformed": one.deformed,
                "seconds": round(one.seconds, 3),
                "problem": one.problem or None,
            }
            for one in used.registered
        ],
        "closer": list(used.closer),
        "sentence": used.sentence,
    }


def _with_axes(cases: Sequence[SupportCase], job: Job) -> list[tuple[SupportCase, Any]]:
    """Return each support with the axis along which its slices were taken."""
    axes = {shown.case: shown.axis for shown in job.shown}
    return [(case, axes[number]) for number, case in enumerate(cases)]


def to_text(report: Mapping[str, Any]) -> str:
    """Return the report as JSON text; reject NaN, which JSON does not allow."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file's name that is not UTF-8
        return json.dumps(report, indent=2, allow_nan=False) + "\n"
    return text


def write_report(path: Path, report: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write the report, completely or not at all; ``replace`` an existing one or not.

    Raises:
        OutputError: If it cannot be written.
    """
    text = to_text(report)
    with safe_output(path, replace) as partial:
        partial.write_text(text, encoding="utf-8")
