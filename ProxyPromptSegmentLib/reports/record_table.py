"""A run record as a table that can be read: what, and its value in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ProxyPromptSegmentLib.reports.results_table import Table
from ProxyPromptSegmentLib.wording import ranges

_WORDS = {
    "created": "Written on",
    "started": "Started on",
    "state": "State",
    "nothing_found": "Nothing found",
    "device": "Computed on",
    "command": "Kind of run",
    "memory": "Steps because of memory",
    "seconds": "Seconds",
    "model": "Model",
    "earlier_models": "Earlier model",
    "settings": "Setting",
    "versions": "Version",
    "notes": "Note",
    "warnings": "Warning",
    "objects": "Structure",
    "inputs": "Input",
    "supports": "Support",
    "target": "Target",
    "sha256": "SHA-256",
    "research_use_only": "Research use only",
}
_FIRST = ("state", "started", "model", "earlier_models", "inputs", "objects", "settings", "notes", "warnings")
"""Sections that are read most, in this order; the others follow as they come."""


def record_table(record: Mapping[str, Any]) -> Table:
    """Return a run record as a table with one row for each fact; the record itself keeps everything as JSON."""
    ordered = [key for key in _FIRST if key in record] + [key for key in record if key not in _FIRST]
    rows: list[list[object]] = [list(row) for key in ordered for row in _rows(_title(key), record[key])]
    return Table(("What", "Value"), ("", ""), rows)


def _rows(title: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the rows of a value; nested ones carry the titles above them."""
    if isinstance(value, Mapping):
        if not value:
            yield title, "none"
        for key, inner in value.items():
            yield from _rows(f"{title}: {_title(str(key), inside=True)}", inner)
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for number, one in enumerate(value, 1):
            name = str(one["name"]) if isinstance(one.get("name"), str) else str(number)
            yield from _rows(f"{title} {name}", {key: inner for key, inner in one.items() if key != "name"})
    else:
        yield title, _in_words(value)


def _title(key: str, inside: bool = False) -> str:
    words = _WORDS.get(key) or key.replace("_", " ")
    if inside and words[1:2].islower():
        return words[:1].lower() + words[1:]
    return words[:1].upper() + words[1:]


def _in_words(value: Any) -> str:
    """Return a plain value in words."""
    if value is None or value == [] or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        if all(isinstance(one, int) and not isinstance(one, bool) for one in value) and len(value) > 2:
            return ranges(sorted(value))
        return "; ".join(_in_words(one) for one in value)
    return str(value)
