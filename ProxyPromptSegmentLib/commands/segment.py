"""The subcommand ``segment``: supports and a target in, a segmentation out."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.commands.checks import (
    check_inputs,
    check_outputs,
    device_of,
    expand_slices,
    is_single_picture,
    parse_slices,
    refuse_existing,
    threshold_of,
)
from ProxyPromptSegmentLib.console import Console
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, OutputError, UsageError
from ProxyPromptSegmentLib.interrupt import stop_on_signals
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.registry import DEFAULT_MODEL

DESCRIPTION = """\
Segments a new case (the target) from a case that somebody has already segmented (the support).

No click and no training: what is marked in the support is what is looked for in the target. Another
organ is another support. The result has exactly the target's geometry, and the names and colours of
the support's segments; open it in 3D Slicer together with the target.
"""
EXAMPLES = """\
examples:
  one support, one target
    proxyprompt segment --support old.nrrd old.seg.nrrd --target new.nrrd --output new.seg.nrrd
  only the prostate and the bladder of the support, with a picture and a report
    proxyprompt segment --support old.nrrd old.seg.nrrd --object prostate --object bladder \\
        --target new.nrrd --output new.seg.nrrd --preview new.png --report new.json
  two supports (better than one), target in a DICOM folder, slices 10 to 30 only
    proxyprompt segment --support a.nii.gz a_mask.nii.gz --support b.nii.gz b_mask.nii.gz \\
        --target dicom_folder --slices 10:30 --output new.nii.gz
  single pictures
    proxyprompt segment --support frame1.png mask1.png --target frame2.png --output mask2.png

Slices are counted from 0, as in the report. Ctrl-C stops after the current slice and keeps what is done.
Research use only. Not for diagnosis.
"""


@dataclass(frozen=True)
class Request:
    """The options of one segmentation."""

    supports: tuple[tuple[Path, Path], ...]
    target: Path
    output: Path
    objects: tuple[str, ...] = ()
    model: str = DEFAULT_MODEL
    slices: str | None = None
    support_slices: tuple[str, ...] = ()
    axis: str = "auto"
    device: str = "auto"
    threshold: float = 0.5
    truth: Path | None = None
    report: Path | None = None
    preview: Path | None = None
    force: bool = False

    @property
    def inputs(self) -> list[Path]:
        """Every file or folder that is read."""
        return [*(path for pair in self.supports for path in pair), self.target, *([self.truth] if self.truth else [])]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    add = parser.add_argument
    add("--support", nargs=2, action="append", required=True, type=Path, metavar=("IMAGE", "SEGMENTATION"),
        help="an annotated case: its image, and what was marked on it (.seg.nrrd, label map or mask picture); repeat for several")  # fmt: skip
    add("--target", required=True, type=Path, metavar="IMAGE", help="the case to segment: NRRD, NIfTI, MHA, DICOM folder, PNG, JPEG or TIFF")
    add("--output", required=True, type=Path, metavar="FILE", help="result: .seg.nrrd (names, colours), .nii.gz, .nrrd, .mha, or .png for one slice")
    add("--object", action="append", default=[], metavar="NAME", help="segment of the support to look for; repeat for several (default: all)")
    add("--slices", metavar="A:B", help="only these slices of the target, e.g. 10:30 or 5,7,9 (default: all)")
    add("--support-slices", action="append", default=[], metavar="A:B",
        help="slices of the support to learn from, once per --support in the same order (default: auto, up to 8 annotated ones)")  # fmt: skip
    add("--axis", choices=("auto", "k", "j", "i"), default="auto", help="which way the target is cut into slices (default: auto, as acquired)")
    add("--threshold", type=threshold_of, default=0.5, metavar="P", help="probability above which a voxel belongs to the object (0.5)")
    add("--model", default=DEFAULT_MODEL, metavar="NAME|FILE", help=f"model, see 'proxyprompt models list', or a .safetensors file ({DEFAULT_MODEL})")
    add("--device", type=device_of, default="auto", metavar="auto|cpu|cuda|mps", help="where to compute (auto)")
    add("--truth", type=Path, metavar="FILE", help="segmentation of the target by an expert; the report then has Dice")
    add("--report", type=Path, metavar="FILE.json", help="writes how the result came about and what to look at")
    add("--preview", type=Path, metavar="FILE.png", help="draws support and result")
    add("--json", action="store_true", help="prints the report on stdout and nothing else")
    add("--quiet", action="store_true", help="says nothing but warnings and errors")
    add("--progress", action="store_true", default=None, help="shows progress even if stderr is no terminal")
    add("--force", action="store_true", help="replaces existing results; inputs are never replaced")


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the subcommand; returns the exit code."""
    from ProxyPromptSegmentLib.report import to_text

    request = Request(
        tuple((image, mask) for image, mask in args.support), args.target, args.output, tuple(args.object), args.model,
        args.slices, tuple(args.support_slices), args.axis, args.device, args.threshold, args.truth, args.report,
        args.preview, args.force,
    )  # fmt: skip
    with stop_on_signals(console.status) as cancel:
        report = perform(request, console, cancel)
    if report is None:
        console.status("stopped before the first slice was done; nothing was written.")
        return EXIT_INTERRUPTED
    if args.json:
        console.result(to_text(report))
    for line in summary(report, request):
        console.say(line)
    if report["state"] != "complete":
        done, wanted = len(report["slices_done"]), report["slices_wanted"]
        console.status(f"stopped; {request.output} holds the {done} of {wanted} slices that were done.")
        return EXIT_INTERRUPTED
    return EXIT_OK


