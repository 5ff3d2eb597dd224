"""The subcommand ``track``: its options and its summary."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.checks import threshold_of, with_kept
from ProxyPromptSegmentLib.commands.class_options import add_class, model_for
from ProxyPromptSegmentLib.commands.common_options import add_base_and_device, add_display, add_precision
from ProxyPromptSegmentLib.commands.console import Console, nothing_found
from ProxyPromptSegmentLib.commands.hand_options import add_hand_options
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.requests import TrackRequest
from ProxyPromptSegmentLib.commands.track_run import perform
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_NOTHING_FOUND, EXIT_OK, OutputError
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.reports.report import to_text
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.tracking.choices import PROMPTED_MODES, TrackingMode
from ProxyPromptSegmentLib.weights.registry import DEFAULT_TRACKING_MODEL
from ProxyPromptSegmentLib.wording import ranges

MOST_LISTED = 5
DESCRIPTION = """\
Track what is marked in one patient's image (the support) through another patient's clip or volume
(the target), frame by frame.

The support prompts every frame, and SAM 2's memory of earlier frames adds to it. The frames of a clip
are tracked strictly in time: no frame uses later ones. The slices of a volume are tracked in both
directions, beginning with the slice that is most like the support.
"""
EXAMPLES = """\
examples:
  track the vessel of one annotated frame through another sweep
    proxyprompt track --support frame.png mask.png --target sweep.mp4 --output sweep.seq.nrrd \\
        --table sweep.csv --overlay look.mp4 --report sweep.json
  the first hundred frames of a folder; the masks are written into a new folder
    proxyprompt track --support frame.png mask.png --target frames --frames 0:99 --output masks
  track the prostate of an annotated volume through another volume
    proxyprompt track --support old.nrrd old.seg.nrrd --object prostate --target new.nrrd --output new.seg.nrrd
  without a support: a click on frame 0, and one that corrects frame 40 for it and all later frames
    proxyprompt track --target sweep.mp4 --point vessel=210,160,0 --point vessel=190,150,40,- --output sweep.seq.nrrd
  without a support: a structure that a model knows by name, in each frame alone
    proxyprompt track --class polyp --target colonoscopy.mp4 --output polyps.seq.nrrd

targets: videos (MP4, AVI, ...), folders of pictures, DICOM clips, sequences of 3D Slicer (.seq.nrrd),
  and all volumes that 'segment' reads.
outputs: .seq.nrrd (a sequence of label maps; open it in 3D Slicer with the target), .seg.nrrd (names
  and colours; the frames of a clip are its slices), .nii.gz, .nrrd, .mha, or a name without suffix for
  a folder of pictures. The result of a volume is .seg.nrrd or a label map on exactly its grid.

Frames are counted from 0. Unreadable frames are reported and skipped. Ctrl-C stops after the current
frame and keeps all finished frames. Frames on which the proxy prompt and SAM 2's memory disagree are
listed; review those first.
Research use only. Not for diagnosis.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    cases = parser.add_argument_group("cases")
    cases.add_argument(
        "--support", nargs=2, action="append", default=[], type=Path, metavar=("IMAGE", "SEGMENTATION"),
        help="annotated picture or case: its image and its segmentation (mask picture, label map or .seg.nrrd); repeat "
        "it for several",
    )  # fmt: skip
    add_class(cases)
    cases.add_argument(
        "--target", required=True, type=Path, metavar="CLIP|VOLUME",
        help="target to track through: a video, a folder of frames, a DICOM clip, a sequence or a volume",
    )  # fmt: skip
    cases.add_argument(
        "--object", action="append", default=[], metavar="NAME",
        help="segment of the support to track; repeat it for several (default: all); NEW=A+B joins segments",
    )  # fmt: skip
    add_hand_options(parser)
    frames = parser.add_argument_group("frames")
    frames.add_argument(
        "--frames", metavar="A:B", help="frames or slices of the target to track: 12, or 10:30, or 40: (default: all)"
    )
    frames.add_argument(
        "--support-slices", action="append", default=[], metavar="A:B",
        help="slices of the support to use, once per --support in the same order (default: auto, up to 8 of the "
        "annotated ones)",
    )  # fmt: skip
    frames.add_argument(
        "--axis", choices=("auto", "k", "j", "i"), default="auto",
        help="slicing axis of a volume (default: auto = acquisition plane)",
    )  # fmt: skip
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="masks: .seq.nrrd, .seg.nrrd, .nii.gz, .nrrd, "
        ".mha, or the name of a new folder",
    )  # fmt: skip
    results.add_argument("--table", type=Path, metavar="FILE.csv", help="time, area and confidence of each frame")
    results.add_argument("--overlay", type=Path, metavar="FILE.mp4|FILE.gif", help="video of the target with contours")
    results.add_argument(
        "--report", type=Path, metavar="FILE.json", help="JSON report: inputs, model, settings, results per object"
    )
    results.add_argument("--force", action="store_true", help="replace existing results, never an input")
    results.add_argument("--json", action="store_true", help="print only the report, as JSON on stdout")
    add_display(results)
    engine = parser.add_argument_group("computing")
    engine.add_argument(
        "--mode", choices=[mode.value for mode in PROMPTED_MODES], default=PROMPTED_MODES[0].value,
        help=f"proxy+bank: support and memory; proxy_only: the support alone, each frame independently "
        f"({PROMPTED_MODES[0]})",
    )  # fmt: skip
    engine.add_argument(
        "--all-supports", action="store_true",
        help=f"let each frame read all support slices, not only the {MOST_READ} that are most like it",
    )  # fmt: skip
    engine.add_argument(
        "--keep-gaps", action="store_true",
        help="volumes: leave empty slices inside an object empty; otherwise they are filled where the mask itself "
        "supports it",
    )  # fmt: skip
    engine.add_argument(
        "--threshold", type=threshold_of, default=THRESHOLD, metavar="P",
        help=f"probability above which a pixel belongs to the object ({THRESHOLD})",
    )  # fmt: skip
    engine.add_argument(
        "--model", metavar="NAME|FILE",
        help=f"SAM 2 model of 'proxyprompt models list', or a .safetensors file ({DEFAULT_TRACKING_MODEL}; with "
        "--class, the first that knows it)",
    )  # fmt: skip
    add_base_and_device(engine)
    add_precision(engine)


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    request = TrackRequest(
        supports=tuple((image, mask) for image, mask in args.support),
        target=args.target,
        output=args.output,
        objects=tuple(args.object),
        model=model_for(args.model, args.classes, DEFAULT_TRACKING_MODEL),
        base=args.base,
        slices=args.frames,
        support_slices=tuple(args.support_slices),
        axis=args.axis,
        device=args.device,
        precision=args.precision,
        threshold=args.threshold,
        fill_gaps=not args.keep_gaps,
        most_read=None if args.all_supports else MOST_READ,
        report=args.report,
        force=args.force,
        mode=TrackingMode(args.mode) if args.support else TrackingMode.PROXY_ONLY,  # no memory without a support
        classes=tuple(args.classes),
        any_modality=args.any_modality,
        table=args.table,
        overlay=args.overlay,
        points=tuple(args.point),
        boxes=tuple(args.box),
        masks=tuple(args.mask),
    )
    written: list[Path] = []
    try:
        with stop_on_signals(console.status, "the frame") as cancel:
            report = perform(request, console, cancel, written)
    except OutputError as error:
        raise with_kept(error, written) from None
    except KeyboardInterrupt:
        kept = f"{', '.join(map(str, written))} was complete and is kept" if written else "no file was written"
        console.error(f"stopped immediately; {kept}.")
        return EXIT_INTERRUPTED
    if report is None:
        console.status("stopped before the first frame was finished; nothing was written.")
        return EXIT_INTERRUPTED
    if args.json:
        console.result(to_text(report))
    for line in summary(report, written):
        console.say(line)
    if report["state"] != "complete":
        wanted = "" if report["frames_wanted"] is None else f" of {report['frames_wanted']}"
        done = f"{len(report['frames_done'])}{wanted} {_unit(report)}s"
        console.status(f"stopped; {request.output} holds the {done} that were finished.")
        return EXIT_INTERRUPTED
    if report["nothing_found"]:
        console.status(nothing_found(request.output))
        return EXIT_NOTHING_FOUND
    return EXIT_OK


