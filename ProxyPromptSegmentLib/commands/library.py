"""The subcommand ``library``: annotated cases that are kept for later, as 3D Slicer's panel keeps them."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.common_options import add_action
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.library_cases import as_json, chosen, describe, line_of
from ProxyPromptSegmentLib.commands.library_exchange import run_export, run_import
from ProxyPromptSegmentLib.commands.remedies import in_words
from ProxyPromptSegmentLib.errors import EXIT_OK, ProxyPromptError, SupportError
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice, slice_numbers
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.review.check import check_case
from ProxyPromptSegmentLib.support.case import read_support_case
from ProxyPromptSegmentLib.support.matching import annotated_axis
from ProxyPromptSegmentLib.user_folders import LIBRARY_VARIABLE

DESCRIPTION = """\
Keep annotated cases for later: `segment --library`, `cohort --library` and `adapt --library` use them, and
3D Slicer lists them. A case is a copy without names, dates and file names; text that is burned into an image stays.
"""
EXAMPLES = f"""\
examples:
  keep a case; without --title it is called "Case 1", "Case 2", ...
    proxyprompt library add old.nrrd old.seg.nrrd --object prostate --title "T2, 3 T"
  two cases of one patient, so that neither is tested with the other; only a code is kept, which cannot be read back
    proxyprompt library add first.nrrd first.seg.nrrd --patient 4711
    proxyprompt library add second.nrrd second.seg.nrrd --patient 4711
  what is kept; whether it is intact and fit to be a support; remove a case
    proxyprompt library list
    proxyprompt library check
    proxyprompt library remove "Case 1"
  hand the library, or some of its cases, to another workplace as one file
    proxyprompt library export --output our_cases.zip
    proxyprompt library import our_cases.zip

The cases are in the folder that 'proxyprompt library path' prints; set {LIBRARY_VARIABLE} to use another one.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    action = partial(add_action, actions)
    action("list", "list the cases that are kept")
    added = action("add", "copy an annotated case into the library")
    added.add_argument("image", type=Path, metavar="IMAGE", help="image: whatever 'segment --support' reads")
    added.add_argument("segmentation", type=Path, metavar="SEGMENTATION", help="its segmentation or mask picture")
    added.add_argument("--title", default="", help="title; it is shown, so that a patient's name does not belong in it")
    added.add_argument(
        "--object", action="append", metavar="NAME",
        help="segment to keep; repeat it for several (default: all that are not empty)",
    )  # fmt: skip
    added.add_argument(
        "--slices", metavar="A:B", help="slices that prompt: 12, or 10:30, or 5,7,9 (default: chosen when it is used)"
    )
    added.add_argument("--modality", default="", metavar="TEXT", help="such as 'MR T2'")
    added.add_argument("--annotator", default="", metavar="NAME", help="who drew the segmentation")
    added.add_argument(
        "--patient", default="", metavar="TEXT",
        help="the same for all cases of one patient; only a code of it is kept (default: a patient of its own)",
    )  # fmt: skip
    named = {"metavar": "CASE", "help": "titles or codes of 'proxyprompt library list'"}
    checked = action("check", "check that cases are intact, and what speaks against them as supports")
    checked.add_argument("cases", nargs="*", metavar="CASE", help=f"{named['help']} (default: all)")
    removed = action("remove", "delete cases permanently")
    removed.add_argument("cases", nargs="+", metavar="CASE", help=named["help"])
    given = action("export", "copy cases to one file, from which they can be imported elsewhere")
    given.add_argument("cases", nargs="*", metavar="CASE", help=f"{named['help']} (default: all)")
    given.add_argument("--output", dest="out", required=True, type=Path, metavar="FILE", help="new .zip file")
    given.add_argument("--force", action="store_true", help="replace a file of this name")
    taken = action("import", "take cases from a file that 'library export' or 3D Slicer's panel wrote")
    taken.add_argument("file", type=Path, metavar="FILE", help="the .zip file")
    action("path", "print the folder of the library")


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    with console.listening():
        return _ACTIONS[args.action](args, console, SupportLibrary())


def _list(args: argparse.Namespace, console: Console, library: SupportLibrary) -> int:
    entries = library.entries()
    if args.json:
        console.result(as_json([describe(entry) for entry in entries]))
        return EXIT_OK
    for entry in entries:
        console.result(line_of(entry))
    if not entries:
        console.say(f"The support library {library.folder} has no case; `proxyprompt library add` copies one into it.")
    return EXIT_OK


def _add(args: argparse.Namespace, console: Console, library: SupportLibrary) -> int:
    choice = SliceChoice.parse(args.slices, "--slices")
    case = read_support_case(args.image, args.segmentation)
    axis = annotated_axis(case.volume, case.segmentation)
    count = case.volume.geometry.shape_kji["kji".index(axis)]
    entry = library.save(
        case.volume,
        case.segmentation,
        title=args.title,
        annotator=args.annotator,
        modality=args.modality,
        slices=slice_numbers(choice, count),
        objects=args.object,
        identity=args.patient,
    )
    if entry.already_there:
        console.status(f"the same image with the same masks is in the library already, as '{entry.title}'.")
    if args.json:
        console.result(as_json(describe(entry)))
    console.say(line_of(entry))
    return EXIT_OK


def _check(args: argparse.Namespace, console: Console, library: SupportLibrary) -> int:
    results: list[dict[str, Any]] = []
    for entry in chosen(library, args.cases) if args.cases else library.entries():
        notes: list[tuple[str, str]] = []
        try:
            findings = check_case(library.load(entry), modality=entry.modality)
            notes = [(finding.level, str(in_words(finding.note))) for finding in findings]
        except ProxyPromptError as error:
            notes = [("error", str(error))]
        results.append({**describe(entry), "findings": [{"level": level, "text": text} for level, text in notes]})
        shown = [(level, text) for level, text in notes if level != "info" or not console.quiet]
        if args.json or (console.quiet and not shown):
            continue
        console.result(f"{entry.title}: {'intact' if not notes else ''}".rstrip())
        for level, text in shown:
            console.result(f"  {'note' if level == 'info' else level}: {text}")
    if args.json:
        console.result(as_json(results))
    unusable = [one["title"] for one in results if any(finding["level"] == "error" for finding in one["findings"])]
    if unusable:
        raise SupportError(f"{len(unusable)} of {len(results)} cases cannot be used: {', '.join(unusable)}.")
    return EXIT_OK


def _remove(args: argparse.Namespace, console: Console, library: SupportLibrary) -> int:
    entries = chosen(library, args.cases)
    for entry in entries:
        library.remove(entry)
        console.say(f"removed {entry.title} ({entry.id})")
    if args.json:
        console.result(as_json([entry.id for entry in entries]))
    return EXIT_OK


def _path(args: argparse.Namespace, console: Console, library: SupportLibrary) -> int:
    console.result(as_json({"path": str(library.folder)}) if args.json else str(library.folder))
    return EXIT_OK


_ACTIONS = {
    "list": _list,
    "add": _add,
    "check": _check,
    "remove": _remove,
    "export": run_export,
    "import": run_import,
    "path": _path,
}
