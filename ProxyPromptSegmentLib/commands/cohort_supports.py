"""What the studies of a cohort are segmented with: supports, model and settings, with their hashes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.cohort.about import about_of, describe_files
from ProxyPromptSegmentLib.commands.checks import check_inputs
from ProxyPromptSegmentLib.commands.class_options import asked_by_name
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_options import request_of
from ProxyPromptSegmentLib.commands.segment_run import read_supports
from ProxyPromptSegmentLib.errors import SupportError, UsageError
from ProxyPromptSegmentLib.library.entry import IMAGE_FILE, MASKS_FILE, LibraryEntry
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.support.case import shared_objects
from ProxyPromptSegmentLib.support.selecting import select_segments
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import resolve

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.case import SupportCase


def prepare(args: argparse.Namespace, console: Console) -> tuple[Request, dict[str, Any], list[SupportCase]]:
    """Check everything that all studies share; nothing is computed.

    Returns:
        A request without a target, what makes the cohort (see `CohortFolder.begin`), and the supports.

    Raises:
        ProxyPromptError: If a support, the model or an option cannot be used.
    """
    request = request_of(args, Path(), Path())
    if args.library:
        if args.support or args.classes:
            raise UsageError("--library takes the supports from the support library; leave out --support and --class.")
        if args.support_slices:
            raise UsageError(
                "--support-slices goes with --support; cases of the library say themselves which slices prompt."
            )
        entries = _usable(request, console)
        request = replace(request, supports=tuple(_files(entry) for entry in entries))
    check_inputs([*(path for pair in request.supports for path in pair), *([request.base] if request.base else [])])
    weights, expected = resolve(request.model)
    asked_by_name(request)
    cases = read_cases(request, args.library)
    _check_objects(request, cases)
    about = about_of(
        [_of_entry(one) for one in entries] if args.library else describe_files(request.supports),
        request.model,
        expected or weights_sha256(weights),
        weights_sha256(request.base) if request.base else None,
        request.settings,
    )
    return request, about, cases


def read_cases(request: Request, library: bool) -> list[SupportCase]:
    """Read the supports, from files or from the library.

    Raises:
        ProxyPromptError: If one cannot be used.
    """
    if not library:
        return read_supports(request)
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
    parts = [part for name in request.objects for part in name.rpartition("=")[2].split("+")]
    found, left = [], []
    for entry in store.entries():
        names = {one.name.strip().casefold() for one in entry.objects}
        lacking = [part for part in parts if part.strip().casefold() not in names]
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


def _check_objects(request: Request, cases: list[SupportCase]) -> None:
    """Raise an error for objects that a support does not have, before thousands of studies would fail by it."""
    for case in cases:
        if request.objects:
            select_segments(case.segmentation, request.objects)
    if not request.objects and len(cases) > 1:
        shared_objects([case.segmentation for case in cases])


def _files(entry: LibraryEntry) -> tuple[Path, Path]:
    return entry.folder / IMAGE_FILE, entry.folder / MASKS_FILE


def _of_entry(entry: LibraryEntry) -> dict[str, Any]:
    """Describe a case of the library."""
    return {
        "name": entry.title,
        "image_sha256": entry.voxels_sha256,
        "segmentation_sha256": entry.masks_sha256,
        "slices": None if entry.slices is None else list(entry.slices),
    }
