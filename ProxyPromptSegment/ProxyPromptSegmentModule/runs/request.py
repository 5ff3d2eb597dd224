"""Immutable description of a run: nodes, settings, output; and its check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentModule.scene.segment_writer import EditorHistory


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run, named like the command line's options.

    Attributes:
        model: Name of a registered model, or path of a checkpoint.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threshold: Voxels with a higher probability belong to the object, 0..1.
        axis: Slicing axis of the target, ``auto``, ``k``, ``j`` or ``i``.
        tiles: Whether slices are cut into tiles: ``auto``, ``off``, ``on`` or a magnification.
        follow: Whether a SAM 2 model carries its memory from slice to slice.
        most_read: Number of support slices that a slice reads if more are given: those most like it; None means all.
        fill_gaps: Whether empty slices inside an object are filled where the mask itself supports it.
        position: Whether the position of slices along their volumes is used, if the model reads it.
        register: Whether supports are registered to the target and joined with the prediction.
        closer: Whether small structures are segmented a second time, enlarged.
        max_slices: Largest number of support slices, of all supports together.
    """

    model: str = DEFAULT_MODEL
    device: str = "auto"
    threshold: float = THRESHOLD
    axis: str = "auto"
    tiles: str = "auto"
    follow: bool = False
    most_read: int | None = MOST_READ
    fill_gaps: bool = True
    position: bool = USE_POSITION
    register: bool = REGISTER
    closer: bool = USE_CLOSER
    max_slices: int = 8


@dataclass(frozen=True, kw_only=True)
class Output:
    """The output of a run.

    Attributes:
        segmentation: A segmentation node; None creates a new one.
        segment_ids: Segments whose slices may be replaced, by object name. Slices that were changed by hand since an
            earlier run are kept. Other segments do not change, even one of the same name: a new segment is added then.
        reuse: Whether the segments that earlier runs made for the objects in this volume are written again.
        replace_changed: Whether slices that were changed by hand before the run are replaced, because the user was
            asked.
        history: The open Segment Editor's memory of states, see `SegmentWriter`; None without one.
        editor: A segment editor node whose masking and overwrite settings are respected.
        name: Name of a new segmentation node.
    """

    segmentation: slicer.vtkMRMLSegmentationNode | None = None
    segment_ids: dict[str, str] | None = None
    editor: slicer.vtkMRMLSegmentEditorNode | None = None
    name: str = ""
    reuse: bool = False
    replace_changed: bool = False
    history: EditorHistory | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that a run needs.

    Attributes:
        target: Volume node, or the proxy volume node of a sequence.
        cases: Supports, as returned by `SupportTable.cases`.
        objects: Names of the objects to segment; None means all that every support has.
        slices: Slices of the target, counted from 0 along the axis; None means all.
        first: The slice to start with, usually the one on screen.
        settings: The settings.
        output: The output.
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


def check_request(request: Request) -> None:
    """Check that a run can start.

    Raises:
        UsageError: If the target or the supports are missing.
    """
    if request.target is None or request.target.GetScene() is None:
        raise UsageError(_("There is no volume to segment; choose one under Target."))
    if not request.cases:
        raise UsageError(_("There is no support; add an annotated case and tick it."))
