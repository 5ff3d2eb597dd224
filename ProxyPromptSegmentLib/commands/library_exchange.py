"""``library export`` and ``library import``: cases of the support library in one file, for another workplace."""

from __future__ import annotations

import argparse
from typing import Any

from ProxyPromptSegmentLib.commands.checks import refuse_existing
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.library_cases import as_json, chosen, describe, line_of
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED, InputError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path
from ProxyPromptSegmentLib.library.archive import ImportedCase, export_zip, import_zip
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.remedies import Note, Severity
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.wording import size_text

CONTENT = (
    "the file holds images of patients with their annotations, titles, notes and annotators, but no names of files and "
    "nothing else that identifies a patient; text that is burned into an image stays. Look through the cases before "
    "the file leaves your institution."
)


def run_export(args: argparse.Namespace, console: Console, library: SupportLibrary) -> int:
    """Export cases; return the exit code.

    Raises:
        InputError: If there is none, or one is damaged.
        OutputError: If the file exists or cannot be written.
    """
    entries = chosen(library, args.cases) if args.cases else library.entries()
    if not entries:
        raise InputError(f"the support library {library.folder} has no case that could be exported.")
    check_output_path(args.out, (".zip",))
    refuse_existing("--output", args.out, args.force)
    with stop_on_signals(console.status, "the case") as cancel:
        if export_zip(library, entries, args.out, False, console.progress, cancel, args.force) is None:
            console.status("stopped; nothing was written.")
            return EXIT_INTERRUPTED
    digest, size = sha256(args.out), args.out.stat().st_size
    console.say(f"{_count(len(entries))}: {args.out}, {size_text(size)}, SHA-256 {digest}")
    _note(console, CONTENT)
    if args.json:
        about = {"path": str(args.out), "bytes": size, "sha256": digest}
        console.result(as_json({**about, "cases": [describe(entry) for entry in entries]}))
    return EXIT_OK


def run_import(args: argparse.Namespace, console: Console, library: SupportLibrary) -> int:
    """Import the cases of a file; return the exit code.

    Raises:
        InputError: If it is no file of cases, or none of them can be used.
        OutputError: If the library cannot be written.
    """
    with stop_on_signals(console.status, "the case") as cancel:
        found = import_zip(library, args.file, console.progress, cancel)
    refused = [one for one in found if one.entry is None]
    for one in found:
        _report(one, console)
    if args.json:
        console.result(as_json([_outcome(one) for one in found]))
    if cancel.cancelled:
        console.status("stopped; what was imported is kept, and the same command imports the rest.")
        return EXIT_INTERRUPTED
    if refused and len(refused) == len(found):
        raise InputError(f"none of the {_count(len(found))} in {args.file} was imported.")
    return EXIT_SOME_FAILED if refused else EXIT_OK


def _report(one: ImportedCase, console: Console) -> None:
    """Say what became of a case of a file."""
    if one.entry is None:
        console.warn(one.refusal)
    elif one.already_there:
        _note(console, f"'{one.title}' is skipped: the same case is in the library already, as '{one.entry.title}'.")
    else:
        console.say(line_of(one.entry))
        if one.entry.title != one.title:
            _note(console, f"another case is called '{one.title}' already; the imported one is '{one.entry.title}'.")


def _note(console: Console, text: str) -> None:
    console.note(Note(text, severity=Severity.INFORMATION))


def _outcome(one: ImportedCase) -> dict[str, Any]:
    case = None if one.entry is None else describe(one.entry)
    return {"title": one.title, "case": case, "already_there": one.already_there, "refusal": one.refusal}


def _count(cases: int) -> str:
    return f"{cases} case{'' if cases == 1 else 's'}"
