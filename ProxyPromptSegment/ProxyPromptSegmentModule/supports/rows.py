"""Rows of the table of supports, built from saved choices and annotations; independent of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentLib.wording import ranges
from ProxyPromptSegmentModule.supports.saved import ObjectChoice, ObjectInfo, SavedRow, SupportRow, same_name
from ProxyPromptSegmentModule.supports.sources import Annotation
from ProxyPromptSegmentModule.translation import _


def row_of(
    saved: SavedRow,
    name: str,
    node_ids: tuple[str | None, str | None],
    annotation: Annotation | None,
    problem: str = "",
) -> SupportRow:
    """Build a row.

    Args:
        saved: The choices stored in the parameter node.
        name: Default title of the case.
        node_ids: Ids of volume and segmentation; None for removed nodes.
        annotation: The annotation; None if it cannot be read.
        problem: The reason why it cannot be read, or "".
    """
    title = saved.title or name
    volume_id, segmentation_id = node_ids
    row = SupportRow(
        key=saved.key,
        title=title,
        volume_id=volume_id,
        segmentation_id=segmentation_id,
        library_id=saved.library or None,
        slices=saved.slices,
        axis=saved.axis or "k",
        used=saved.used,
        problem=problem,
        whole=saved.whole,
    )
    if annotation is None:
        return row
    axis = saved.axis or annotation.axis
    annotated = annotated_slices(annotation, axis)
    slices = annotated if saved.whole else _still(saved.slices, annotated)
    infos = []
    for one in annotation.objects:
        own = one.slices.get(axis, ())
        shown = slices is None or bool(set(slices) & set(own))
        infos.append(
            ObjectInfo(name=one.name, color_rgb=one.color_rgb, slices=len(own), segment_id=one.segment_id, shown=shown)
        )
    if not annotated:
        problem = _("Nothing is annotated in '{title}'; mark an object in the Segment Editor.").format(title=title)
    elif slices == ():
        told = _("The chosen slices of '{title}' have no annotation any more; annotated are {annotated}. Choose again.")
        problem = told.format(title=title, annotated=ranges(annotated))
    return replace(
        row,
        objects=tuple(infos),
        slices=slices,
        axis=axis,
        annotated=annotated,
        problem=problem,
        notes=annotation.notes,
    )


def annotated_slices(annotation: Annotation, axis: Axis) -> tuple[int, ...]:
    """Return all slices along an axis on which an object is annotated."""
    return tuple(sorted({n for one in annotation.objects for n in one.slices.get(axis, ())}))


def _still(slices: tuple[int, ...] | None, annotated: tuple[int, ...]) -> tuple[int, ...] | None:
    return None if slices is None else tuple(n for n in slices if n in annotated)


def chosen_slices(row: SavedRow, annotation: Annotation, slices: Sequence[int] | Literal["all"] | None) -> SavedRow:
    """Return the row with other slices.

    Raises:
        SupportError: If nothing is annotated on one of them, or at all.
    """
    annotated = annotated_slices(annotation, annotation.axis)
    if not annotated:
        told = _("Nothing is annotated in '{title}'; mark an object in the Segment Editor, then add it as a support.")
        raise SupportError(told.format(title=row.title or row.name))
    if slices is None or isinstance(slices, str):
        if slices not in (None, "all"):
            raise SupportError(_("slices is '{slices}'; give numbers, or 'all'.").format(slices=slices))
        return replace(row, slices=None, whole=slices == "all", axis="")
    wanted = tuple(sorted({int(n) for n in slices}))
    empty = [n for n in wanted if n not in annotated]
    if empty or not wanted:
        told = _("There is no annotation on slice {slices} of '{title}'; annotated are {annotated} (counted from 0).")
        missing = ", ".join(str(n) for n in empty) or _("(none chosen)")
        raise SupportError(told.format(slices=missing, title=row.title or row.name, annotated=ranges(annotated)))
    return replace(row, slices=wanted, whole=False, axis=annotation.axis)


def repeated_name(row: SupportRow) -> str:
    """Return a sentence if two objects of a row have the same name, because objects are identified by name."""
    counts = Counter(one.name.strip().casefold() for one in row.objects if one.shown)
    twice = next((one.name for one in row.objects if counts[one.name.strip().casefold()] > 1 and one.shown), None)
    if twice is None:
        return ""
    spelled = [one.name for one in row.objects if one.shown and same_name(one.name, twice)]
    if len({name.strip() for name in spelled}) == len(spelled):
        told = _(
            "Segments of '{title}' differ only by capitals, which do not count between supports: {names}. Rename them, "
            "or use one of them under “Which segments and slices”."
        )
        return told.format(title=row.title, names=", ".join(f"'{name}'" for name in spelled))
    told = _("Several segments of '{title}' are named '{name}'; rename them so that each has its own name.")
    return told.format(title=row.title, name=twice)


def number_titles(rows: Sequence[SupportRow]) -> list[SupportRow]:
    """Add numbers to repeated titles, so that messages identify the rows."""
    counts, seen, result = Counter(row.title for row in rows), Counter[str](), []
    for row in rows:
        seen[row.title] += 1
        number = seen[row.title]
        result.append(replace(row, title=f"{row.title} ({number})") if counts[row.title] > 1 and number > 1 else row)
    return result


def objects_of(rows: Sequence[SupportRow]) -> list[ObjectChoice]:
    """Return the objects on the chosen slices of rows, ordered by the number of rows that have them."""
    found: dict[str, ObjectChoice] = {}
    for row in rows:
        for key, one in {one.name.strip().casefold(): one for one in row.objects if one.shown}.items():
            known = found.get(key, ObjectChoice(name=one.name, color_rgb=one.color_rgb, supports=0, of=len(rows)))
            found[key] = replace(known, supports=known.supports + 1)
    return sorted(found.values(), key=lambda choice: -choice.supports)


def why_none(rows: Sequence[SupportRow]) -> str:
    """Return why no row can be used."""
    if not rows:
        return _("There is no support. Choose a volume and a segmentation in which the object is marked, and add them.")
    problems = [f"{row.title}: {row.problem}" for row in rows if row.used and row.problem]
    if not problems:
        return _("No support is ticked; tick at least one.")
    return _("None of the ticked supports can be used. {problems}").format(problems=" ".join(problems))
