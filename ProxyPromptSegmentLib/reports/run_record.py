"""The run record: inputs, model and settings of a segmentation, stored with it as a text node."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.remedies import Note, Severity
from ProxyPromptSegmentLib.reports.report import (
    LEAST_SURE,
    describe_asked,
    describe_model,
    describe_result,
    describe_state,
    describe_supports,
    describe_target,
    to_text,
    versions,
)
from ProxyPromptSegmentLib.reports.results_table import arrays_of, measure
from ProxyPromptSegmentLib.tracking.result import FramesResult

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.results import ModelFacts
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
    from ProxyPromptSegmentLib.support.case import SupportCase

SEGMENT, TRACK = "segment", "track"
LEFT_OUT = "(path left out)"
_HARMLESS = ("entry", "modality")
"""The facts about a support that are kept in an anonymous record, besides its hashes."""


def run_record(
    job: Job,
    found: VolumeResult | FramesResult,
    model: ModelFacts | None,
    parameters: Mapping[str, Any],
    device: str,
    supports: Sequence[SupportCase] = (),
    started: datetime | None = None,
    seconds: float | Mapping[str, float] | None = None,
    rungs: Sequence[str] = (),
    sentences: Sequence[str] = (),
    support_facts: Sequence[Mapping[str, Any]] = (),
    names: bool = False,
) -> dict[str, Any]:
    """Return everything needed to reproduce a result and to assess it, as JSON values.

    The record is anonymous unless ``names`` is True: supports and target are called "support 1" and "target", also in
    sentences, and paths are omitted. It always contains hashes, which takes a moment for large volumes, so compute it
    on a thread.

    Args:
        job: The job.
        found: Its result.
        model: The model's name, file and hash.
        parameters: Settings of the run, named like the command line's options: ``model``, ``axis``, ``threshold``,
            ``objects``, ``across_slices``, ``follow``, ``max_slices``, ...
        device: The device used.
        supports: The cases, in the order of ``job.shown``'s numbers, for hashes of their voxels and files. The hashes
            of the slices used are always included.
        started: Start time; without a time zone it is local time. By default now.
        seconds: Total time, or the time of each stage; by default the outcome's.
        rungs: Steps down the memory ladder, as sentences.
        sentences: Messages that the user received, in the words of a face; by default the facts of the notes.
        support_facts: Further facts about each support, e.g. from the support library.
        names: Whether to keep case names and paths.
    """
    frames = isinstance(found, FramesResult)
    settings = {str(key): _plain(value) for key, value in parameters.items()}
    spent = found.seconds if seconds is None else seconds
    stages = dict(spent) if isinstance(spent, Mapping) else {"total": float(spent)}
    notes = (*job.notes, *found.notes)
    said = [sentence for sentence in dict.fromkeys(sentences or map(str, notes)) if sentence not in rungs]
    record = {
        **describe_state(found),
        "started": (started or datetime.now(timezone.utc)).astimezone(timezone.utc).isoformat(timespec="seconds"),
        "command": TRACK if frames or settings.get("follow") else SEGMENT,
        "inputs": {
            "supports": [
                {**one, **({"facts": _plain(facts)} if facts else {})}
                for one, facts in _with_facts(_supports(job, supports), support_facts)
            ],
            **describe_asked(job),
            "target": describe_target(job),
        },
        "model": describe_model(model),
        "settings": settings,
        "device": str(device),
        "precision": found.precision,
        "memory": list(rungs),
        "versions": versions(),
        "seconds": {stage: round(float(value), 3) for stage, value in stages.items()},
        **(_describe_frames(found, job) if isinstance(found, FramesResult) else describe_result(job, found)),
        "notes": said,
        "warnings": [sentence for sentence in said if not _only_informs(sentence, notes)],
    }
    if names:
        record["inputs"]["target"]["name"] = job.name
        return record
    return _without_names(record, _names_in(job, supports))


def _only_informs(sentence: str, notes: Sequence[Note]) -> bool:
    """Return whether a sentence words a note that is no warning: its facts come first, then what to do."""
    return any(note.severity is Severity.INFORMATION and sentence.startswith(note.text) for note in notes)


def _with_facts(
    supports: Sequence[dict[str, Any]], facts: Sequence[Mapping[str, Any]]
) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Pair each support with further facts about it.

    Raises:
        UsageError: If facts are given, but not for each support.
    """
    if facts and len(facts) != len(supports):
        raise UsageError(f"{len(facts)} facts are given for {len(supports)} supports; give them for each, or none.")
    return list(zip(supports, facts or [{}] * len(supports), strict=True))


