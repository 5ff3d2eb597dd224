"""The subcommand ``segment``: its options and its summary."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.common_options import add_display
from ProxyPromptSegmentLib.commands.console import Console, nothing_found
from ProxyPromptSegmentLib.commands.hand_options import add_hand_options
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.library_supports import library_cases, with_library
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_options import (
    add_computing,
    add_library,
    add_objects,
    add_prompts,
    add_slicing,
    request_of,
)
from ProxyPromptSegmentLib.commands.segment_run import Kept, perform
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_NOTHING_FOUND, EXIT_OK
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.reports.report import to_text

DESCRIPTION = """\
Segment a new case (the target) from a case that is already segmented (the support).

No clicks and no training: whatever is marked in the support is searched for in the target. To segment
another organ, give another support. The result has exactly the target's geometry, and the names and
colours of the support's segments; open it in 3D Slicer together with the target.
"""
EXAMPLES = """\
examples:
  one support, one target
    proxyprompt segment --support old.nrrd old.seg.nrrd --target new.nrrd --output new.seg.nrrd
  only the prostate and the bladder of the support, with a picture and a report
    proxyprompt segment --support old.nrrd old.seg.nrrd --object prostate --object bladder \\
        --target new.nrrd --output new.seg.nrrd --preview new.png --report new.json
  the annotated cases that are kept in the support library
    proxyprompt segment --library --object prostate --target new.nrrd --output new.seg.nrrd
  two supports, the target in a DICOM folder, its slices 10 to 30 only
    proxyprompt segment --support a.nii.gz a_mask.nii.gz --support b.nii.gz b_mask.nii.gz \\
        --target dicom_folder --slices 10:30 --output new.nii.gz
  the same as DICOM SEG, for a picture archive; needs the Python package highdicom
    proxyprompt segment --support a.nii.gz a_mask.nii.gz --target dicom_folder --output new.dcm
  without a support: a structure that a model knows by name, or all that a model of few structures knows
    proxyprompt segment --class prostate --target new.nrrd --output new.seg.nrrd
  by hand alone: a click in the organ and one beside it on slice 12, or a box through three slices
    proxyprompt segment --target new.nrrd --point liver=120,95,12 --point liver=60,40,12,- --output new.seg.nrrd
    proxyprompt segment --target new.nrrd --box liver=80,70,12,150,130,14 --output new.seg.nrrd
  a click that corrects what the support prompts on slice 12
    proxyprompt segment --support old.nrrd old.seg.nrrd --target new.nrrd --point 120,95,12 --output new.seg.nrrd
  single pictures
    proxyprompt segment --support frame1.png mask1.png --target frame2.png --output mask2.png

Slices are counted from 0, also in the report. Ctrl-C stops after the current slice and keeps all
finished slices. Review every slice of the result and correct it where needed.
Research use only. Not for diagnosis.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    cases = parser.add_argument_group("cases")
    add_prompts(cases)
    add_library(cases)
    cases.add_argument(
        "--target", required=True, type=Path, metavar="IMAGE",
        help="case to segment: NRRD, NIfTI, MHA, a DICOM folder, PNG, JPEG or TIFF",
    )  # fmt: skip
    add_objects(cases)
    cases.add_argument(
        "--truth", type=Path, metavar="FILE", help="reference segmentation of the target, for reporting Dice"
    )
    add_hand_options(parser)
    slices = parser.add_argument_group("slices")
    slices.add_argument(
        "--slices",
        metavar="A:B",
        help="slices of the target to segment: 12, or 10:30, or 5,7,9 (default: all)",
    )
    add_slicing(slices)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output", required=True, type=Path, metavar="FILE",
        help="result: .seg.nrrd (names and colours), .nii.gz, .nrrd, .mha, .png for one slice, or .dcm (DICOM SEG of a "
        "DICOM series)",
    )  # fmt: skip
    results.add_argument(
        "--report", type=Path, metavar="FILE.json", help="JSON report: inputs, model, settings, results per object"
    )
    results.add_argument("--preview", type=Path, metavar="FILE.png", help="picture of support and result")
    results.add_argument("--force", action="store_true", help="replace existing results, never an input")
    results.add_argument("--json", action="store_true", help="print only the report, as JSON on stdout")
    add_display(results)
    add_computing(parser.add_argument_group("computing"))


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    request = replace(
        request_of(args, args.target, args.output),
        slices=args.slices,
        truth=args.truth,
        report=args.report,
        preview=args.preview,
        points=tuple(args.point),
        boxes=tuple(args.box),
        masks=tuple(args.mask),
        force=args.force,
    )
    kept = Kept()
    with stop_on_signals(console.status) as cancel:
        if args.library:
            request, _ = with_library(request, args, console)
            kept.cases = library_cases(request)
        report = perform(request, console, cancel, kept)
    if report is None:
        console.status("stopped before the first slice was finished; nothing was written.")
        return EXIT_INTERRUPTED
    if args.json:
        console.result(to_text(report))
    for line in summary(report, request):
        console.say(line)
    if report["state"] != "complete":
        done, wanted = len(report["slices_done"]), report["slices_wanted"]
        console.status(f"stopped; {request.output} holds the {done} of {wanted} slices that were finished.")
        return EXIT_INTERRUPTED
    if report["nothing_found"]:
        console.status(nothing_found(request.output))
        return EXIT_NOTHING_FOUND
    return EXIT_OK


def summary(report: dict[str, Any], request: Request) -> list[str]:
    """Return a summary of the report for the user, as lines."""
    lines, names = [], SliceNames(**(report["inputs"]["target"]["slice_positions"] or {}))
    for entry in report["objects"]:
        found = entry["slices_found"]
        if not found:
            lines.append(f"{entry['name']}: not found")
            continue
        size = f"{entry['voxels']} pixels" if entry["volume_ml"] is None else f"{entry['volume_ml']:.1f} ml"
        ends = f"{names.short(found[0])} to {names.short(found[-1])}"
        where = f"{len(found)} slices, {ends}" if len(found) > 1 else names.name(found[0])
        text = f"{entry['name']}: {size} on {where}"
        if "dice" in entry:
            text += f", Dice {entry['dice']:.3f}"
        least = ", ".join(f"{w['confidence']:.2f} on {names.name(w['slice'])}" for w in entry["lowest_confidence"])
        lines.append(f"{text}; lowest confidence {least}")
    if report["helps"]["sentence"]:
        lines.append(report["helps"]["sentence"])
    written = [str(path) for path in (request.output, request.preview, request.report) if path]
    lines.append(f"wrote {', '.join(written)} in {report['seconds']['total']:.1f} s on {report['device']}")
    lines.append("Research use only. Not for diagnosis.")
    return lines
