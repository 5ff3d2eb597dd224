"""The plan of a segmentation, made before any network is loaded, so that bad input is reported without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import SupportError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import Axis, SliceView, VolumeGeometry, slice_view, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.slice_choice import Slices, slice_numbers
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.by_hand.prompts import OnSlice
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.support.asked import Asked, AskedObjects, support_of
from ProxyPromptSegmentLib.support.case import SupportCase, distinct_names, shared_objects
from ProxyPromptSegmentLib.support.matching import (
    annotated_axis,
    choose_axes,
    differences,
    slice_depths,
    slice_names,
)
from ProxyPromptSegmentLib.support.orientation import orientation_of
from ProxyPromptSegmentLib.support.pairs import (
    MAX_SLICES,
    SupportSet,
    merge_supports,
    support_from_volume,
)
from ProxyPromptSegmentLib.support.registration.sources import SupportVolume, is_stack
from ProxyPromptSegmentLib.support.reslicing import Reslicing
from ProxyPromptSegmentLib.support.selecting import select_segments
from ProxyPromptSegmentLib.wording import quoted


@dataclass(frozen=True, kw_only=True)
class SupportSlice:
    """The source of a pair of the support set.

    Attributes:
        case: 0-based number of the case.
        name: Name of the case for display.
        axis: Slicing axis of the case.
        index: 0-based index of the slice along it; None if the pair has none.
        objects: Names of the objects marked on the slice.
        view: Orientation of the slice; None if unknown.
        names: Names of the slices along the axis.
    """

    case: int
    name: str
    axis: Axis
    index: int | None
    objects: tuple[str, ...]
    view: SliceView | None = None
    names: SliceNames = SliceNames()

    @property
    def title(self) -> str:
        """Slice and case for display, e.g. ``slice 12 (S 34.5 mm), old``."""
        return self.name if self.index is None else f"{self.names.name(self.index)}, {self.name}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that determines a result, except the model and its settings.

    Attributes:
        support: The pairs, in radiological orientation; or, without a support, the objects that are asked for.
        shown: The source of each pair; empty without a support.
        target: The volume to segment.
        view: Slicing axis of the target, and the same orientation of its slices.
        slices: 0-based indices of the slices to segment, in order.
        window: Intensities ``(low, high)`` of the target that are mapped to 0..1.
        notes: Notes for the user.
        name: Name of the target for display, distinct from those of the supports.
        volumes: The supports as volumes, to be registered to the target; empty unless that was asked for.
        backwards: Whether the target's slices run against the order of the supports'; None as its directions tell.
        reslicing: How the target is resampled in the plane of the supports before it is segmented; the result is
            brought back. None if it is read as it is stored, which previews of single slices always do.
        compared: Whether supports and target were compared, so that their slices are parallel whatever the headers say.
        by_hand: What the user says by hand, by slice and by number of the object; see `job_by_hand`.
        ruled_out: Numbers of the objects that the target cannot show; they are answered with nothing.
    """

    support: Asked
    shown: tuple[SupportSlice, ...]
    target: Volume
    view: SliceView
    slices: tuple[int, ...]
    window: tuple[float, float]
    notes: tuple[Note, ...] = ()
    name: str = "target"
    volumes: tuple[SupportVolume, ...] = ()
    backwards: bool | None = None
    reslicing: Reslicing | None = None
    compared: bool = False
    by_hand: Mapping[int, OnSlice] = field(default_factory=dict)
    ruled_out: frozenset[int] = frozenset()

    @property
    def support_set(self) -> SupportSet:
        """The support, for what cannot do without one.

        Raises:
            UsageError: If there is none.
        """
        return support_of(self.support)

    @property
    def depths(self) -> npt.NDArray[np.float32] | None:
        """Position of each slice along the target, -1 to 1, float32 ``(S,)``; None for a picture."""
        return slice_depths(self.target, self.view.axis, self.backwards)


