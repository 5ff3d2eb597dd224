"""What the studies of a cohort are segmented with: supports, model and settings, with their hashes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.cohort.about import about_of, describe_files
from ProxyPromptSegmentLib.commands.checks import check_inputs
from ProxyPromptSegmentLib.commands.class_options import asked_by_name
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.library_supports import library_cases, with_library
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_options import request_of
from ProxyPromptSegmentLib.commands.segment_run import read_supports
from ProxyPromptSegmentLib.support.case import shared_objects
from ProxyPromptSegmentLib.support.selecting import select_segments
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import resolve

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.library.entry import LibraryEntry
    from ProxyPromptSegmentLib.support.case import SupportCase


def prepare(args: argparse.Namespace, console: Console) -> tuple[Request, dict[str, Any], list[SupportCase]]:
    """Check everything that all studies share; nothing is computed.

    Returns:
        A request without a target, what makes the cohort (see `CohortFolder.begin`), and the supports.

    Raises:
        ProxyPromptError: If a support, the model or an option cannot be used.
    """
    request = request_of(args, Path(), Path())
    entries: list[LibraryEntry] = []
    if args.library:
        request, entries = with_library(request, args, console)
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
    return library_cases(request) if library else read_supports(request)


def _check_objects(request: Request, cases: list[SupportCase]) -> None:
    """Raise an error for objects that a support does not have, before thousands of studies would fail by it."""
    for case in cases:
        if request.objects:
            select_segments(case.segmentation, request.objects)
    if not request.objects and len(cases) > 1:
        shared_objects([case.segmentation for case in cases])


def _of_entry(entry: LibraryEntry) -> dict[str, Any]:
    """Describe a case of the library."""
    return {
        "name": entry.title,
        "image_sha256": entry.voxels_sha256,
        "segmentation_sha256": entry.masks_sha256,
        "slices": None if entry.slices is None else list(entry.slices),
    }