def perform(request: Request, console: Console, cancel: CancelToken) -> dict[str, Any] | None:
    """Does the work of a request and writes its files.

    Returns:
        The report; None if it was stopped before the first slice.

    Raises:
        ProxyPromptError: As the library's errors say.
    """
    from ProxyPromptSegmentLib.preview import PREVIEW_SUFFIXES
    from ProxyPromptSegmentLib.registry import resolve
    from ProxyPromptSegmentLib.segmentations import OUTPUT_SUFFIXES

    wanted = parse_slices(request.slices, "--slices")
    of_supports = _support_slices(request)
    check_inputs(request.inputs)
    outputs = (
        ("--output", request.output, OUTPUT_SUFFIXES),
        ("--report", request.report, (".json",)),
        ("--preview", request.preview, PREVIEW_SUFFIXES),
    )
    check_outputs(outputs, request.inputs, request.force)
    resolve(request.model)
    with console.listening() as heard:
        return _compute(request, console, cancel, heard, wanted, of_supports)


def _support_slices(request: Request) -> list[Any]:
    """Slice ranges per support."""
    given = request.support_slices
    if given and len(given) != len(request.supports):
        raise UsageError(
            f"--support-slices was given {len(given)} times for {len(request.supports)} supports; give it once for each "
            "--support in the same order ('auto' where the program may choose), or leave it out."
        )
    return [parse_slices(text, "--support-slices") for text in given] or [None] * len(request.supports)