def plan(
    cases: Sequence[SupportCase],
    target: Volume,
    objects: Sequence[str] | None = None,
    axis: str = "auto",
    slices: Slices = None,
    max_slices: int = MAX_SLICES,
    register: bool = False,
    reslice: bool = True,
    cancel: CancelToken | None = None,
) -> Job:
    """Plan a segmentation: orient supports and target alike, and choose their slices.

    Args:
        cases: The supports, at least one.
        target: The volume to segment.
        objects: Names of the objects; by default all that every support has.
        axis: Slicing axis of the target, see `choose_axes`.
        slices: Slices of the target along that axis, counted from 0; all by default.
        max_slices: Largest number of support slices to choose, of all cases together.
        register: Whether the supports are to be registered to the target as well, for which the job keeps those that
            are volumes.
        reslice: Whether a tilted target may be resampled in the plane of the supports; not for tracking, which
            follows slices as they are stored.
        cancel: Checked while target and supports are compared; the job of a cancelled plan is not to be carried out.

    Raises:
        SupportError: If a support has none of the objects, or none on the chosen slices.
        UsageError: If a slice of the target does not exist, or the axis is unusable.
    """
    if not cases:
        raise SupportError("a support is missing; give at least one annotated case.")
    pairs = [(case.volume, case.segmentation) for case in cases]
    chosen_axis, axes, notes = choose_axes(pairs, target, axis)
    volumes = [
        SupportVolume(v, tuple(one.mask for one in marks.segments), annotated_axis(v, marks), v.name)
        for v, marks in pairs
    ]
    free = axis == "auto" and reslice
    way = orientation_of(target, chosen_axis, volumes, axes, free=free and slices is None, reslice=free, cancel=cancel)
    if not way.header:
        chosen_axis, axes = way.view.axis, [one.axis for one in volumes]
    notes = [*([] if way.seen else notes), *way.notes]
    names = list(objects) if objects else None
    if names is None and len(cases) > 1:
        names, left_out = shared_objects([case.segmentation for case in cases])
        if left_out:
            notes.append(Note(f"Not every support has {quoted(left_out)}; only {quoted(names)} will be segmented."))
    titles = distinct_names([*(case.volume for case in cases), target])
    sets, shown, registered = [], [], []
    share = _share(max_slices, cases)
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
        if register and is_stack(case.volume, own) and is_stack(target, chosen_axis):
            chosen_segments = select_segments(case.segmentation, one.objects if names is None else names)
            registered.append(SupportVolume(case.volume, tuple(s.mask for s in chosen_segments), own, titles[number]))
        for pair in one.pairs:
            marked = tuple(name for name, mask in zip(one.objects, pair.masks, strict=True) if mask.any())
            shown.append(
                SupportSlice(
                    case=number,
                    name=titles[number],
                    axis=own,
                    index=pair.slice_index,
                    objects=marked,
                    view=turned,
                    names=slice_names(case.volume, own),
                )
            )
    supports = [(case.volume, own) for case, own in zip(cases, axes, strict=True)]
    notes += differences(supports, target, chosen_axis)
    wanted = _wanted(target, chosen_axis, slices)
    return Job(
        support=merge_supports(sets),
        shown=tuple(shown),
        target=target,
        view=way.view,
        slices=wanted,
        window=intensity_window(target.array),
        notes=tuple(notes),
        name=titles[-1],
        volumes=tuple(registered),
        backwards=way.backwards,
        reslicing=way.reslicing,
        compared=way.seen or not way.header,
    )


def plan_ahead(
    cases: Sequence[SupportCase],
    target: VolumeGeometry,
    objects: Sequence[str] | None = None,
    axis: str = "auto",
    max_slices: int = MAX_SLICES,
) -> Job:
    """Plan of a segmentation what its supports need, before the target's voxels are read: no slice is segmented.

    The supports are those of `plan` unless it finds in the voxels that the target is to be read along another axis.

    Args:
        cases: The supports, at least one.
        target: The target's grid.
        objects: As for `plan`.
        axis: As for `plan`.
        max_slices: As for `plan`.

    Raises:
        SupportError: As `plan`.
        UsageError: If the axis is unusable.
    """
    volume = Volume(np.broadcast_to(np.float32(0), target.shape_kji), target)
    chosen_axis, axes, _ = choose_axes([(case.volume, case.segmentation) for case in cases], volume, axis)
    names = list(objects) if objects else None
    if names is None and len(cases) > 1:
        names, _ = shared_objects([case.segmentation for case in cases])
    sets, share = [], _share(max_slices, cases)
    for case, own in zip(cases, axes, strict=True):
        chosen = case.slices if case.axis in (None, own) else None
        numbers = slice_numbers(chosen, take_slices(case.volume.array, own).shape[0])
        sets.append(
            support_from_volume(case.volume, case.segmentation, names, numbers, own, max_slices=share, oriented=True)
        )
    view = slice_view(target, chosen_axis)
    return Job(support=merge_supports(sets), shown=(), target=volume, view=view, slices=(), window=(0.0, 1.0))


def _share(max_slices: int, cases: Sequence[SupportCase]) -> int:
    """Return the largest number of slices of one of several cases."""
    return max(1, -(-max_slices // len(cases)))


def plan_without_support(
    target: Volume, asked: AskedObjects, axis: str = "auto", slices: Slices = None, notes: Sequence[Note] = ()
) -> Job:
    """Plan a segmentation of objects that the model knows by name, or that the user points at.

    Args:
        target: The volume to segment; its slices are read in radiological orientation.
        asked: The objects.
        axis: Slicing axis of the target; ``auto`` takes the acquired slices.
        slices: Slices of the target along that axis, counted from 0; all by default.
        notes: Notes for the user.

    Raises:
        UsageError: If a slice of the target does not exist, or the axis is unusable.
    """
    chosen_axis, _, found = choose_axes([], target, axis)
    return Job(
        support=asked,
        shown=(),
        target=target,
        view=slice_view(target.geometry, chosen_axis),
        slices=_wanted(target, chosen_axis, slices),
        window=intensity_window(target.array),
        notes=(*found, *notes),
        name=distinct_names([target])[0],
    )


def _wanted(target: Volume, axis: Axis, slices: Slices) -> tuple[int, ...]:
    """Return the 0-based numbers of the slices to segment.

    Raises:
        UsageError: If one does not exist, or there is none.
    """
    count = take_slices(target.array, axis).shape[0]
    numbers = slice_numbers(slices, count)
    wanted = tuple(range(count)) if numbers is None else tuple(numbers)
    outside = [n for n in wanted if not 0 <= n < count]
    if outside or not wanted:
        raise UsageError(
            f"the target {target.name} has no slice {outside[0] if outside else 'among the requested ones'} along "
            f"{axis}; its slices are 0 to {count - 1} (counted from 0)."
        )
    return wanted
