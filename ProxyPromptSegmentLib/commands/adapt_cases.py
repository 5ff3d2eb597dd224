"""The cases of the subcommand ``adapt``: found, read and checked, with what cannot be used named."""

from __future__ import annotations

import argparse

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.errors import ProxyPromptError, SupportError, UsageError
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.support.case_files import CaseFiles, Unusable, find_cases
from ProxyPromptSegmentLib.support.case_lists import SUFFIXES, read_case_list
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, CheckedCases, check_cases, read_cases


def gather(args: argparse.Namespace, console: Console, doing: str = "learning") -> CheckedCases:
    """Find, read and check the cases; name what is left out.

    Args:
        args: ``cases``, ``support``, ``library``, ``object`` and ``allow_single``.
        console: Where what is left out is named.
        doing: What the cases are for, in sentences.

    Raises:
        UsageError: If no case was asked for.
        InputError: If a folder or list is missing or has no case.
        SupportError: As `check_cases`, or if the library has no case.
    """
    if not (args.cases or args.support or args.library):
        raise UsageError("no cases were given; give --cases FOLDER, --support IMAGE SEGMENTATION or --library.")
    files = [CaseFiles(image, mask) for image, mask in args.support]
    unusable: list[Unusable] = []
    for place in args.cases:
        if place.suffix.lower() in SUFFIXES and not place.is_dir():
            files += read_case_list(place)
        else:
            found, left = find_cases(place)
            files, unusable = files + found, unusable + left
    cases, unread = read_cases(files)
    unusable += unread
    if args.library:
        saved, damaged = _of_library()
        cases, unusable = cases + saved, unusable + damaged
    checked = check_cases(cases, args.object or None, unusable, args.allow_single, doing)
    for one in checked.unusable:
        console.warn(f"{one.name} is left out: {one.reason.rstrip('.')}.")
    return checked


def _of_library() -> tuple[list[AnnotatedCase], list[Unusable]]:
    """Read the cases of the support library."""
    library, found, unusable = SupportLibrary(), [], []
    if not (entries := library.entries()):
        raise SupportError(
            f"the support library {library.folder} has no case; add annotated cases with `proxyprompt library "
            "add` or in 3D Slicer, or give --cases FOLDER."
        )
    for entry in entries:
        try:
            found.append(AnnotatedCase(entry.title, library.load(entry), entry.patient))
        except ProxyPromptError as error:
            unusable.append(Unusable(entry.title, str(error)))
    return found, unusable
