"""The subcommand ``demo``: segment one artificial case from another, to try the program without data."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ProxyPromptSegmentLib.commands.common_options import add_device, add_display
from ProxyPromptSegmentLib.commands.console import Console, nothing_found
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_run import perform
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_NOTHING_FOUND, EXIT_OK, OutputError
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
Create two artificial male pelvis MRI scans, segment the second with the prostate of the first as the
support, compare the result with the truth, and draw a picture. Needs no data and no network.
The demo shows that the program runs; it says nothing about its quality on patients.
"""
EXAMPLES = """\
example:
  proxyprompt demo --output demo

Writes support.nrrd, support.seg.nrrd, target.nrrd, truth.seg.nrrd, segmentation.seg.nrrd, picture.png
and report.json into the folder. Files of an earlier demo are replaced, unless they were changed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), metavar="FOLDER", help="folder for the files (demo)"
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|FILE",
        help=f"a model of 'proxyprompt models list', or a .safetensors file ({DEFAULT_MODEL})",
    )
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print only the report, as JSON on stdout")
    add_display(parser)


def claim_folder(folder: Path) -> None:
    """Create the folder, or accept one in which only unchanged files of an earlier demo will be replaced.

    Raises:
        OutputError: If it cannot be written, or a file to be written exists and is not an unchanged file of a demo.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise OutputError(f"the folder {folder.parent} does not exist; create it or choose another --output.") from None
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be created: {error.strerror}; choose another --output."
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder} is not writable for this user; choose another --output.")
    former = _former(folder)
    for name in FILES:
        path = folder / name
        if path.exists() and (not path.is_file() or former.get(name) != sha256(path)):
            raise OutputError(
                f"{path} already exists: it was not written by the demo, or was changed since, and is not "
                "overwritten. Choose another --output folder, or move the file."
            )


def _former(folder: Path) -> dict[str, str]:
    """Return names and SHA-256 hashes of the files that the last demo wrote into the folder."""
    try:
        said = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        written = {str(name): str(value) for name, value in said["files"].items()}
        if said.get("unfinished"):  # a demo that was killed; what it left beside these is its own
            more = [name for name in FILES if name not in written and (folder / name).is_file()]
            written |= {name: sha256(folder / name) for name in more}
        return written
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _mark(folder: Path, written: Sequence[str] | None = None) -> None:
    """Record names and hashes of the demo's files in the folder.

    Args:
        folder: The folder.
        written: During the work, the files that are written; the others are going to be the demo's own as well.
    """
    names = FILES if written is None else written
    files = {name: sha256(folder / name) for name in names if (folder / name).is_file()}
    content = {"files": files} if written is None else {"files": files, "unfinished": True}
    try:
        (folder / MARKER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder / MARKER} cannot be written: {error.strerror}; free some space.") from None


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    folder: Path = args.output
    resolve(args.model)
    claim_folder(folder)
    _mark(folder, ())
    with stop_on_signals(console.status) as cancel:
        console.say("creating two artificial cases")
        try:
            support, marks = pelvis_phantom(SUPPORT_SEED)
            target, truth = pelvis_phantom(TARGET_SEED)
            write_volume(folder / IMAGE, support)
            write_segmentation(folder / MARKS, marks)
            write_volume(folder / TARGET, target)
            write_segmentation(folder / TRUTH, truth)
            _mark(folder, (IMAGE, MARKS, TARGET, TRUTH))  # so that they are known if they are changed later
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
            console.say("segmenting the second from the first, equivalent to this command:")
            console.say(f"  {command_line(request)}")
            report = perform(request, console, cancel)
        finally:
            _mark(folder)
    if report is None or report["state"] != "complete":
        console.status(f"stopped; the files written so far are in {folder}.")
        return EXIT_INTERRUPTED
    if args.json:
        console.result(to_text(report))
    for entry in report["objects"]:
        volume = f"{entry['volume_ml']:.1f} ml on {len(entry['slices_found'])} slices"
        console.say(f"{entry['name']}: {volume}, Dice {entry['dice']:.3f} against the truth")
    console.say(f"wrote {folder} in {report['seconds']['total']:.1f} s on {report['device']}; open {folder / PICTURE}")
    console.say("Artificial images: they show that the program runs, not how well it segments. Research use only.")
    if report["nothing_found"]:
        console.status(nothing_found(folder / RESULT))
        return EXIT_NOTHING_FOUND
    return EXIT_OK


def command_line(request: Request) -> str:
    """Return the shell command that is equivalent to a request."""
    import shlex

    words = ["proxyprompt", "segment"]
    for image, mask in request.supports:
        words += ["--support", str(image), str(mask)]
    words += ["--target", str(request.target), "--output", str(request.output), "--truth", str(request.truth)]
    words += ["--preview", str(request.preview), "--report", str(request.report), "--force"]
    if request.model != DEFAULT_MODEL:
        words += ["--model", request.model]
    return shlex.join(words)
