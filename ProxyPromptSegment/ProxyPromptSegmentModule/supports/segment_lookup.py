"""Lookup of segments by name."""

from __future__ import annotations

from collections.abc import Iterable

import slicer

from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentModule.translation import _


def segment_ids_of(node: slicer.vtkMRMLSegmentationNode, segments: Iterable[str]) -> list[str]:
    """Return the identifiers of segments that are given by identifier or name.

    Raises:
        SupportError: If a segment does not exist, several have the name, or none is given.
    """
    segmentation = node.GetSegmentation()
    names = {one: segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()}
    listed = ", ".join(f"'{name}'" for name in names.values()) or _("none")
    chosen: list[str] = []
    for one in segments:
        found = [one] if one in names else [segment_id for segment_id, name in names.items() if name == one]
        if len(found) != 1:
            told = _("There is no segment '{one}' in '{node}'; it has {names}.")
            if found:
                told = _("Several segments of '{node}' are named '{one}'; rename them so that each has its own name.")
            raise SupportError(told.format(one=one, node=node.GetName(), names=listed))
        chosen += found
    if not chosen:
        told = _("No segment of '{node}' was chosen for the support; it has {names}.")
        raise SupportError(told.format(node=node.GetName(), names=listed))
    return list(dict.fromkeys(chosen))


def kept_ids(node: slicer.vtkMRMLSegmentationNode, wanted: Iterable[str] | None) -> list[str]:
    """Return those of the wanted segments that still exist, in the segmentation's order; all by default."""
    every = list(node.GetSegmentation().GetSegmentIDs())
    return every if wanted is None else [segment_id for segment_id in every if segment_id in set(wanted)]
