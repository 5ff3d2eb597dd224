"""What somebody asks for when she presses Apply: nodes and choices, checked before anything begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.support.case import SupportCase


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to segment; the same words as the command line's options.

    Attributes:
        model: Name of a registered model, or path of a checkpoint.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threshold: Voxels of higher probability belong to the object, 0..1.
        axis: Slicing axis of the target, ``auto``, ``k``, ``j`` or ``i``.
        follow: Whether a SAM 2 model carries its memory from slice to slice.
        max_slices: How many support slices are used at most, of all supports together.
    """

    model: str = DEFAULT_MODEL
    device: str = "auto"
    threshold: float = THRESHOLD
    axis: str = "auto"
    follow: bool = False
    max_slices: int = 8


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the slices go.

    Attributes:
        segmentation: A segmentation node; None makes a new one.
        segment_ids: Segments whose slices may be replaced, by object name. Any other segment stays as it is, also one
            of the same name: a new segment is then made beside it.
        editor: A segment editor node whose masking and overwrite settings are honoured.
        name: Name of a new segmentation node.
    """

    segmentation: slicer.vtkMRMLSegmentationNode | None = None
    segment_ids: dict[str, str] | None = None
    editor: slicer.vtkMRMLSegmentEditorNode | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One job for the worker thread.

    Attributes:
        target: Volume node, or the proxy volume node of a sequence.
        cases: Supports, as `SupportTable.cases` gives them.
        objects: Names of the objects to segment; None means all that every support has.
        slices: Slices of the target, counted from 0 along the axis; None means all.
        first: The slice to begin with, usually the one on screen.
        settings: How.
        output: Where to.
        browser: Sequence browser node if the target is a sequence.
        items: Items of the sequence; None means all.
    """

    target: slicer.vtkMRMLVolumeNode
    cases: tuple[SupportCase, ...]
    objects: tuple[str, ...] | None = None
    slices: Sequence[int] | None = None
    first: int | None = None
    settings: Settings = Settings()
    output: Output = Output()
    browser: slicer.vtkMRMLSequenceBrowserNode | None = None
    items: Sequence[int] | None = None
