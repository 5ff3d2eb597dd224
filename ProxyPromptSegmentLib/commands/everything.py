"""The subcommand ``everything``: its options, its run and its summary."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.commands.checks import check_inputs, check_outputs, count_of, share_of
from ProxyPromptSegmentLib.commands.common_options import add_base_and_device, add_display, add_precision
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.remedies import in_words
from ProxyPromptSegmentLib.commands.run_task import run_task
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_NOTHING_FOUND, EXIT_OK, OutputError
from ProxyPromptSegmentLib.imaging.label_files import LABEL_SUFFIXES, write_labels
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.inference.by_hand.found import MOST_LABELS, EverythingChoice
from ProxyPromptSegmentLib.inference.job_by_hand import plan_everything
from ProxyPromptSegmentLib.reports.report import (
    describe_model,
    describe_notes,
    describe_target,
    to_text,
    versions,
    write_report,
)
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, resolve
from ProxyPromptSegmentLib.worker.tasks import EverythingTask

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.by_hand.result import EverythingResult
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.remedies import Note

DESCRIPTION = """\
Segment everything that the slices of a target show, without a support and without clicks.

Each slice is clicked on at the points of a grid; of their masks those that the model thinks good, that are stable and
that differ from each other are kept, smaller ones above larger ones. What lies at the same place on neighbouring slices
gets one label. The labels have no meaning: choose in 3D Slicer which of them you want.
"""
EXAMPLES = """\
examples:
  three slices of a volume; open both files in 3D Slicer
    proxyprompt everything --target scan.nrrd --slices 10:12 --output scan_everything.seg.nrrd
  a picture, with a finer grid and only what the model is sure of
    proxyprompt everything --target photo.png --points 32 --quality 0.85 --output labels.png

