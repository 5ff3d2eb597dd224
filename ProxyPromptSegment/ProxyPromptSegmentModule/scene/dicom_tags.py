"""Tags of results for DICOM: Slicer's export as DICOM SEG needs them for segments that were not drawn by hand.

Without a type a segment is exported as drawn by hand; with any other type it needs the name of the algorithm.
"""

from __future__ import annotations

from collections.abc import Iterable

import slicer

from ProxyPromptSegmentLib.imaging.dicom_seg import ALGORITHM, NAME_TAG, TYPE_TAG
from ProxyPromptSegmentModule.scene.facts import read_facts
from ProxyPromptSegmentModule.scene.owners import result_segments, volumes_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentStates
from ProxyPromptSegmentModule.scene.terminology import tag_of

TYPE, NAME = TYPE_TAG, NAME_TAG
AUTOMATIC, SEMIAUTOMATIC = "AUTOMATIC", "SEMIAUTOMATIC"


def name_algorithm(segmentation: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str], name: str) -> None:
    """Store which algorithm made some segments."""
    inside = segmentation.GetSegmentation()
    for segment_id in segment_ids:
        _set(inside.GetSegment(segment_id), NAME, name)


def update_types(segmentation: slicer.vtkMRMLSegmentationNode, known: SegmentStates) -> None:
    """Store for each result whether it is as the model drew it, or was corrected by hand since.

    Args:
        segmentation: The segmentation.
        known: What its segments hold.
    """
    inside = segmentation.GetSegmentation()
    for volume in volumes_of(segmentation):
        axis = read_facts(segmentation, volume).axis
        for segment_id in result_segments(segmentation, volume):
            state = known.of(segmentation, segment_id, volume, axis)
            corrected = state is not None and bool(state.changed)
            segment = inside.GetSegment(segment_id)
            _set(segment, TYPE, SEMIAUTOMATIC if corrected else AUTOMATIC)
            if not tag_of(segment, NAME):
                _set(segment, NAME, ALGORITHM)


def _set(segment: slicer.vtkSegment | None, tag: str, value: str) -> None:
    if segment is not None and tag_of(segment, tag) != value:
        segment.SetTag(tag, value)
