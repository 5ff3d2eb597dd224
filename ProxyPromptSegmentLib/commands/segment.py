"""The subcommand ``segment``: its options and its summary."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.checks import threshold_of, tiles_of
from ProxyPromptSegmentLib.commands.class_options import add_class, model_for
from ProxyPromptSegmentLib.commands.common_options import add_base_and_device, add_display
from ProxyPromptSegmentLib.commands.console import Console, nothing_found
from ProxyPromptSegmentLib.commands.hand_options import add_hand_options
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_run import perform
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_NOTHING_FOUND, EXIT_OK
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.reports.report import to_text
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL

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
    cases.add_argument(
        "--support", nargs=2, action="append", default=[], type=Path, metavar=("IMAGE", "SEGMENTATION"),
        help="annotated case: its image and its segmentation (.seg.nrrd, label map or mask picture); repeat it for "
        "several cases",
    )  # fmt: skip
    add_class(cases)
    cases.add_argument(
        "--surrogate", action="store_true",
        help="with a model that makes its prompt of the image alone: draw with its small surrogate decoder, a coarse "
        "preview without SAM",
    )  # fmt: skip
    cases.add_argument(
        "--target", required=True, type=Path, metavar="IMAGE",
        help="case to segment: NRRD, NIfTI, MHA, a DICOM folder, PNG, JPEG or TIFF",
    )  # fmt: skip
    cases.add_argument(
        "--object", action="append", default=[], metavar="NAME",
        help="segment of the support to search for; repeat it for several (default: all); NEW=A+B joins segments",
    )  # fmt: skip
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
    slices.add_argument(
        "--support-slices", action="append", default=[], metavar="A:B",
        help="slices of the support to use, once per --support in the same order (default: auto, up to 8 of the "
        "annotated ones)",
    )  # fmt: skip
    slices.add_argument(
        "--axis", choices=("auto", "k", "j", "i"), default="auto",
        help="slicing axis of the target (default: auto = acquisition plane)",
    )  # fmt: skip
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
    engine = parser.add_argument_group("computing")
    engine.add_argument(
        "--threshold", type=threshold_of, default=THRESHOLD, metavar="P",
        help=f"probability above which a voxel belongs to the object ({THRESHOLD})",
    )  # fmt: skip
    engine.add_argument(
        "--each-slice-alone", action="store_true",
        help="segment each slice independently: no smoothing across slices, small components and gaps are kept",
    )  # fmt: skip
    engine.add_argument(
        "--all-supports", action="store_true",
        help=f"let each slice read all support slices, not only the {MOST_READ} that are most like it",
    )  # fmt: skip
    engine.add_argument(
        "--keep-gaps", action="store_true",
        help="leave empty slices inside an object empty; otherwise they are filled where the mask itself supports it",
    )  # fmt: skip
    engine.add_argument(
        "--tiles", type=tiles_of, default=TileChoice(), metavar="auto|off|on|TIMES",
        help="cut slices into overlapping tiles that show structures TIMES larger (auto = only structures that are too "
        "thin or too small for the model; on = all, with a magnification that suits them)",
    )  # fmt: skip
    engine.add_argument(
        "--position", action=argparse.BooleanOptionalAction, default=USE_POSITION,
        help="use the relative position of slices along their volumes, if the model reads it; leave it out where "
        "support and target show very different parts of the body",
    )  # fmt: skip
    engine.add_argument(
        "--register", action=argparse.BooleanOptionalAction, default=REGISTER,
        help="register supports that are volumes to the target and join their masks with the prediction; takes "
        "a second for each support of a small volume, 5 to 20 for a large one",
    )  # fmt: skip
    engine.add_argument(
        "--closer", action=argparse.BooleanOptionalAction, default=USE_CLOSER,
        help="segment small structures a second time, enlarged, around where they were found; up to twice the time",
    )  # fmt: skip
    engine.add_argument(
        "--model", metavar="NAME|FILE",
        help=f"model of 'proxyprompt models list', or a .safetensors file ({DEFAULT_MODEL}; with --class, the first "
        "that knows it)",
    )  # fmt: skip
    add_base_and_device(engine)


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    request = Request(
        supports=tuple((image, mask) for image, mask in args.support),
        target=args.target,
        output=args.output,
        objects=tuple(args.object),
        model=model_for(args.model, args.classes, DEFAULT_MODEL),
        base=args.base,
        slices=args.slices,
        support_slices=tuple(args.support_slices),
        axis=args.axis,
        device=args.device,
        threshold=args.threshold,
        across_slices=not args.each_slice_alone,
        fill_gaps=not args.keep_gaps,
        most_read=None if args.all_supports else MOST_READ,
        tiles=args.tiles,
        position=args.position,
        register=args.register,
        closer=args.closer,
        truth=args.truth,
        report=args.report,
        preview=args.preview,
        classes=tuple(args.classes),
        any_modality=args.any_modality,
        surrogate=args.surrogate,
        points=tuple(args.point),
        boxes=tuple(args.box),
        masks=tuple(args.mask),
        force=args.force,
    )
    with stop_on_signals(console.status) as cancel:
        report = perform(request, console, cancel)
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
