"""The run record: from what, with what and how a segmentation was made, to be kept beside it as a text node."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.pipeline import Outcome
from ProxyPromptSegmentLib.reports.report import (
    LEAST_SURE,
    ModelLike,
    describe_model,
    describe_outcome,
    describe_state,
    describe_supports,
    describe_target,
    to_text,
    versions,
)
from ProxyPromptSegmentLib.reports.results_table import findings_of, measure

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.support.case import SupportCase

SEGMENT, TRACK = "segment", "track"
LEFT_OUT = "(path left out)"
_HARMLESS = ("entry", "modality")
"""What is kept of facts about a support without names, beside its hashes."""


def run_record(
    job: Job,
    outcome: Any,
    model: ModelLike,
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
    """Everything that is needed to make a result again and to judge it, as JSON values.

    Nothing identifying is in it unless ``names`` is True: supports and target are called "support 1", "target" in
    sentences too, and no path is kept. Hashes are always there, which takes a moment for large volumes: a thread for it
    is well spent.

    Args:
        job: The job.
        outcome: Its result: `pipeline.Outcome`, or the worker's `TaskOutcome` or `FramesOutcome`.
        model: Name, file and hash of the model.
        parameters: Choices of the call, by the names of the command line's options: ``model``, ``axis``, ``threshold``,
            ``objects``, ``across_slices``, ``follow``, ``max_slices``, ...
        device: Where it was computed.
        supports: The cases, in the order of ``job.shown``'s numbers; hashes of their voxels and files. Without them the
            hashes of the slices that were used are there all the same.
        started: When it began; its zone, if it has none, is this machine's. Now, by default.
        seconds: Time of the whole, or of each stage; by default the outcome's.
        rungs: Steps down the memory ladder, as sentences.
        sentences: What else the user was told.
        support_facts: More about each support, e.g. what the support library knows of it.
        names: Whether names of cases and paths may be kept.
    """
    outcome = getattr(outcome, "outcome", outcome)
    frames = not isinstance(outcome, Outcome)
    settings = {str(key): _plain(value) for key, value in parameters.items()}
    spent = outcome.seconds if seconds is None else seconds
    stages = dict(spent) if isinstance(spent, Mapping) else {"total": float(spent)}
    told = dict.fromkeys([*job.notes, *getattr(outcome, "notes", ()), *sentences])
    record = {
        **describe_state(outcome),
        "started": (started or datetime.now(timezone.utc)).astimezone(timezone.utc).isoformat(timespec="seconds"),
        "command": TRACK if frames or settings.get("follow") else SEGMENT,
        "inputs": {
            "supports": [
                {**one, **({"facts": _plain(facts)} if facts else {})}
                for one, facts in _with_facts(_supports(job, supports), support_facts)
            ],
            "target": describe_target(job),
        },
        "model": describe_model(model),
        "settings": settings,
        "device": str(device),
        "memory": list(rungs),
        "versions": versions(),
        "seconds": {stage: round(float(value), 3) for stage, value in stages.items()},
        **(_describe_frames(outcome, job) if frames else describe_outcome(job, outcome)),
        "notes": [sentence for sentence in told if sentence not in rungs],
    }
    if names:
        record["inputs"]["target"]["name"] = job.name
        return record
    return _without_names(record, _names_in(job, supports))


def _with_facts(
    supports: Sequence[dict[str, Any]], facts: Sequence[Mapping[str, Any]]
) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Each support with what else is known of it.

    Raises:
        UsageError: If facts are given, but not for each support.
    """
    if facts and len(facts) != len(supports):
        raise UsageError(f"{len(facts)} facts are given for {len(supports)} supports; give them for each, or none.")
    return list(zip(supports, facts or [{}] * len(supports), strict=True))


def _supports(job: Job, cases: Sequence[SupportCase]) -> list[dict[str, Any]]:
    """Each support: its files if the cases are there, and the hashes of the slices that were used in any case."""
    described = describe_supports(cases, job) if cases else _supports_of_pairs(job)
    for number, one in enumerate(described):
        one["name"] = next((shown.name for shown in job.shown if shown.case == number), None)
        pairs = [pair for pair, shown in zip(job.support.pairs, job.shown, strict=True) if shown.case == number]
        for entry, pair in zip(one["slices"], pairs, strict=True):
            entry["image_sha256"], entry["masks_sha256"] = _sha256(pair.image), _sha256(pair.masks)
    return described


def _supports_of_pairs(job: Job) -> list[dict[str, Any]]:
    """What the pairs alone tell of the supports, in the form of `describe_supports`."""
    described: list[dict[str, Any]] = []
    for number in range(1 + max(shown.case for shown in job.shown)):
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
    """Hash of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _describe_frames(outcome: Any, job: Job) -> dict[str, Any]:
    """Which frames were done, and what was found on them."""
    findings = findings_of(outcome, job)
    pixel, objects = findings.pixel_mm2, []
    for number, name in enumerate(findings.objects):
        found = measure(findings, number, LEAST_SURE)
        areas = findings.masks[found.slices, number].sum(axis=(1, 2), dtype=np.int64).tolist()
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
        "frames": len(findings.done),
        "frames_done": [int(n) for n in np.flatnonzero(findings.done)],
        "frames_skipped": [
            {"frame": int(n), "reason": why} for n, why in sorted(getattr(outcome, "skipped", {}).items())
        ],
        "objects": objects,
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it; numbers that do not exist are null."""
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


