"""The state of each case of a scene: new, segmented, corrected by hand, or accepted.

The state is stored beside the results, as an attribute of their segmentation, so that it is saved with the scene and a
list of many cases can be shown without reading their voxels. It is computed again whenever the results have changed.
A case is accepted as its results are: once these are others, it is not any more, until they are accepted again.
"""

from __future__ import annotations

import hashlib

import slicer

from ProxyPromptSegmentModule.scene.facts import read_facts
from ProxyPromptSegmentModule.scene.nodes import nodes_of
from ProxyPromptSegmentModule.scene.owners import film_of, key_of, keys_of, referred_by, result_segments, volumes_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentState, SegmentStates
from ProxyPromptSegmentModule.states import CaseState

STATE = "ProxyPrompt.case."
"""Beginning of the attribute with the state; the key of the volume follows, see `owners`."""

ACCEPTED = "ProxyPrompt.accepted."
"""Beginning of the attribute with the print of the results that were accepted."""


def states_in(scene: slicer.vtkMRMLScene) -> dict[str, CaseState]:
    """Return the state of each volume with results by its id, in one pass over the scene; the latest result counts."""
    found: dict[str, CaseState] = {}
    for node in nodes_of(scene, slicer.vtkMRMLSegmentationNode):
        shown = film_of(node)
        if shown is not None:
            found[shown.GetID()] = CaseState.SEGMENTED
        for key in keys_of(node):
            volume = referred_by(node, key)
            if volume is not None and result_segments(node, volume):
                found[volume.GetID()] = _stored(node, key)
    return found


def _stored(node: slicer.vtkMRMLSegmentationNode, key: str) -> CaseState:
    """Return the stored state; of results without one, such as those of an earlier version, that they are there."""
    text = node.GetAttribute(STATE + key) or ""
    return CaseState(text) if text in set(CaseState) else CaseState.SEGMENTED


def state_in(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> CaseState:
    """Return the stored state of a volume in this segmentation, whatever others say."""
    key = key_of(segmentation, volume)
    return _stored(segmentation, key) if key and result_segments(segmentation, volume) else CaseState.NEW


def update_states(segmentation: slicer.vtkMRMLSegmentationNode, known: SegmentStates) -> None:
    """Store the state of each volume whose results a segmentation holds, as they are now.

    Args:
        segmentation: The segmentation.
        known: What its segments hold.
    """
    for volume in volumes_of(segmentation):
        _store(segmentation, STATE, volume, str(_state_of(segmentation, volume, known)))


def accept(
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    known: SegmentStates,
    accepted: bool = True,
) -> None:
    """Accept the results of a volume in a segmentation as they are now, or take that back."""
    found = _now(segmentation, volume, known)
    _store(segmentation, ACCEPTED, volume, _print_of(found) if accepted and found else "")
    update_states(segmentation, known)


def _state_of(
    segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode, known: SegmentStates
) -> CaseState:
    found = _now(segmentation, volume, known)
    if not found:
        return CaseState.NEW
    accepted = segmentation.GetAttribute(ACCEPTED + key_of(segmentation, volume)) or ""
    if accepted and accepted == _print_of(found):
        return CaseState.ACCEPTED
    changed = any(state.changed for state in found.values())
    return CaseState.CORRECTED if changed else CaseState.SEGMENTED


def _now(
    segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode, known: SegmentStates
) -> dict[str, SegmentState]:
    """Return what the results of a volume hold by segment id."""
    axis = read_facts(segmentation, volume).axis
    states = {one: known.of(segmentation, one, volume, axis) for one in result_segments(segmentation, volume)}
    return {one: state for one, state in states.items() if state is not None}


def _print_of(found: dict[str, SegmentState]) -> str:
    """Return a print of the voxels of some segments."""
    text = " ".join(f"{segment_id} {state.content}" for segment_id, state in sorted(found.items()))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _store(
    segmentation: slicer.vtkMRMLSegmentationNode, kind: str, volume: slicer.vtkMRMLVolumeNode, text: str
) -> None:
    name = kind + key_of(segmentation, volume)
    if (segmentation.GetAttribute(name) or "") != text:
        segmentation.SetAttribute(name, text)
