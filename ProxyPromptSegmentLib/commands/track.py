"""The subcommand ``track``: its options, and what it says in the end."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.checks import device_of, threshold_of
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.requests import TrackRequest
from ProxyPromptSegmentLib.commands.track_run import perform
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.reports.report import to_text
from ProxyPromptSegmentLib.tracking.choices import PROMPTED_MODES, TrackingMode
from ProxyPromptSegmentLib.weights.registry import DEFAULT_TRACKING_MODEL
from ProxyPromptSegmentLib.wording import ranges

MOST_LISTED = 5
DESCRIPTION = """\
Follows what somebody has marked in one patient's image (the support) through another patient's clip
or volume (the target), frame by frame.

The support prompts every frame anew, and the memory of the frames before helps. The frames of a clip
are followed strictly in time: none knows what comes later. The slices of a volume are followed both
ways, beginning with the one that is most like the support.
"""
EXAMPLES = """\
examples:
  a frame of one sweep, with its mask, follows the vessel through another sweep
    proxyprompt track --support frame.png mask.png --target sweep.mp4 --output sweep.seq.nrrd \\
        --table sweep.csv --overlay look.mp4 --report sweep.json
  the frames lie in a folder; only the first hundred; the masks go into a new folder
    proxyprompt track --support frame.png mask.png --target frames --frames 0:99 --output masks
  a volume with annotated slices follows the prostate through another volume
    proxyprompt track --support old.nrrd old.seg.nrrd --object prostate --target new.nrrd --output new.seg.nrrd

targets: videos (MP4, AVI, ...), folders of pictures, DICOM clips, sequences of 3D Slicer (.seq.nrrd),
  and every volume that 'segment' reads.
outputs: .seq.nrrd (a sequence of label maps; open it in 3D Slicer beside the target), .seg.nrrd (names
  and colours; the frames of a clip are its slices), .nii.gz, .nrrd, .mha, or a name without suffix for
  a folder of pictures. A volume gets .seg.nrrd or a label map on exactly its grid.

