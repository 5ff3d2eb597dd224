"""Terminology entries: Slicer's text in a segment's tag and the library's dictionary.

The text has seven parts between ``~``: context, category, type, type modifier, anatomic context, region, region
modifier; a code is ``scheme^value^meaning``. The dictionary is the one that slicerio makes of it, so that a segment
from a node and the same one from a file are alike: parts that are empty have no key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import vtk

if TYPE_CHECKING:
    import slicer

Terminology = dict[str, "str | list[str]"]
"""A terminology entry as the library has it: names of contexts, and codes as scheme, value, meaning."""

TAG = "TerminologyEntry"
TISSUE = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~SCT^85756007^Tissue~^^"
    "~Anatomic codes - DICOM master list~^^~^^"
)
"""Slicer's entry for a segment of which nothing is known; DICOM SEG export wants one."""

OBJECT_TAG = "ProxyPromptSegment.Object"
"""Tag of segments that a run has made: the object's name in the support."""

VERBATIM = "text"
"""Key of the whole text where the other keys would not give it back exactly."""

_KEYS = (
    "contextName",
    "category",
    "type",
    "typeModifier",
    "anatomicContextName",
    "anatomicRegion",
    "anatomicRegionModifier",
)
_NAMES = {"contextName", "anatomicContextName"}
_ALWAYS = {"contextName", "category", "type"}


def terminology_from_text(text: str | None) -> Terminology | None:
    """The dictionary of `Segment.terminology`, or None for an empty text or one without seven parts."""
    parts = (text or "").split("~")
    if len(parts) != len(_KEYS):
        return None
    entry: Terminology = {}
    for key, part in zip(_KEYS, parts, strict=True):
        if key in _ALWAYS or part.strip("^"):
            entry[key] = part if key in _NAMES else part.split("^")
    if terminology_to_text(entry) != text:
        entry[VERBATIM] = text or ""
    return entry


def terminology_to_text(terminology: Terminology | None) -> str:
    """The text of a tag; "" for None."""
    if not terminology:
        return ""
    if terminology.get(VERBATIM):
        return str(terminology[VERBATIM])
    return "~".join(
        str(terminology.get(key, "")) if key in _NAMES else "^".join(terminology.get(key) or ("", "", ""))
        for key in _KEYS
    )


def terminology_of_segment(segment: slicer.vtkSegment) -> Terminology | None:
    """The terminology of a vtkSegment as a dictionary, or None."""
    return terminology_from_text(tag_of(segment, TAG))


def object_name(segment: slicer.vtkSegment) -> str:
    """Name of the object that a vtkSegment marks, also where a run had to number it because the name was taken.

    So that a corrected result ``prostate (2)`` goes together with the ``prostate`` of other supports.
    """
    name, known = segment.GetName() or "", tag_of(segment, OBJECT_TAG)
    return known if known and re.fullmatch(re.escape(known) + r" \(\d+\)", name) else name


def tag_of(segment: slicer.vtkSegment, name: str) -> str:
    """A tag of a vtkSegment; "" if it has none."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""
