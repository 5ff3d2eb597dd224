"""Immutable description of a run: nodes, settings, output; and its check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand
from ProxyPromptSegmentLib.weights.classes import models_knowing
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentLib.weights.vocabulary import FEW, chosen_classes, vocabulary_of
from ProxyPromptSegmentLib.worker.settings import ComputeSettings
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass
    from ProxyPromptSegmentModule.scene.editor_history import EditorHistory


@dataclass(frozen=True, kw_only=True)
class Settings(ComputeSettings):
    """The settings of a run, named like the command line's options.

    Attributes:
        model: Name of a registered model, or path of a checkpoint.
        axis: Slicing axis of the target, ``auto``, ``k``, ``j`` or ``i``.
        tiles: Whether slices are cut into tiles: ``auto``, ``off``, ``on`` or a magnification.
        follow: Whether a SAM 2 model carries its memory from slice to slice.
        max_slices: Largest number of support slices, of all supports together.
    """

    model: str = DEFAULT_MODEL
    axis: str = "auto"
    tiles: str = "auto"
    follow: bool = False
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
        cases: Supports, as returned by `SupportTable.cases`; none if the model is asked for classes.
        classes: The classes that the model is asked for.
        any_modality: Whether they are looked for in an image whose modality cannot show them, too.
        by_hand: What the user says by hand: alone, or as corrections of what supports or classes prompt.
        objects: Names of the objects to segment; None means all that every support has.
        slices: Slices of the target, counted from 0 along the axis; None means all.
        first: The slice to start with, usually the one on screen.
        settings: The settings.
        output: The output.
        browser: Sequence browser node if the target is a sequence.
        items: Items of the sequence; None means all.
    """

    target: slicer.vtkMRMLVolumeNode
    cases: tuple[SupportCase, ...] = ()
    classes: tuple[PromptClass, ...] = ()
    any_modality: bool = False
    by_hand: ByHand = ByHand()
    objects: tuple[str, ...] | None = None
    slices: Sequence[int] | None = None
    first: int | None = None
    settings: Settings = Settings()
    output: Output = Output()
    browser: slicer.vtkMRMLSequenceBrowserNode | None = None
    items: Sequence[int] | None = None


def class_choice(names: Sequence[str], model: str = "") -> tuple[str, tuple[PromptClass, ...]]:
    """Return the model to use for some classes, and the classes.

    Args:
        names: Names, synonyms or codes; none means all of a model that knows few.
        model: Name of a model; "" for the first one that knows the classes.

    Raises:
        UsageError: If none is named and the model knows many, or one is unknown; the nearest ones are named.
        CheckpointError: If the model is unknown or not on this machine.
    """
    if not model and not names:
        raise UsageError(_("There is no class to segment; name one, or a model that knows few."))
    chosen = model or models_knowing(names)[0]
    known = vocabulary_of(chosen)
    if not known:
        raise UsageError(_("“{model}” knows no classes: it is prompted by a support.").format(model=chosen))
    if not names and len(known) > FEW:
        listed = ", ".join(one.name for one in known)
        raise UsageError(
            _("“{model}” knows {count} classes; name those to segment: {names}.").format(
                model=chosen, count=len(known), names=listed
            )
        )
    return chosen, chosen_classes(known, names, f"'{chosen}'")


def check_request(request: Request, alone: bool = False) -> None:
    """Check that a run can start.

    Args:
        request: The description of the run.
        alone: Whether it needs no prompt to start, because marks are made later, or everything is looked for.

    Raises:
        UsageError: If the target or what prompts is missing, or supports and classes are mixed.
    """
    if request.target is None or request.target.GetScene() is None:
        raise UsageError(_("There is no volume to segment; choose one under Target."))
    if request.cases and request.classes:
        raise UsageError(_("Supports show what to segment, and classes name it; give one of the two."))
    if not (request.cases or request.classes or request.by_hand or alone):
        raise UsageError(_("There is no support; add an annotated case and tick it."))
