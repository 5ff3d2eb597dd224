"""Lists of annotated cases: a CSV file with the columns image and annotation, or JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.support.case_files import CaseFiles

SUFFIXES = (".csv", ".json")
ANNOTATION_KEYS = ("annotation", "segmentation", "mask", "label")
_MOST_BYTES = 1 << 24
_SEPARATORS = (",", ";", "\t")


def read_case_list(path: Path) -> list[CaseFiles]:
    """Read a list of cases; paths in it are relative to its folder.

    Args:
        path: CSV with a header, or a JSON list of objects, with ``image`` and ``annotation`` (or ``segmentation``,
            ``mask``, ``label``) and, if wanted, ``patient``, a name or number; or a JSON list of pairs of paths.

    Raises:
        InputError: If it cannot be read, is empty, or a row lacks a path.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is far too long for a list of files")
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(text) if path.suffix.lower() == ".json" else csv_rows(text)
    except OSError as error:
        raise InputError(f"the list of cases {path} cannot be read: {error}") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"the list of cases {path} is not understood: {error}") from None
    found = [_case(path, number, row) for number, row in enumerate(rows, 1)]
    if not found:
        raise InputError(f"the list of cases {path} is empty; it needs the columns image and annotation, and rows.")
    return found


def csv_rows(text: str) -> list[dict[str, Any]]:
    """Return the rows of a table with a header, by the names of its columns in lower case; cells are texts.

    Separators are commas, semicolons or tabs, as the header has them. A cell in quotation marks may hold line breaks.

    Raises:
        ValueError: If it is not such a table.
    """
    mark, text = _separator(text)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
    try:
        return [{(key or "").strip().lower(): (value or "") for key, value in row.items() if key} for row in reader]
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _separator(text: str) -> tuple[str, str]:
    """Return what separates the cells of a table, and the table without a first line that says it, as Excel has it."""
    first, end, rest = text.partition("\n")
    said = first.strip().strip('"')
    if said.lower().startswith("sep=") and said[4:] in ("", *_SEPARATORS):
        return said[4:] or "\t", rest
    outside = "".join(first.split('"')[::2])  # a name in quotation marks may hold any of them
    return max(_SEPARATORS, key=outside.count), text


def _json_rows(text: str) -> list[dict[str, Any]]:
    content = json.loads(text)
    if not isinstance(content, list):
        raise ValueError("it is not a list")
    rows = []
    for number, row in enumerate(content, 1):
        if isinstance(row, list) and len(row) == 2:
            row = {"image": row[0], "annotation": row[1]}
        if not isinstance(row, dict):
            raise ValueError(f"its item {number} is neither an object nor a pair of paths")
        rows.append({str(key).lower(): value for key, value in row.items()})
    return rows


def _case(path: Path, number: int, row: dict[str, Any]) -> CaseFiles:
    """Build the case of a row.

    Raises:
        InputError: If a path is missing or no text.
    """
    image = row.get("image")
    annotation = next((row[key] for key in ANNOTATION_KEYS if row.get(key)), None)
    for what, value in (("image", image), ("annotation", annotation)):
        if not isinstance(value, str) or not value.strip():
            raise InputError(
                f"row {number} of {path} has no {what}; each needs the keys image and annotation, and may have patient."
            )
    value = row.get("patient")
    patient = "" if value is None else str(value)  # 0 is a patient's number
    return CaseFiles(
        path.parent / str(image).strip(), path.parent / str(annotation).strip(), patient.strip().casefold()
    )
