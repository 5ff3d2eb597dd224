"""Which weights made a result, by its run record; results of different weights in one segmentation are said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.weights.earlier import MadeWith
from ProxyPromptSegmentLib.wording import ranges
from ProxyPromptSegmentModule.scene import result_nodes
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import slicer

EARLIER = "earlier_models"
"""Key of a run record: the other weights that made slices of the same result, each with name, hash and slices."""


def made_with(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> MadeWith | None:
    """Return the weights of the last run on a volume; None if no record says it."""
    return _model_of(_record(segmentation, volume).get("model"))


def earlier_models(
    segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode
) -> list[tuple[MadeWith, str]]:
    """Return the other weights that made slices of a result, with the slices in words."""
    listed = _record(segmentation, volume).get(EARLIER)
    found = []
    for one in listed if isinstance(listed, list) else []:
        model = _model_of(one)
        if model is not None:
            found.append((model, str(one.get("slices", ""))))
    return found


def with_earlier(
    record: dict[str, object],
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    left: Iterable[int],
) -> tuple[dict[str, object], str]:
    """Return a run's record with the weights that made what the run left, and a sentence on them; "" for none.

    Args:
        record: The record of the run; the scene still has that of the run before.
        segmentation: Its segmentation.
        volume: Its target.
        left: The slices that show something in any segment that the run did not write there.
    """
    now, before = _model_of(record.get("model")), made_with(segmentation, volume)
    rest, kept = set(left), []
    if now is None or before is None or not rest:
        return record, ""
    for model, text in [*earlier_models(segmentation, volume), (before, ranges(sorted(rest)))]:
        own = rest & _numbers(text)  # of slices that were rewritten since, nothing is left
        rest -= own
        if own and model.sha256 != now.sha256:
            kept.append({"name": model.name, "sha256": model.sha256, "slices": ranges(sorted(own))})
    if not kept:
        return record, ""
    if kept[-1]["sha256"] != before.sha256:
        return {**record, EARLIER: kept}, ""
    said = _("Slices {slices} are still those of another model, {before}; the others were segmented with {now}.")
    return {**record, EARLIER: kept}, said.format(slices=kept[-1]["slices"], before=before.title, now=now.title)


def _numbers(text: str) -> set[int]:
    """Return the slices of a text such as ``3-5, 9``."""
    ends = re.findall(r"(\d+)(?:-(\d+))?", text)
    return {index for first, last in ends for index in range(int(first), int(last or first) + 1)}


def _record(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> Mapping[str, object]:
    """Return the run record of a result; empty if there is none, or none that can be read."""
    node = result_nodes.record_of(segmentation, volume)
    try:
        content = json.loads(node.GetText() or "") if node is not None else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _model_of(described: object) -> MadeWith | None:
    if not isinstance(described, dict):
        return None
    name, digest = described.get("name"), described.get("sha256")
    return MadeWith(name=name, sha256=digest) if isinstance(name, str) and isinstance(digest, str) else None