def _compute(
    request: Request, console: Console, cancel: CancelToken, heard: list[str], wanted: Any, of_supports: list[Any]
) -> dict[str, Any] | None:
    from ProxyPromptSegmentLib import pipeline
    from ProxyPromptSegmentLib.geometry import take_slices
    from ProxyPromptSegmentLib.matching import choose_axes
    from ProxyPromptSegmentLib.segmentations import read_segmentation, write_segmentation
    from ProxyPromptSegmentLib.volumes import read_volume

    begun = time.perf_counter()
    target = read_volume(request.target)
    cases = [pipeline.read_support_case(image, mask) for image, mask in request.supports]
    truth = read_segmentation(request.truth, target.geometry) if request.truth else None
    axis, own_axes, _ = choose_axes([(c.volume, c.segmentation) for c in cases], target, request.axis)
    for n, (case, own, ranges) in enumerate(zip(cases, own_axes, of_supports, strict=True)):
        numbers = expand_slices(ranges, len(take_slices(case.volume.array, own)))
        cases[n] = pipeline.SupportCase(case.volume, case.segmentation, numbers and tuple(numbers), case.source)
    slices = expand_slices(wanted, len(take_slices(target.array, axis)))
    job = pipeline.plan(cases, target, request.objects or None, request.axis, slices)
    if is_single_picture(request.output) and target.array.shape[0] != 1:
        raise OutputError(
            f"{request.output.name} can hold one slice, the target has {target.array.shape[0]}; write .seg.nrrd or .nii.gz."
        )
    references = match_truth(truth, job.support.objects, str(request.truth)) if truth else None
    for note in job.notes:
        console.warn(note)
    read = time.perf_counter()
    if cancel.cancelled:
        return None
    model = pipeline.load(request.model, request.device)
    loaded = time.perf_counter()
    if cancel.cancelled:
        return None
    outcome = pipeline.run(model.segmenter, job, request.threshold, console.progress, cancel)
    if not outcome.result.done.any():
        return None
    for note in outcome.notes:
        console.warn(note)
    computed = time.perf_counter()
    refuse_existing("--output", request.output, request.force)
    for note in write_segmentation(request.output, outcome.segmentation):
        heard.append(note)
        console.warn(note)
    stacked = None if references is None else np.stack(list(references.values()))
    if request.preview:
        from ProxyPromptSegmentLib.preview import write_preview

        write_preview(request.preview, job, outcome, stacked, model.name)
    seconds = {
        "reading": read - begun, "model": loaded - read, **outcome.seconds,
        "writing": time.perf_counter() - computed, "total": time.perf_counter() - begun,
    }  # fmt: skip
    notes = [*job.notes, *outcome.notes, *heard]
    return _report(request, cases, job, outcome, model, seconds, references, notes)


def match_truth(truth: Any, objects: tuple[str, ...], name: str) -> dict[str, Any]:
    """Reference masks ``(K, J, I)`` by object name; a truth with one segment serves the one object whatever its name.

    Raises:
        UsageError: If the truth lacks an object.
    """
    by_name = {segment.name.strip().casefold(): segment.mask for segment in truth.segments}
    if len(objects) == 1 and len(truth.segments) == 1:
        return {objects[0]: truth.segments[0].mask}
    missing = [o for o in objects if o.strip().casefold() not in by_name]
    if missing:
        raise UsageError(
            f"--truth {name} has no segment named '{missing[0]}'; it has {', '.join(truth.names)}. Rename it there, or name "
            "the objects to compare with --object."
        )
    return {o: by_name[o.strip().casefold()] for o in objects}


def _report(
    request: Request, cases: Any, job: Any, outcome: Any, model: Any, seconds: dict[str, float],
    references: dict[str, Any] | None, notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Builds the report, and writes it if asked."""
    from ProxyPromptSegmentLib.evaluation.metrics import dice
    from ProxyPromptSegmentLib.report import build_report, write_report

    done = np.flatnonzero(outcome.result.done)
    scores = {
        name: dice(job.view.take(mask)[done], outcome.masks[done, n])
        for n, (name, mask) in enumerate((references or {}).items())
    }
    settings = {
        "axis": request.axis, "slices": request.slices, "support_slices": list(request.support_slices) or None,
        "threshold": request.threshold, "device": request.device, "output": str(request.output),
    }  # fmt: skip
    report = build_report(job, outcome, cases, model, settings, seconds, request.truth, scores, notes)
    if request.report:
        write_report(request.report, report)
    return report


def summary(report: dict[str, Any], request: Request) -> list[str]:
    """What a person wants to know, in a few lines."""
    lines = []
    for entry in report["objects"]:
        found = entry["slices_found"]
        if not found:
            lines.append(f"{entry['name']}: not found")
            continue
        size = f"{entry['voxels']} voxels" if entry["volume_ml"] is None else f"{entry['volume_ml']:.1f} ml"
        text = f"{entry['name']}: {size} on {len(found)} slices ({found[0]} to {found[-1]})"
        if "dice" in entry:
            text += f", Dice {entry['dice']:.3f}"
        least = ", ".join(f"{w['slice']} ({w['confidence']:.2f})" for w in entry["lowest_confidence"])
        lines.append(f"{text}; look first at slices {least}")
    written = [str(path) for path in (request.output, request.preview, request.report) if path]
    lines.append(f"wrote {', '.join(written)} in {report['seconds']['total']:.1f} s on {report['device']}")
    lines.append("Research use only. Not for diagnosis.")
    return lines
