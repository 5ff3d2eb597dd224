"""What was found in each case, in brief: stored beside the results, so that a long list of cases reads no voxels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import slicer

from ProxyPromptSegmentLib.typed_json import read_object
from ProxyPromptSegmentModule.scene.facts import read_facts, result_now
from ProxyPromptSegmentModule.scene.nodes import nodes_of
from ProxyPromptSegmentModule.scene.owners import key_of, keys_of, referred_by, volumes_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentState, SegmentStates

BRIEF = "ProxyPrompt.brief."
"""Beginning of the attribute; the key of the volume follows, see `owners`."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A structure of a case.

    Attributes:
        name: Its name.
        volume_ml: Its volume in ml; 0 if it was not found.
        confidence: Mean confidence of the slices that show it and that nobody has changed, 0..1; None without any.
    """

    name: str
    volume_ml: float
    confidence: float | None = None


def briefs_in(scene: slicer.vtkMRMLScene) -> dict[str, tuple[Found, ...]]:
    """Return what was found in each volume with results by its id, in one pass over the scene; the latest counts."""
    found = {}
    for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode):
        for key in keys_of(node):
            volume, text = referred_by(node, key), node.GetAttribute(BRIEF + key) or ""
            if volume is not None and text:
                found[volume.GetID()] = _read(text)
    return found


def update_briefs(segmentation: slicer.vtkMRMLSegmentationNode, known: SegmentStates) -> None:
    """Store what was found in each volume whose results a segmentation holds, as it is now."""
    for volume in volumes_of(segmentation):
        now = result_now(segmentation, volume, known)
        sure = read_facts(segmentation, volume).confidence
        listed = [
            Found(
                name=now.names[one],
                volume_ml=round(state.volume_ml, 3),
                confidence=_mean(sure.get(one, {}) if state.axis == now.axis else {}, state),
            )
            for one, state in now.states.items()
        ]
        name, text = BRIEF + key_of(segmentation, volume), json.dumps([asdict(one) for one in listed])
        if (segmentation.GetAttribute(name) or "") != text:
            segmentation.SetAttribute(name, text)


def _mean(sure: Mapping[int, float], state: SegmentState) -> float | None:
    values = [sure[index] for index in state.pixels if index in sure and index not in state.changed]
    return round(sum(values) / len(values), 3) if values else None


def _read(text: str) -> tuple[Found, ...]:
    """Return a stored brief; nothing of one that was edited by hand or is of a later version."""
    try:
        return tuple(read_object(Found, values, known=values) for values in json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
