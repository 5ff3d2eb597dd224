"""Cases of the support library on the command line: which are meant, and how they are described."""

from __future__ import annotations

import json
from typing import Any

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.library.entry import LibraryEntry
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.wording import ranges


def chosen(library: SupportLibrary, names: list[str]) -> list[LibraryEntry]:
    """Return the cases of these titles or codes, each once.

    Raises:
        InputError: If there is none of a name.
        UsageError: If several have the same title.
    """
    entries, found = library.entries(), list[LibraryEntry]()
    for name in names:
        wanted = name.strip().casefold()
        meant = [one for one in entries if one.id == wanted] or [
            one for one in entries if one.title.casefold() == wanted
        ]
        if not meant:
            raise InputError(
                f"the support library {library.folder} has no case '{name}'; `proxyprompt library list` lists them."
            )
        if len(meant) > 1:
            raise UsageError(f"{len(meant)} cases are called '{name}'; give a code: {', '.join(o.id for o in meant)}.")
        found += [one for one in meant if one not in found]
    return found


def line_of(entry: LibraryEntry) -> str:
    """Return a line about a case: its code, title, structures and annotated slices."""
    if entry.problem:
        return f"{entry.id}  {entry.title}: damaged: {entry.problem}"
    parts = [
        f"{one.name}" + ("" if entry.is_picture else f" on {len(one.slices)} slice{'s' if len(one.slices) > 1 else ''}")
        for one in entry.objects
    ]
    size = "x".join(map(str, entry.size_ijk[:2] if entry.is_picture else entry.size_ijk))
    more = [entry.modality] if entry.modality else []
    more += [f"prompted by slices {ranges(entry.slices)}"] if entry.slices else []
    return f"{entry.id}  {entry.title}: {', '.join(parts)}; {', '.join([*more, size])}; saved {entry.saved[:10]}"


def describe(entry: LibraryEntry) -> dict[str, Any]:
    """Return a case as JSON values."""
    return {
        "id": entry.id,
        "title": entry.title,
        "folder": str(entry.folder),
        "objects": [{"name": one.name, "voxels": one.voxels, "slices": list(one.slices)} for one in entry.objects],
        "slices": None if entry.slices is None else list(entry.slices),
        "axis": entry.axis,
        "modality": entry.modality,
        "size_ijk": list(entry.size_ijk),
        "spacing_mm": None if entry.is_picture else list(entry.spacing_mm),
        "annotator": entry.annotator,
        "saved": entry.saved,
        "problem": entry.problem,
    }


def as_json(content: object) -> str:
    """Return values as a command prints them."""
    return json.dumps(content, indent=2, ensure_ascii=False)