def summary(report: dict[str, Any], written: list[Path]) -> list[str]:
    """Return a summary of the report for the user, as lines; slices of a volume are named with their positions."""
    unit, names = _unit(report), SliceNames(**(report["inputs"]["target"]["slice_positions"] or {}))
    done, skipped = report["frames_done"], report["frames_skipped"]
    wanted = "" if report["frames_wanted"] in (None, len(done)) else f" of {report['frames_wanted']}"
    line = f"{len(done)}{wanted} {unit}{'s' if wanted or len(done) != 1 else ''} done"
    if skipped:
        each = [f"{names.short(entry['frame'])} ({entry['reason']})" for entry in skipped[:MOST_LISTED]]
        more = [f"and {len(skipped) - MOST_LISTED} more"] if len(skipped) > MOST_LISTED else []
        line += f"; {len(skipped)} skipped: {', '.join(each + more)}"
    lines = [line]
    for entry in report["objects"]:
        found = entry["frames_found"]
        if not found:
            lines.append(f"{entry['name']}: not found")
            continue
        low, high = entry["area_mm2"] or entry["area_px"]
        measure = "mm\u00b2" if entry["area_mm2"] else "pixels"
        size = f"{low:.5g} {measure}" if low == high else f"{low:.5g} to {high:.5g} {measure}"
        first, last = names.short(found[0]), names.short(found[-1])
        where = f"{len(found)} {unit}s, {first} to {last}" if len(found) > 1 else f"{unit} {first}"
        least = ", ".join(
            f"{w['confidence']:.2f} on {unit} {names.short(w['frame'])}" for w in entry["lowest_confidence"]
        )
        lines.append(f"{entry['name']}: on {where}, {size}; lowest confidence {least}")
    if report["frames_disagreeing"]:
        frames = [entry["frame"] for entry in report["frames_disagreeing"]]
        many = f"{len(frames)} frames {ranges(frames)}" if len(frames) > 1 else f"frame {frames[0]}"
        where = names.names(frames) if unit == "slice" else many
        lines.append(f"proxy prompt and memory disagree on {where}; review those first")
    elif report["settings"]["mode"] == TrackingMode.PROXY_AND_BANK:
        lines.append(f"proxy prompt and memory disagree on no {unit}")
    speed = report["frames_per_second"]
    files = ", ".join(str(path) for path in written)
    lines.append(
        f"wrote {files} in {report['seconds']['total']:.1f} s on {report['device']}"
        + (f", {speed:.1f} frames per second" if speed else "")
    )
    lines.append("Research use only. Not for diagnosis.")
    return lines


def _unit(report: dict[str, Any]) -> str:
    """Return the word for one image of the target: a frame in time, or a slice of a volume."""
    return "slice" if report["inputs"]["target"]["kind"] == "volume" else "frame"
