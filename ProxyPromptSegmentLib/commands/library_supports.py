"""Supports of ``segment`` and ``cohort`` that are cases of the support library."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.errors import SupportError, UsageError
from ProxyPromptSegmentLib.library.entry import IMAGE_FILE, MASKS_FILE, LibraryEntry
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.support.selecting import is_called, parts_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.case import SupportCase


def with_library(request: Request, args: argparse.Namespace, console: Console) -> tuple[Request, list[LibraryEntry]]:
    """Return a request whose supports are the cases of the library that have its objects, and these cases.

    Args:
        request: The request, without supports.
        args: The options: ``support``, ``classes`` and ``support_slices`` do not go with the library.
        console: Where the cases that are left out are named.

    Raises:
        UsageError: If other options say what prompts.
        SupportError: If no case can be used.
    """
    if args.support or args.classes:
        raise UsageError("--library takes the supports from the support library; leave out --support and --class.")
    if args.support_slices:
        raise UsageError(
            "--support-slices goes with --support; cases of the library say themselves which slices prompt."
        )
    entries = _usable(request, console)
    return replace(request, supports=tuple(_files(entry) for entry in entries)), entries


def library_cases(request: Request) -> list[SupportCase]:
    """Read the supports of such a request.

    Raises:
        ProxyPromptError: If one cannot be used.
    """
    wanted = [image.parent for image, _ in request.supports]
    store = SupportLibrary()
    known = {entry.folder: entry for entry in store.entries()}
    missing = [folder.name for folder in wanted if folder not in known]
    if missing:
        raise SupportError(f"the case {missing[0]} is no longer in the support library {store.folder}.")
    return [store.load(known[folder]) for folder in wanted]


def _usable(request: Request, console: Console) -> list[LibraryEntry]:
    """Return the cases of the library that have the objects; name the others.

    Raises:
        SupportError: If there is none.
    """
    store = SupportLibrary()
    parts = parts_of(request.objects)
    found, left = [], []
    for entry in store.entries():
        lacking = [part for part in parts if not any(is_called(one.name, part) for one in entry.objects)]
        if entry.problem:
            left.append(f"{entry.title}: {entry.problem}")
        elif lacking:
            left.append(f"{entry.title}: it has no '{lacking[0].strip()}'")
        else:
            found.append(entry)
    for line in left:
        console.warn(f"the case {line.rstrip('.')}; it is left out.")
    if not found:
        raise SupportError(
            f"the support library {store.folder} has no case that can be used; add annotated cases with "
            "`proxyprompt library add`, or give them with --support IMAGE SEGMENTATION."
        )
    return found


def _files(entry: LibraryEntry) -> tuple[Path, Path]:
    return entry.folder / IMAGE_FILE, entry.folder / MASKS_FILE
