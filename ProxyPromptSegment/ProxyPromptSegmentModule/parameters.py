"""What somebody has chosen in the panel; kept in the parameter node and saved with the scene."""

from __future__ import annotations

import json
from collections.abc import Sequence

import slicer
from slicer.parameterNodeWrapper import parameterNodeWrapper

WHOLE, SLICES, BOX, LIVE, SEQUENCE = "whole", "slices", "box", "live", "sequence"
SCOPES = (WHOLE, SLICES, BOX, LIVE, SEQUENCE)
AUTOMATIC, ALL_ANNOTATED, THESE = "automatic", "all", "these"
LAST = -1
"""The last slice, however many there are."""


@parameterNodeWrapper
class ProxyPromptParameters:
    """The choices of the panel. The table of supports keeps its own in the same node, see `SupportTable`.

    Attributes:
        supportVolume: Image of the case that is to be added as a support.
        supportSegmentation: Its annotation.
        supportSegments: Identifiers of the segments that may prompt, see `names_of`; empty means all.
        supportSlicesHow: Which annotated slices prompt: ``automatic``, ``all`` or ``these``.
        supportSlices: Those, as text.
        objects: Names of the objects to segment, see `names_of`; empty means all that every support has.
        updateAtOnce: Whether another choice of objects or supports segments again at once.
        targetVolume: What is segmented.
        scope: How much of it; one of `SCOPES`.
        firstSlice: First slice of the scope ``slices``, counted from 0.
        lastSlice: Last one, itself included; `LAST` is the last there is.
        box: Box of the scope ``box``.
        outputSegmentation: Where the result goes; none makes a new one.
        honourEditor: Whether the Segment Editor's masking is honoured.
        model: Name of the model; empty is the program's choice.
        axis: Slicing axis of the target: ``auto``, ``k``, ``j`` or ``i``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threshold: Voxels of higher probability belong to the object.
        followMemory: Whether the model remembers the slices before.
        followView: Whether the views show each slice as it is written.
        whyObject: The object that the why view explains.
    """

    supportVolume: slicer.vtkMRMLVolumeNode
    supportSegmentation: slicer.vtkMRMLSegmentationNode
    supportSegments: str = ""
    supportSlicesHow: str = AUTOMATIC
    supportSlices: str = ""
    objects: str = ""
    updateAtOnce: bool = True
    targetVolume: slicer.vtkMRMLVolumeNode
    scope: str = WHOLE
    firstSlice: int = 0
    lastSlice: int = LAST
    box: slicer.vtkMRMLMarkupsROINode
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    honourEditor: bool = False
    model: str = ""
    axis: str = "auto"
    device: str = "auto"
    threshold: float = 0.5
    followMemory: bool = False
    followView: bool = True
    whyObject: str = ""


def names_of(text: str) -> tuple[str, ...] | None:
    """Names out of a parameter; None where there are none, which means all."""
    try:
        names = json.loads(text) if text else None
    except ValueError:  # a scene that somebody has edited
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def text_of(names: Sequence[str] | None) -> str:
    """The parameter's text of names; None means all."""
    return "" if names is None else json.dumps(list(names), ensure_ascii=False)
