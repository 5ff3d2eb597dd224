"""What is segmented by what, decided before any network is loaded: bad input is refused without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ProxyPromptSegmentLib.errors import SupportError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import Axis, SliceView, slice_view, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.slice_choice import Slices, slice_numbers
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.support.case import SupportCase, _listed, distinct_names, shared_objects
from ProxyPromptSegmentLib.support.matching import choose_axes, differences
from ProxyPromptSegmentLib.support.pairs import MAX_SLICES, SupportSet, merge_supports, support_from_volume


@dataclass(frozen=True, kw_only=True)
class SupportSlice:
    """Where a pair of the support set comes from: case and its name, axis, slice, and the objects marked on it.

    Attributes:
        case: Number of the case.
        name: What to call it.
        axis: The axis that its slices were taken along.
        index: The slice's number along it, counted from 0; None where the pair has none.
        objects: Names of the objects that are marked.
        view: How the slice was turned.
    """

    case: int
    name: str
    axis: Axis
    index: int | None
    objects: tuple[str, ...]
    view: SliceView | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that decides a result, but the model.

    Attributes:
        support: Pairs in the orientation in which a radiologist looks at them.
        shown: Where each pair comes from.
        target: The volume to segment.
        view: How its slices are turned in the same way.
        slices: Which of them are segmented, in this order.
        window: Intensities ``(low, high)`` of the target that are mapped to 0..1.
        notes: What the user should know.
        name: What to call the target, distinct from the supports.
    """

    support: SupportSet
    shown: tuple[SupportSlice, ...]
    target: Volume
    view: SliceView
    slices: tuple[int, ...]
    window: tuple[float, float]
    notes: tuple[Note, ...] = ()
    name: str = "target"


def plan(
    cases: Sequence[SupportCase],
    target: Volume,
    objects: Sequence[str] | None = None,
    axis: str = "auto",
    slices: Slices = None,
    max_slices: int = MAX_SLICES,
) -> Job:
    """Turns supports and target the same way and chooses their slices.

    Args:
        cases: At least one support.
        target: The volume to segment.
        objects: Names of the objects; by default all that every support has.
        axis: Slicing axis of the target, see `choose_axes`.
        slices: Slices of the target along that axis, counted from 0; all by default.
        max_slices: How many support slices are chosen at most, of all cases together.

    Raises:
        SupportError: If a support has none of the objects, or nothing on the slices named.
        UsageError: If a slice of the target does not exist, or the axis is unusable.
    """
    if not cases:
        raise SupportError("there is no support; give at least one annotated case.")
    pairs = [(case.volume, case.segmentation) for case in cases]
    chosen_axis, axes, notes = choose_axes(pairs, target, axis)
    names = list(objects) if objects else None
    if names is None and len(cases) > 1:
        names, left_out = shared_objects([case.segmentation for case in cases])
        if left_out:
            notes.append(Note(f"Not every support has {_listed(left_out)}; only {_listed(names)} will be segmented."))
    titles = distinct_names([*(case.volume for case in cases), target])
    sets, shown = [], []
    share = max(1, -(-max_slices // len(cases)))
    for number, (case, own) in enumerate(zip(cases, axes, strict=True)):
        chosen = case.slices
        if chosen is not None and case.axis not in (None, own):
            text = (
                f"The slices of {titles[number]} were chosen along {case.axis}, but those along {own} lie in the "
                "target's plane; they are chosen automatically."
            )
            notes.append(Note(text))
            chosen = None
        numbers = slice_numbers(chosen, take_slices(case.volume.array, own).shape[0])
        turned = slice_view(case.volume.geometry, own)
        one = support_from_volume(case.volume, case.segmentation, names, numbers, own, max_slices=share, oriented=True)
        sets.append(one)
        for pair in one.pairs:
            marked = tuple(name for name, mask in zip(one.objects, pair.masks, strict=True) if mask.any())
            shown.append(
                SupportSlice(
                    case=number, name=titles[number], axis=own, index=pair.slice_index, objects=marked, view=turned
                )
            )
    notes += differences([(case.volume, own) for case, own in zip(cases, axes, strict=True)], target, chosen_axis)
    count = take_slices(target.array, chosen_axis).shape[0]
    numbers = slice_numbers(slices, count)
    wanted = tuple(range(count)) if numbers is None else tuple(numbers)
    outside = [n for n in wanted if not 0 <= n < count]
    if outside or not wanted:
        raise UsageError(
            f"the target {target.name} has no slice {outside[0] if outside else 'that was asked for'} along "
            f"{chosen_axis}; its slices are 0 to {count - 1} (counted from 0)."
        )
    return Job(
        support=merge_supports(sets),
        shown=tuple(shown),
        target=target,
        view=slice_view(target.geometry, chosen_axis, oriented=True),
        slices=wanted,
        window=intensity_window(target.array),
        notes=tuple(notes),
        name=titles[-1],
    )