def _supports(job: Job, cases: Sequence[SupportCase]) -> list[dict[str, Any]]:
    """Describe each support: its files if the cases are given, and always the hashes of the slices used."""
    described = describe_supports(cases, job) if cases else _supports_of_pairs(job)
    for number, one in enumerate(described):
        one["name"] = next((shown.name for shown in job.shown if shown.case == number), None)
        pairs = [pair for pair, shown in zip(job.support.pairs, job.shown, strict=True) if shown.case == number]
        for entry, pair in zip(one["slices"], pairs, strict=True):
            entry["image_sha256"], entry["masks_sha256"] = _sha256(pair.image), _sha256(pair.masks)
    return described


def _supports_of_pairs(job: Job) -> list[dict[str, Any]]:
    """Describe the supports from the slice pairs alone, in the form of `describe_supports`."""
    described: list[dict[str, Any]] = []
    for number in range(1 + max((shown.case for shown in job.shown), default=-1)):
        of_case = [(p, s) for p, s in zip(job.support.pairs, job.shown, strict=True) if s.case == number]
        described.append(
            {
                "axis": of_case[0][1].axis if of_case else None,
                "slices": [{"slice": shown.index, "objects": list(shown.objects)} for _, shown in of_case],
                "window": [round(w, 4) for pair, _ in of_case for w in pair.window][:2],
            }
        )
    return described


def _sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _describe_frames(result: FramesResult, job: Job) -> dict[str, Any]:
    """Describe which frames were done and the result for each object."""
    arrays = arrays_of(result, job)
    pixel, objects = arrays.pixel_mm2, []
    for number, name in enumerate(arrays.objects):
        found = measure(arrays, number, LEAST_SURE)
        areas = arrays.masks[found.slices, number].sum(axis=(1, 2), dtype=np.int64).tolist()
        objects.append(
            {
                "name": name,
                "area_px": [min(areas), max(areas)] if areas else None,
                "area_mm2": [round(end * pixel, 3) for end in (min(areas), max(areas))] if areas and pixel else None,
                "frames_found": found.slices,
                "lowest_confidence": [{"frame": n, "confidence": round(value, 4)} for n, value in found.least],
            }
        )
    return {
        "frames": len(arrays.done),
        "frames_done": [int(n) for n in np.flatnonzero(arrays.done)],
        "frames_skipped": [{"frame": int(n), "reason": why} for n, why in sorted(result.skipped.items())],
        "objects": objects,
    }


def _plain(value: Any) -> Any:
    """Convert a value to JSON types; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


# --- anonymisation ------------------------------------------------------------------------------------------


def _names_in(job: Job, cases: Sequence[SupportCase]) -> dict[str, str]:
    """Return the names of supports and target with their replacements."""
    known: dict[str, str] = {}
    for number, case in reversed(list(enumerate(cases))):
        for name in (case.volume.name, *_parts(case.volume.source), *_parts(case.source)):
            known[name] = f"support {number + 1}"
    for shown in job.shown:
        known[shown.name] = f"support {shown.case + 1}"
    for name in (job.name, job.target.name, *_parts(job.target.source)):
        known.setdefault(name, "target")
    # A number such as 5 is not treated as a name, because it would match in every sentence.
    return {name: instead for name, instead in known.items() if name.strip() and not re.fullmatch(r"\d{1,2}", name)}


def _parts(path: Path | None) -> tuple[str, ...]:
    """Return the forms in which a path may occur in a sentence."""
    return () if path is None else (str(path), path.name, f"{path.parent.name}/{path.name}")


def _without_names(record: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Return the record without paths and names; object names are kept."""
    for one in (*record["inputs"]["supports"], record["inputs"]["target"]):
        one.pop("name", None)
        for part in (one, one.get("image"), one.get("segmentation")):
            if part:
                part.pop("path", None)
        facts = one.pop("facts", {})
        kept = {key: value for key, value in facts.items() if key in _HARMLESS or key.endswith("sha256")}
        if kept:
            one["facts"] = kept
    for key in ("notes", "warnings", "memory", "settings", "helps"):
        if key in record:
            record[key] = _scrubbed(record[key], known)
    for entry in record.get("frames_skipped", ()):
        entry["reason"] = _scrubbed(entry["reason"], known)
    return record


def _scrubbed(value: Any, known: dict[str, str]) -> Any:
    """Replace names and paths in nested text."""
    if isinstance(value, dict):
        return {key: _scrubbed(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_scrubbed(item, known) for item in value]
    if not isinstance(value, str):
        return value
    if re.match(r"([A-Za-z]:)?[\\/]", value):
        return LEFT_OUT
    for name in sorted(known, key=len, reverse=True):
        value = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _, name=name: known[name], value)  # type: ignore[misc]
    value = re.sub(r"(?<![\w/])(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\":;,]+){2,}", LEFT_OUT, value)
    return re.sub(r"\b(support|target) (?='?\1\b)", "", value)


def record_text(record: Mapping[str, Any]) -> str:
    """Return the record as readable JSON text."""
    return to_text(record)
