"""Classes of a model's vocabulary as the objects that a job is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ProxyPromptSegmentLib.imaging.modality import KINDS, can_show, described
from ProxyPromptSegmentLib.imaging.segmentations import default_color
from ProxyPromptSegmentLib.imaging.slice_choice import Slices
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.job import Job, plan_without_support
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


def ruled_out(classes: Sequence[PromptClass], target: Volume) -> tuple[frozenset[int], tuple[Note, ...]]:
    """Return the numbers of the classes that an image cannot show for its modality, and a sentence about each."""
    found = {number: one for number, one in enumerate(classes) if not can_show(target, one.modalities)}
    notes = tuple(
        Note(
            f"'{one.name}' shows in {' or '.join(KINDS.get(kind, kind) for kind in one.modalities)}, and the target "
            f"{target.name} {described(target)}: it is not looked for, its segment is empty.",
            Remedy(kind=RemedyKind.ANY_MODALITY),
        )
        for one in found.values()
    )
    return frozenset(found), notes


def plan_classes(
    classes: Sequence[PromptClass],
    target: Volume,
    axis: str = "auto",
    slices: Slices = None,
    any_modality: bool = False,
) -> Job:
    """Plan the segmentation of classes; see `plan_without_support`.

    Args:
        classes: At least one.
        target: The volume to segment.
        axis: Its slicing axis.
        slices: Its slices, counted from 0; all by default.
        any_modality: Whether a class is looked for in an image whose modality cannot show it, too.
    """
    numbers, notes = (frozenset[int](), ()) if any_modality else ruled_out(classes, target)
    job = plan_without_support(target, asked_classes(classes), axis, slices, notes)
    return replace(job, ruled_out=numbers)


def asked_classes(classes: Sequence[PromptClass]) -> AskedObjects:
    """Return classes as objects to segment, with the colours and codes that their vocabulary has for them."""
    return AskedObjects(
        objects=tuple(one.name for one in classes),
        colors=tuple(default_color(n) if one.color_rgb is None else one.color_rgb for n, one in enumerate(classes)),
        terminologies=tuple(one.terminology for one in classes),
        one_piece=tuple(one.one_piece for one in classes),
    )
