"""The segments of a support that are asked for: by name, by the value of a label map, or joined to a new object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.wording import quoted


def select_segments(segmentation: Segmentation, objects: Sequence[str] | None) -> list[Segment]:
    """Return the segments with the given names, in that order ("1" also matches "label 1"), or all non-empty ones.

    ``NEWNAME=A+B`` merges several segments into one object.

    Raises:
        SupportError: If a name is unknown, repeated or ambiguous, or the segment is empty.
    """
    if not objects:
        chosen = [segment for segment in segmentation.segments if segment.mask.any()]
        if not chosen:
            raise SupportError(
                f"every mask of the support is empty ({quoted(segmentation.names) or 'no segments'}); choose another "
                "support, on which the object is annotated."
            )
        return chosen
    named: list[Segment] = []
    for name in objects:
        one = _union(segmentation, name) if "=" in name else _segment_named(segmentation, name)
        if any(one is segment or one.name == segment.name for segment in named):
            raise SupportError(f"the object '{name}' is given twice; give each object once.")
        alike = next((other.name for other in named if other.name.casefold() == one.name.casefold()), "")
        if alike:
            raise SupportError(same_but_capitals([alike, one.name]))
        named.append(one)
    return named


def parts_of(objects: Sequence[str]) -> list[str]:
    """Return the names of the segments that objects are made of, as `select_segments` reads them."""
    return [part for name in objects for part in (name.partition("=")[2].split("+") if "=" in name else [name])]


def is_called(segment: str, name: str) -> bool:
    """Return whether a segment may be meant by a name, in capitals or not: "1" also means "label 1"."""
    wanted = name.strip().casefold()
    return segment.strip().casefold() in (wanted, f"label {wanted}")


def _segment_named(segmentation: Segmentation, name: str) -> Segment:
    """Return the only segment of that name; it must not be empty.

    Capitals count only if there are several that differ in nothing else.
    """
    found = [s for s in segmentation.segments if is_called(s.name, name)]
    exact = [s for s in found if s.name.strip() == name.strip()]
    found = exact if len(exact) == 1 else found
    if not found:
        raise SupportError(
            f"the support has no object named '{name}'; it has {quoted(segmentation.names) or 'none'}. "
            + (_naming(segmentation, name) or "Choose one of these.")
        )
    if len(found) > 1:
        if len({s.name.strip() for s in found}) == len(found):
            raise SupportError(same_but_capitals([s.name for s in found]))
        raise SupportError(f"the support has {len(found)} objects named '{name}'; rename them so that one is meant.")
    if not found[0].mask.any():
        raise SupportError(f"the mask of '{found[0].name}' is empty; choose another support or another object.")
    return found[0]


def _naming(segmentation: Segmentation, name: str) -> str:
    """Return how to name a value of a label map, which holds no names; "" for segments with names."""
    values = [int(s.metadata.get("label_value") or 0) for s in segmentation.segments]
    if (
        not values
        or name.strip().isdigit()
        or any(s.name != f"label {value}" for s, value in zip(segmentation.segments, values, strict=True))
    ):
        return ""
    return f"A label map holds no names: write '{name.strip()}={values[0]}' for the voxels of value {values[0]}."


def same_but_capitals(names: Sequence[str]) -> str:
    """Return the sentence about objects that would be one, because capitals do not count between supports."""
    return (
        f"the objects {quoted(names)} differ only by capitals, which do not count between supports; rename them, or "
        "choose one of them."
    )


def _union(segmentation: Segmentation, text: str) -> Segment:
    """Merge several segments into a new object: ``gland=transition zone+peripheral zone``.

    It has the first one's colour and no terminology, because the codes of the parts do not describe the whole.
    """
    name, _, parts = text.partition("=")
    if not name.strip() or not all(part.strip() for part in parts.split("+")):
        raise SupportError(f"the object '{text}' is not clear; write NEWNAME=SEGMENT+SEGMENT, for example gland=1+2.")
    members = [_segment_named(segmentation, part) for part in parts.split("+")]
    mask = np.any([member.mask for member in members], axis=0).astype(np.uint8)
    return Segment(name.strip(), mask, members[0].color_rgb)