Ctrl-C stops before the next points and keeps the finished slices.
Research use only. Not for diagnosis.
"""
_CHOICE = EverythingChoice()
_COMPACT, _OFFICIAL = _CHOICE.of_model(compact=True), _CHOICE.of_model(compact=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    target = parser.add_argument_group("target")
    target.add_argument(
        "--target", required=True, type=Path, metavar="IMAGE",
        help="image to segment: NRRD, NIfTI, MHA, a DICOM folder, PNG, JPEG or TIFF",
    )  # fmt: skip
    target.add_argument("--slices", metavar="A:B", help="slices to segment: 12, or 10:30, or 5,7,9 (default: all)")
    target.add_argument(
        "--axis",
        choices=("auto", "k", "j", "i"),
        default="auto",
        help="slicing axis (default: auto = acquisition plane)",
    )
    kept = parser.add_argument_group("what is kept")
    kept.add_argument(
        "--points", type=count_of, default=_CHOICE.points, metavar="N",
        help=f"points along each side of the grid, of which N x N are clicked on ({_CHOICE.points})",
    )  # fmt: skip
    kept.add_argument(
        "--quality", type=share_of, default=_CHOICE.quality, metavar="P",
        help="least overlap with the truth that the model itself expects "
        f"({_COMPACT.quality}; official weights: {_OFFICIAL.quality})",
    )  # fmt: skip
    kept.add_argument(
        "--stability", type=share_of, default=_CHOICE.stability, metavar="P",
        help=f"least overlap of a mask's narrow and wide version ({_COMPACT.stability}; {_OFFICIAL.stability})",
    )  # fmt: skip
    kept.add_argument(
        "--least-pixels", type=int, default=_CHOICE.least_pixels, metavar="N",
        help=f"least area of a mask in pixels ({_CHOICE.least_pixels})",
    )  # fmt: skip
    kept.add_argument(
        "--most", type=count_of, default=_CHOICE.most, metavar="N", help=f"most masks of a slice ({_CHOICE.most})"
    )
    kept.add_argument(
        "--most-labels", type=count_of, default=MOST_LABELS, metavar="N",
        help=f"most labels of all slices together ({MOST_LABELS})",
    )  # fmt: skip
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output", required=True, type=Path, metavar="FILE",
        help="labels: .seg.nrrd (names and colours), .nii.gz, .nrrd, .mha, or .png for one slice",
    )  # fmt: skip
    results.add_argument("--report", type=Path, metavar="FILE.json", help="JSON report: input, model, settings, labels")
    results.add_argument("--force", action="store_true", help="replace existing results, never an input")
    results.add_argument("--json", action="store_true", help="print only the report, as JSON on stdout")
    add_display(results)
    engine = parser.add_argument_group("computing")
    engine.add_argument(
        "--batch", type=count_of, default=_CHOICE.batch, metavar="N",
        help=f"points that are decoded together; fewer need less memory ({_CHOICE.batch})",
    )  # fmt: skip
    engine.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME|FILE",
        help=f"model of 'proxyprompt models list', or a .safetensors file ({DEFAULT_MODEL})",
    )  # fmt: skip
    add_base_and_device(engine)
    add_precision(engine, "auto and single = single precision; half = half precision, on graphics cards")


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    begun = time.perf_counter()
    choice = EverythingChoice(
        points=args.points,
        quality=args.quality,
        stability=args.stability,
        least_pixels=args.least_pixels,
        most=args.most,
        batch=args.batch,
    )
    slices = SliceChoice.parse(args.slices, "--slices")
    inputs = [path for path in (args.target, args.base) if path]
    check_inputs(inputs)
    outputs = (("--output", args.output, LABEL_SUFFIXES), ("--report", args.report, (".json",)))
    check_outputs(outputs, inputs, args.force)
    resolve(args.model)
    target = read_volume(args.target)
    if suffix_of(args.output) == ".png" and target.array.shape[0] != 1:
        raise OutputError(
            f"{args.output.name} can hold only one slice, but the target has {target.array.shape[0]}; write .seg.nrrd "
            "or .nii.gz instead."
        )
    job = plan_everything(target, args.axis, slices)
    with stop_on_signals(console.status, "the points") as cancel:
        task = EverythingTask(
            job,
            choice=choice,
            most_labels=args.most_labels,
            model=args.model,
            device=args.device,
            precision=args.precision,
        )
        found = run_task(task, console, cancel, base=args.base)
    if not found.done.any():
        console.status("stopped before the first slice was finished; nothing was written.")
        return EXIT_INTERRUPTED
    notes = [in_words(note) for note in found.notes]
    for note in notes:
        console.note(note)
    return _finish(args, console, job, found, notes, time.perf_counter() - begun)


def _finish(
    args: argparse.Namespace,
    console: Console,
    job: Job,
    found: EverythingResult,
    notes: list[Note],
    seconds: float,
) -> int:
    """Write the results, and say what was found; return the exit code."""
    count, slices = len(found.names), int(found.done.sum())
    if count:
        write_labels(args.output, found.labels, found.geometry, found.names, replace=args.force)
    report = _report(args, job, found, notes)
    if args.report:
        write_report(args.report, report, replace=args.force)
    if args.json:
        console.result(to_text(report))
    if not count:
        left = f"; {args.output} is of an earlier run" if args.output.exists() else ""
        console.status(f"nothing was found, so that no labels were written{left}.")
        return EXIT_INTERRUPTED if found.cancelled else EXIT_NOTHING_FOUND
    things = "1 thing" if count == 1 else f"{count} things"
    console.say(f"{things} on {slices} slice{'s' if slices != 1 else ''}")
    written = ", ".join(str(path) for path in (args.output, args.report) if path)
    console.say(f"wrote {written} in {seconds:.1f} s on {found.device}")
    console.say("Research use only. Not for diagnosis.")
    if found.cancelled:
        console.status(f"stopped; {args.output} holds the {slices} of {len(job.slices)} slices that were finished.")
        return EXIT_INTERRUPTED
    return EXIT_OK


def _report(args: argparse.Namespace, job: Job, found: EverythingResult, notes: list[Note]) -> dict[str, Any]:
    """Return what was done and found as JSON values."""
    labels, counts = np.unique(found.labels, return_counts=True)
    voxels = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    return {
        "program": "proxyprompt",
        "research_use_only": True,
        "state": "stopped by the user" if found.cancelled else "complete",
        "inputs": {"target": describe_target(job)},
        "model": describe_model(found.model),
        "settings": {
            "points": found.choice.points,
            "quality": found.choice.quality,
            "stability": found.choice.stability,
            "apart": found.choice.apart,
            "least_pixels": found.choice.least_pixels,
            "most": found.choice.most,
            "most_labels": args.most_labels,
            "slices": args.slices,
            "axis": args.axis,
        },
        "device": found.device,
        "precision": found.precision,
        "versions": versions(),
        "seconds": {stage: round(value, 3) for stage, value in found.seconds.items()},
        "slices_done": np.flatnonzero(found.done).tolist(),
        "labels": [
            {"label_value": number, "name": name, "voxels": voxels.get(number, 0), "expected_iou": round(quality, 4)}
            for number, (name, quality) in enumerate(zip(found.names, found.qualities, strict=True), 1)
        ],
        **describe_notes(notes),
    }