# --- without names ------------------------------------------------------------------------------------------


def _names_in(job: Job, cases: Sequence[SupportCase]) -> dict[str, str]:
    """What names supports and target, and what is written instead."""
    known: dict[str, str] = {}
    for number, case in reversed(list(enumerate(cases))):
        for name in (case.volume.name, *_parts(case.volume.source), *_parts(case.source)):
            known[name] = f"support {number + 1}"
    for shown in job.shown:
        known[shown.name] = f"support {shown.case + 1}"
    for name in (job.name, job.target.name, *_parts(job.target.source)):
        known.setdefault(name, "target")
    # A number such as 5 is no name, and would be found in every sentence.
    return {name: instead for name, instead in known.items() if name.strip() and not re.fullmatch(r"\d{1,2}", name)}


def _parts(path: Path | None) -> tuple[str, ...]:
    """A path as it may be named in a sentence."""
    return () if path is None else (str(path), path.name, f"{path.parent.name}/{path.name}")


def _without_names(record: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """The record without paths and names; the objects keep theirs."""
    for one in (*record["inputs"]["supports"], record["inputs"]["target"]):
        one.pop("name", None)
        for part in (one, one.get("image"), one.get("segmentation")):
            if part:
                part.pop("path", None)
        facts = one.pop("facts", {})
        kept = {key: value for key, value in facts.items() if key in _HARMLESS or key.endswith("sha256")}
        if kept:
            one["facts"] = kept
    for key in ("notes", "memory", "settings"):
        record[key] = _scrubbed(record[key], known)
    for entry in record.get("frames_skipped", ()):
        entry["reason"] = _scrubbed(entry["reason"], known)
    return record


def _scrubbed(value: Any, known: dict[str, str]) -> Any:
    """Text without names and paths, however deep it lies."""
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
    """The record as JSON text for a person and for a program."""
    return to_text(record)


# --- once more ----------------------------------------------------------------------------------------------


def command_of(record: Mapping[str, Any], paths: Mapping[str, Any]) -> str:
    """The command line that makes the same mask again.

    Args:
        record: What `run_record` made.
        paths: ``supports``: a pair (image, segmentation) for each support in the record's order; ``target`` and
            ``output``; ``model``, where it is a file of somebody's own.

    Raises:
        UsageError: If files are missing, no slice was done, or a volume was followed only in part.
    """
    supports, settings = list(paths.get("supports") or ()), record["settings"]
    known = record["inputs"]["supports"]
    if len(supports) != len(known) or any(len(pair) != 2 for pair in supports):
        raise UsageError(
            f"{len(supports)} pairs of files are given for {len(known)} supports; give image and segmentation of each."
        )
    if not paths.get("target") or not paths.get("output"):
        raise UsageError("the files of target and result are not known; save the target, and name a result.")
    track = record["command"] == TRACK
    if track and "frames_done" not in record and record["state"] != "complete":
        raise UsageError("a volume that was followed in part cannot be made again by a command; run it to its end.")
    done = record["frames_done"] if "frames_done" in record else record["slices_done"]
    if not done:
        raise UsageError("no slice was done, so there is nothing to make again.")
    words = ["proxyprompt", record["command"]]
    for image, segmentation in supports:
        words += ["--support", str(image), str(segmentation)]
    words += ["--target", str(paths["target"]), "--output", str(paths["output"])]
    for name in _objects_in(record):
        words += ["--object", name]
    words += ["--frames" if track else "--slices", slices_text(done)]
    for support in known:
        numbers = [entry["slice"] for entry in support["slices"]]
        words += ["--support-slices", "auto" if None in numbers else slices_text(numbers)]
    words += ["--axis", record["inputs"]["target"]["axis"], "--threshold", f"{settings.get('threshold', 0.5):g}"]
    if track:
        words += ["--mode", str(settings.get("mode", "proxy+bank"))]
    elif settings.get("across_slices") is False:
        words += ["--each-slice-alone"]
    model = paths.get("model") or settings.get("model") or record["model"]["name"]
    if model == LEFT_OUT:
        raise UsageError(f"the model was the file {record['model']['file']}; say where it lies.")
    return shlex.join([*words, "--model", str(model), "--device", record["device"]])


def _objects_in(record: Mapping[str, Any]) -> list[str]:
    """The objects as the command line wants them: one that was made of several by the words that made it."""
    made = {str(text).partition("=")[0].strip(): str(text) for text in record["settings"].get("objects") or ()}
    return [made.get(entry["name"], entry["name"]) for entry in record["objects"]]


def slices_text(numbers: Sequence[int]) -> str:
    """Slices as options take them: 3, 4, 5, 9 are ``3:5,9``; the order stays."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ",".join(f"{run[0]}:{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
