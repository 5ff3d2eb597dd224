"""Conversion of terminology entries between Slicer's segment tag and the library's dictionary.

The text has seven parts between ``~``: context, category, type, type modifier, anatomic context, region, region
modifier; a code is ``scheme^value^meaning``. The dictionary is that of slicerio, so that a segment from
a node equals the same segment from a file: empty parts have no key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import vtk

if TYPE_CHECKING:
    import slicer

Terminology = dict[str, "str | list[str]"]
"""A terminology entry in the library: names of contexts, and codes as scheme, value, meaning."""

TAG = "TerminologyEntry"
TISSUE = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~SCT^85756007^Tissue~^^"
    "~Anatomic codes - DICOM master list~^^~^^"
)
"""Slicer's default entry for an unknown segment; DICOM SEG export requires an entry."""

OBJECT_TAG = "ProxyPromptSegment.Object"
"""Tag of segments that were made by a run: the object's name in the support."""

VERBATIM = "text"
"""Key of the original text, if the other keys do not reproduce it exactly."""

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
    """Return the dictionary of `Segment.terminology`, or None unless the text has seven parts."""
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
    """Return the text of a tag; "" for None."""
    if not terminology:
        return ""
    if terminology.get(VERBATIM):
        return str(terminology[VERBATIM])
    return "~".join(
        str(terminology.get(key, "")) if key in _NAMES else "^".join(terminology.get(key) or ("", "", ""))
        for key in _KEYS
    )


def terminology_of_segment(segment: slicer.vtkSegment) -> Terminology | None:
    """Return the terminology of a vtkSegment as a dictionary, or None."""
    return terminology_from_text(tag_of(segment, TAG))


def object_name(segment: slicer.vtkSegment) -> str:
    """Return the name of the object in a vtkSegment, without the number that a run added to a name in use.

    This matches a corrected result ``prostate (2)`` with the ``prostate`` of other supports.
    """
    name, known = segment.GetName() or "", tag_of(segment, OBJECT_TAG)
    return known if known and re.fullmatch(re.escape(known) + r" \(\d+\)", name) else name


def tag_of(segment: slicer.vtkSegment, name: str) -> str:
    """Return a tag of a vtkSegment; "" if it has none."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""