Frames are counted from 0. Frames that cannot be read are told and passed over. Ctrl-C stops after the
current frame and keeps what is done. Where support and memory say different things, look first.
Research use only. Not for diagnosis.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    cases = parser.add_argument_group("cases")
    cases.add_argument(
        "--support", nargs=2, action="append", required=True, type=Path, metavar=("IMAGE", "SEGMENTATION"),
        help="an annotated picture or case: its image, and what is marked on it (mask picture, label map or "
        ".seg.nrrd); repeat it for several",
    )  # fmt: skip
    cases.add_argument(
        "--target", required=True, type=Path, metavar="CLIP|VOLUME",
        help="what to follow the objects through: a video, a folder of frames, a DICOM clip, a sequence, a volume",
    )  # fmt: skip
    cases.add_argument(
        "--object", action="append", default=[], metavar="NAME",
        help="segment of the support to follow; repeat it for several (default: all); NEW=A+B joins segments",
    )  # fmt: skip
    frames = parser.add_argument_group("frames")
    frames.add_argument(
        "--frames", metavar="A:B", help="only these frames or slices of the target: 12, or 10:30, or 40: (default: all)"
    )
    frames.add_argument(
        "--support-slices", action="append", default=[], metavar="A:B",
        help="slices of the support to learn from, once per --support in the same order (default: auto, up "
        "to 8 of the annotated ones)",
    )  # fmt: skip
    frames.add_argument(
        "--axis", choices=("auto", "k", "j", "i"), default="auto",
        help="which way a volume is cut into slices (default: auto, as it was acquired)",
    )  # fmt: skip
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="the masks: .seq.nrrd, .seg.nrrd, .nii.gz, .nrrd, "
        ".mha, or the name of a new folder",
    )  # fmt: skip
    results.add_argument("--table", type=Path, metavar="FILE.csv", help="time, area and confidence of each frame")
    results.add_argument(
        "--overlay", type=Path, metavar="FILE.mp4|FILE.gif", help="the target with contours, to look at"
    )
    results.add_argument("--report", type=Path, metavar="FILE.json", help="how it came about, what to look at")
    results.add_argument("--force", action="store_true", help="replaces existing results, never an input")
    results.add_argument("--json", action="store_true", help="prints the report on stdout and nothing else")
    results.add_argument("--quiet", action="store_true", help="says nothing but warnings and errors")
    results.add_argument(
        "--progress", action="store_true", default=None, help="shows progress even where stderr is no terminal"
    )
    engine = parser.add_argument_group("computing")
    engine.add_argument(
        "--mode", choices=[mode.value for mode in PROMPTED_MODES], default=PROMPTED_MODES[0].value,
        help=f"proxy+bank: support and memory; proxy_only: the support alone, each frame on its own "
        f"({PROMPTED_MODES[0]})",
    )  # fmt: skip
    engine.add_argument(
        "--threshold", type=threshold_of, default=THRESHOLD, metavar="P",
        help=f"probability above which a pixel belongs to the object ({THRESHOLD})",
    )  # fmt: skip
    engine.add_argument(
        "--model", default=DEFAULT_TRACKING_MODEL, metavar="NAME|FILE",
        help=f"a SAM 2 model of 'proxyprompt models list', or a .safetensors file ({DEFAULT_TRACKING_MODEL})",
    )  # fmt: skip
    engine.add_argument(
        "--device", type=device_of, default="auto", metavar="auto|cpu|cuda|mps", help="where to compute (auto)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the subcommand; returns the exit code."""
    request = TrackRequest(
        supports=tuple((image, mask) for image, mask in args.support),
        target=args.target,
        output=args.output,
        objects=tuple(args.object),
        model=args.model,
        slices=args.frames,
        support_slices=tuple(args.support_slices),
        axis=args.axis,
        device=args.device,
        threshold=args.threshold,
        report=args.report,
        force=args.force,
        mode=TrackingMode(args.mode),
        table=args.table,
        overlay=args.overlay,
    )
    written: list[Path] = []
    try:
        with stop_on_signals(console.status, "the frame") as cancel:
            report = perform(request, console, cancel, written)
    except KeyboardInterrupt:
        kept = f"{', '.join(map(str, written))} was complete and is kept" if written else "no file was left"
        console.error(f"stopped at once; {kept}.")
        return EXIT_INTERRUPTED
    if report is None:
        console.status("stopped before the first frame was done; nothing was written.")
        return EXIT_INTERRUPTED
    if args.json:
        console.result(to_text(report))
    for line in summary(report, written):
        console.say(line)
    if report["state"] != "complete":
        wanted = "" if report["frames_wanted"] is None else f" of {report['frames_wanted']}"
        console.status(f"stopped; {request.output} holds the {len(report['frames_done'])}{wanted} frames done.")
        return EXIT_INTERRUPTED
    return EXIT_OK


def summary(report: dict[str, Any], written: list[Path]) -> list[str]:
    """What a person wants to know, in a few lines."""
    done, skipped = report["frames_done"], report["frames_skipped"]
    wanted = "" if report["frames_wanted"] in (None, len(done)) else f" of {report['frames_wanted']}"
    line = f"{len(done)}{wanted} {'frames' if wanted or len(done) != 1 else 'frame'} done"
    if skipped:
        each = [f"{entry['frame']} ({entry['reason']})" for entry in skipped[:MOST_LISTED]]
        more = [f"and {len(skipped) - MOST_LISTED} more"] if len(skipped) > MOST_LISTED else []
        line += f"; {len(skipped)} skipped: {', '.join(each + more)}"
    lines = [line]
    for entry in report["objects"]:
        found = entry["frames_found"]
        if not found:
            lines.append(f"{entry['name']}: not found")
            continue
        low, high = entry["area_mm2"] or entry["area_px"]
        unit = "mm\u00b2" if entry["area_mm2"] else "pixels"
        size = f"{low:.5g} {unit}" if low == high else f"{low:.5g} to {high:.5g} {unit}"
        where = f"{len(found)} frames ({found[0]} to {found[-1]})" if len(found) > 1 else f"frame {found[0]}"
        least = ", ".join(f"{w['frame']} ({w['confidence']:.2f})" for w in entry["lowest_confidence"])
        lines.append(f"{entry['name']}: on {where}, {size}; confidence is lowest on frame {least}")
    if report["frames_disagreeing"]:
        frames = [entry["frame"] for entry in report["frames_disagreeing"]]
        many = f"{len(frames)} frames" if len(frames) > 1 else "frame"
        lines.append(f"proxy prompt and memory disagree on {many} {ranges(frames)}; look there first")
    elif report["settings"]["mode"] == TrackingMode.PROXY_AND_BANK:
        lines.append("proxy prompt and memory disagree on no frame")
    speed = report["frames_per_second"]
    files = ", ".join(str(path) for path in written)
    lines.append(
        f"wrote {files} in {report['seconds']['total']:.1f} s on {report['device']}"
        + (f", {speed:.1f} frames per second" if speed else "")
    )
    lines.append("Research use only. Not for diagnosis.")
    return lines
