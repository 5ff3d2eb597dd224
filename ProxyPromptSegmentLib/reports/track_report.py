"""The report of tracking as JSON values; inputs and model are described by `report`, the frames here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.frames.timing import time_of, time_steps
from ProxyPromptSegmentLib.inference.results import PRESENCE_THRESHOLD
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind, Severity
from ProxyPromptSegmentLib.reports.report import (
    LEAST_SURE,
    describe_asked,
    describe_file,
    describe_model,
    describe_notes,
    describe_state,
    describe_supports,
    versions,
)
from ProxyPromptSegmentLib.support.matching import has_place, slice_names

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.frames import FrameSource
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.tracking.result import FramesResult

UNEVEN = 0.05
"""Share of the median frame interval above which the frame rate counts as variable; files round to 1 ms."""
_MOST_LISTED = 5


def build_track_report(
    source: FrameSource,
    job: Job,
    found: FramesResult,
    cases: Sequence[SupportCase],
    settings: Mapping[str, Any],
    seconds: Mapping[str, float],
    notes: Sequence[Note] = (),
) -> dict[str, Any]:
    """Return everything needed to reproduce a result and to assess it, as JSON values.

    Args:
        source: The target.
        job: Support, and orientation of the target.
        found: The result.
        cases: The supports.
        settings: Settings of the run.
        seconds: Time of each stage in seconds.
        notes: Notes for the user, worded.
    """
    following = found.seconds["segmentation"]
    return {
        **describe_state(found),
        "inputs": {
            "supports": describe_supports(cases, job),
            **describe_asked(job),
            "target": _describe_target(source, found),
        },
        "model": describe_model(found.model),
        "settings": dict(settings),
        "device": found.device,
        "precision": found.precision,
        "versions": versions(),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "frames_per_second": round(len(found.done) / following, 2) if following > 0 else None,
        "frames_wanted": found.wanted,
        "frames_done": sorted(found.done),
        "frames_skipped": [{"frame": index, "reason": why} for index, why in sorted(found.skipped.items())],
        "frames_filled": [{"frame": index, "objects": names} for index, names in sorted(found.filled.items())],
        "frames_disagreeing": [{"frame": index, "objects": names} for index, names in found.disagreeing.items()],
        "objects": [_describe_object(source, job, found, n) for n in range(len(found.objects))],
        **describe_notes(notes),
    }


def _describe_target(source: FrameSource, found: FramesResult) -> dict[str, Any]:
    """Describe the target's file and format, and when its frames are shown."""
    times = [t for index in found.seen if (t := time_of(source, index)) is not None]
    steps = time_steps(source, found.seen)
    return {
        **describe_file(source.path),
        "kind": source.kind,
        "frames": source.count,
        "shape": list(source.shape),
        "spacing_mm": list(source.spacing_mm) if source.has_spacing else None,
        "colour": source.rgb,
        "axis": source.view.axis if source.kind == "volume" else None,
        "slice_positions": _slice_positions(source),
        "window": [round(w, 4) for w in found.window],
        "times_s": None
        if not steps.size
        else {
            "first": round(times[0], 6),
            "last": round(times[-1], 6),
            "shortest_step": round(float(steps.min()), 6),
            "longest_step": round(float(steps.max()), 6),
        },
    }


def _slice_positions(source: FrameSource) -> dict[str, Any] | None:
    """Return the attributes of `SliceNames` for a volume with a position in the body; None for other targets."""
    volume = source.volume
    return asdict(slice_names(volume, source.view.axis)) if volume is not None and has_place(volume) else None


def _describe_object(source: FrameSource, job: Job, found: FramesResult, number: int) -> dict[str, Any]:
    """Describe the result for one object."""
    areas = {index: int(f.area_px[number]) for index, f in sorted(found.done.items())}
    shown = [index for index, area in areas.items() if area]
    least = sorted(shown, key=lambda index: (float(found.done[index].confidence[number]), index))[:LEAST_SURE]
    pixel_mm2 = source.spacing_mm[0] * source.spacing_mm[1] if source.has_spacing else None
    extremes = [min(areas[i] for i in shown), max(areas[i] for i in shown)] if shown else None
    return {
        "name": found.objects[number],
        "color_rgb": [round(float(c), 4) for c in job.support.colors[number]],
        "frames_found": shown,
        "area_px": extremes,
        "area_mm2": [round(a * pixel_mm2, 3) for a in extremes] if extremes and pixel_mm2 else None,
        "highest_presence": round(max(float(f.presence[number]) for f in found.done.values()), 4),
        "memory_dropped": [index for index, f in sorted(found.done.items()) if f.reanchored[number]],
        "lowest_confidence": [
            {"frame": index, "confidence": round(float(found.done[index].confidence[number]), 4)} for index in least
        ],
    }


_ACROSS = " Tracking continued across the gap."


def notes_on(source: FrameSource, found: FramesResult, job: Job | None = None) -> list[Note]:
    """Return notes about skipped frames, uneven frame times, and objects that were not found.

    Args:
        source: The frames.
        found: Their result.
        job: What was asked for; by default objects of a support.
    """
    alone = job is not None and not job.support.pairs
    notes = []
    if found.skipped:
        count = len(found.skipped)
        which = f"{count} frames of {source.path.name} were" if count > 1 else f"1 frame of {source.path.name} was"
        notes.append(Note(f"{which} skipped: {skipped_text(found)}.{'' if alone else _ACROSS}"))
    steps = time_steps(source, found.seen)
    if steps.size and np.ptp(steps) > UNEVEN * np.median(steps) + 0.002:
        text = (
            f"The frame rate of {source.path.name} varies ({steps.min():.3g} to {steps.max():.3g} s between frames). "
            "The table has the time of each frame; the memory counts frames, not seconds; the overlay has a constant "
            "rate."
        )
        notes.append(Note(text, severity=Severity.INFORMATION))
    for n, name in enumerate(found.objects):
        if any(f.area_px[n] for f in found.done.values()) or (job is not None and n in job.ruled_out):
            continue
        highest = max(float(f.presence[n]) for f in found.done.values())
        seen = f"'{name}' was not found on any frame (highest presence {highest:.2f} of 1)"
        if highest >= PRESENCE_THRESHOLD:
            notes.append(Note(f"{seen}: no pixel reaches the threshold.", Remedy(kind=RemedyKind.LOWER_THRESHOLD)))
        elif alone:
            notes.append(Note(f"{seen}: no frame shows it as far as the model knows it."))
        else:
            text = (
                f"{seen}: nothing resembles the support's. Check that both show the same organ in the same modality, "
                "or choose another support."
            )
            notes.append(Note(text))
    return notes


def skipped_text(found: FramesResult) -> str:
    """Return the first few skipped frames with their reasons."""
    each = [f"frame {index} ({reason})" for index, reason in sorted(found.skipped.items())]
    more = [f"and {len(each) - _MOST_LISTED} more"] if len(each) > _MOST_LISTED else []
    return ", ".join(each[:_MOST_LISTED] + more)
