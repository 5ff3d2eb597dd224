"""The subcommand ``demo``: the main job on two artificial cases, so that it can be tried without data."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from ProxyPromptSegmentLib.commands.checks import device_of
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_run import perform
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, OutputError
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import write_volume
from ProxyPromptSegmentLib.reports.report import to_text
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, resolve

SUPPORT_SEED, TARGET_SEED = 1, 2
MARKER = ".proxyprompt-demo.json"
IMAGE, MARKS, TARGET, TRUTH = "support.nrrd", "support.seg.nrrd", "target.nrrd", "truth.seg.nrrd"
RESULT, PICTURE, REPORT = "segmentation.seg.nrrd", "picture.png", "report.json"
FILES = (IMAGE, MARKS, TARGET, TRUTH, RESULT, PICTURE, REPORT)
DESCRIPTION = """\
Draws two artificial male pelvis MRI scans, takes the prostate of the first as the support, segments
the second, compares with what was drawn, and makes a picture. No data and no network are needed.
It shows that the program runs; it says nothing about quality on patients.
"""
EXAMPLES = """\
example:
  proxyprompt demo --output demo

Writes support.nrrd, support.seg.nrrd, target.nrrd, truth.seg.nrrd, segmentation.seg.nrrd, picture.png
and report.json into the folder. Files of an earlier demo are replaced unless you have changed them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    parser.add_argument("--output", type=Path, default=Path("demo"), metavar="FOLDER", help="where to write (demo)")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|FILE", help=f"see segment ({DEFAULT_MODEL})")
    parser.add_argument(
        "--device",
        type=device_of,
        default="auto",
        metavar="auto|cpu|cuda|mps",
        help="where to compute (auto)",
    )
    parser.add_argument("--json", action="store_true", help="prints the report on stdout and nothing else")
    parser.add_argument("--quiet", action="store_true", help="says nothing but warnings and errors")
    parser.add_argument(
        "--progress", action="store_true", default=None, help="shows progress even if stderr is no terminal"
    )


def claim_folder(folder: Path) -> None:
    """Makes the folder, or takes one over in which only a former demo's unchanged files are in the way.

    Raises:
        OutputError: If it cannot be written, or a file in it is not the demo's.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise OutputError(f"the folder {folder.parent} does not exist; make it or choose another --output.") from None
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}; choose another --output.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} may not be written by this user; choose another --output.")
    former = _former(folder)
    for name in FILES:
        path = folder / name
        if path.exists() and (not path.is_file() or former.get(name) != sha256(path)):
            raise OutputError(
                f"{path} is in the way: it was not written by the demo, or was changed since, and is not "
                "overwritten. Choose another --output folder, or move the file."
            )


def _former(folder: Path) -> dict[str, str]:
    """Names and hashes of the files that the last demo wrote into the folder."""
    try:
        written = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return {str(name): str(value) for name, value in written.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _mark(folder: Path) -> None:
    """Notes which files are the demo's."""
    files = {name: sha256(folder / name) for name in FILES if (folder / name).is_file()}
    try:
        (folder / MARKER).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder / MARKER} cannot be written: {error.strerror}; free space.") from None


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the subcommand; returns the exit code."""
    folder: Path = args.output
    resolve(args.model)
    claim_folder(folder)
    with stop_on_signals(console.status) as cancel:
        console.say("drawing two artificial cases")
        try:
            support, marks = pelvis_phantom(SUPPORT_SEED)
            target, truth = pelvis_phantom(TARGET_SEED)
            write_volume(folder / IMAGE, support)
            write_segmentation(folder / MARKS, marks)
            write_volume(folder / TARGET, target)
            write_segmentation(folder / TRUTH, truth)
            request = Request(
                ((folder / IMAGE, folder / MARKS),),
                folder / TARGET,
                folder / RESULT,
                model=args.model,
                device=args.device,
                truth=folder / TRUTH,
                report=folder / REPORT,
                preview=folder / PICTURE,
                force=True,
            )
            console.say("segmenting the second by the first, as this command does:")
            console.say(f"  {command_line(request)}")
            report = perform(request, console, cancel)
        finally:
            _mark(folder)
    if report is None or report["state"] != "complete":
        console.status(f"stopped; what is done lies in {folder}.")
        return EXIT_INTERRUPTED
    if args.json:
        console.result(to_text(report))
    for entry in report["objects"]:
        volume = f"{entry['volume_ml']:.1f} ml on {len(entry['slices_found'])} slices"
        console.say(f"{entry['name']}: {volume}, Dice {entry['dice']:.3f} against what was drawn")
    console.say(
        f"wrote {folder} in {report['seconds']['total']:.1f} s on {report['device']}; look at {folder / PICTURE}"
    )
    console.say("Artificial images: this shows that the program runs, not how good it is. Research use only.")
    return EXIT_OK


def command_line(request: Request) -> str:
    """The same work as a command that can be typed."""
    import shlex

    words = ["proxyprompt", "segment"]
    for image, mask in request.supports:
        words += ["--support", str(image), str(mask)]
    words += ["--target", str(request.target), "--output", str(request.output), "--truth", str(request.truth)]
    words += ["--preview", str(request.preview), "--report", str(request.report), "--force"]
    if request.model != DEFAULT_MODEL:
        words += ["--model", request.model]
    return shlex.join(words)
