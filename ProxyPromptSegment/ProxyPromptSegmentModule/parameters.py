"""The choices in the panel; kept in the parameter node and saved with the scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import slicer
from slicer.parameterNodeWrapper import parameterNodeWrapper

from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentModule.states import PromptBy, Scope, SlicesHow

if TYPE_CHECKING:
    Volume = slicer.vtkMRMLVolumeNode | None
    Segmentation = slicer.vtkMRMLSegmentationNode | None
    Box = slicer.vtkMRMLMarkupsROINode | None
else:  # the wrapper reads a node class as "a node of this class, or None"
    Volume, Segmentation, Box = slicer.vtkMRMLVolumeNode, slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLMarkupsROINode

LAST = -1
"""The last slice, however many there are."""


@parameterNodeWrapper
class ProxyPromptParameters:
    """The choices of the panel. The table of supports keeps its own in the same node, see `SupportTable`.

    Attributes:
        promptBy: What tells the model what to segment, a `PromptBy`.
        classes: Names of the classes to segment, see `names_of`; empty means none.
        classModel: Model that knows classes by name; empty is the first that knows the chosen ones.
        structures: Names of the structures that the structure model is to look for; empty means all of a model that
            knows few.
        structureModel: Model that prompts by the image alone; empty is the first one.
        handObject: Name of the structure that is marked by hand next; empty is ``object``.
        supportVolume: Image of the case that is to be added as a support.
        supportSegmentation: Its annotation.
        supportSegments: Identifiers of the segments that are used, see `names_of`; empty means all.
        supportSlicesHow: Which annotated slices prompt: a `SlicesHow`.
        supportSlices: Text of the slices for `SlicesHow.THESE`.
        objects: Names of the objects to segment, see `names_of`; empty means all that every support has.
        updateAtOnce: Whether the result is updated as soon as objects or supports change.
        targetVolume: The volume to segment.
        scope: How much of it is segmented, a `Scope`.
        firstSlice: First slice of the scope ``slices``, counted from 0.
        lastSlice: Last slice, inclusive; `LAST` is the last of the volume.
        box: Box of the scope ``box``.
        outputSegmentation: Segmentation of the result; None creates a new one.
        honourEditor: Whether the Segment Editor's masking is honoured.
        model: Name of the model; empty is the default model.
        axis: Slicing axis of the target: ``auto``, ``k``, ``j`` or ``i``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threshold: Voxels of higher probability belong to the object.
        tiles: Whether slices are cut into tiles: ``auto``, ``off``, ``on`` or a magnification.
        followMemory: Whether the model remembers the previous slices.
        chooseSupports: Whether each slice reads only the support slices that are most like it.
        fillGaps: Whether empty slices inside an object are filled where the mask itself supports it.
        usePosition: Whether the position of slices along their volumes is used.
        registerSupports: Whether supports are registered to the target and joined with the prediction.
        lookCloser: Whether small structures are segmented a second time, enlarged.
        followView: Whether the views show each slice as it is written.
        whyObject: The object that the why view explains.
        teachStructure: Name of the structure that a model is to learn; empty is the one that most cases have.
        teachName: Name of the new model; empty is a free one after the structure.
        teachModel: Model to start from; empty is the default model.
        teachMinutes: Time for a lesson.
    """

    promptBy: str = PromptBy.SUPPORT.value
    classes: str = ""
    classModel: str = ""
    structures: str = ""
    structureModel: str = ""
    handObject: str = ""
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
    tiles: str = "auto"
    followMemory: bool = False
    chooseSupports: bool = True
    fillGaps: bool = True
    usePosition: bool = USE_POSITION
    registerSupports: bool = REGISTER
    lookCloser: bool = USE_CLOSER
    followView: bool = True
    whyObject: str = ""
    teachStructure: str = ""
    teachName: str = ""
    teachModel: str = ""
    teachMinutes: float = AdaptSettings.minutes

    if TYPE_CHECKING:  # these are the wrapper's
        parameterNode: slicer.vtkMRMLScriptedModuleNode

        def __init__(self, parameterNode: slicer.vtkMRMLScriptedModuleNode) -> None: ...


def names_of(text: str) -> tuple[str, ...] | None:
    """Return the names in a parameter; None means all."""
    try:
        names = json.loads(text) if text else None
    except ValueError:  # a scene that was edited by hand
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def text_of(names: Sequence[str] | None) -> str:
    """Return the text that a parameter stores for names; None means all."""
    return "" if names is None else json.dumps(list(names), ensure_ascii=False)
