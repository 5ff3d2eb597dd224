"""What somebody has chosen in the panel; kept in the parameter node and saved with the scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import slicer
from slicer.parameterNodeWrapper import parameterNodeWrapper

from ProxyPromptSegmentModule.states import Scope, SlicesHow

if TYPE_CHECKING:
    Volume = slicer.vtkMRMLVolumeNode | None
    Segmentation = slicer.vtkMRMLSegmentationNode | None
    Box = slicer.vtkMRMLMarkupsROINode | None
else:  # the wrapper takes a class of nodes for "one of these, or none"
    Volume, Segmentation, Box = slicer.vtkMRMLVolumeNode, slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLMarkupsROINode

LAST = -1
"""The last slice, however many there are."""


@parameterNodeWrapper
class ProxyPromptParameters:
    """The choices of the panel. The table of supports keeps its own in the same node, see `SupportTable`.

    Attributes:
        supportVolume: Image of the case that is to be added as a support.
        supportSegmentation: Its annotation.
        supportSegments: Identifiers of the segments that may prompt, see `names_of`; empty means all.
        supportSlicesHow: Which annotated slices prompt: a `SlicesHow`.
        supportSlices: Those, as text.
        objects: Names of the objects to segment, see `names_of`; empty means all that every support has.
        updateAtOnce: Whether another choice of objects or supports segments again at once.
        targetVolume: What is segmented.
        scope: How much of it, a `Scope`.
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

    supportVolume: Volume
    supportSegmentation: Segmentation
    supportSegments: str = ""
    supportSlicesHow: str = SlicesHow.AUTOMATIC.value
    supportSlices: str = ""
    objects: str = ""
    updateAtOnce: bool = True
    targetVolume: Volume
    scope: str = Scope.WHOLE.value
    firstSlice: int = 0
    lastSlice: int = LAST
    box: Box
    outputSegmentation: Segmentation
    honourEditor: bool = False
    model: str = ""
    axis: str = "auto"
    device: str = "auto"
    threshold: float = 0.5
    followMemory: bool = False
    followView: bool = True
    whyObject: str = ""

    if TYPE_CHECKING:  # these are the wrapper's
        parameterNode: slicer.vtkMRMLScriptedModuleNode

        def __init__(self, parameterNode: slicer.vtkMRMLScriptedModuleNode) -> None: ...


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
