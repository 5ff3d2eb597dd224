"""How a target is read so that its slices show the anatomy as those of its supports; in doubt, by looking.

A header tells how a grid lies in the scanner, not how the patient lay there: oblique slices that follow the organ
resemble the supports as they are stored, resampled ones only after they are turned back. If the header turns a target
notably against the support that is closest to parallel, every way to read it is compared with that support: each turn
of the stored slices that mirrors nothing, and the target resampled in the support's plane. The most similar is used.

A header that only stores the voxels in another order is compared with the support's order as well: it cannot be told
from that of a patient who was turned over with the volume. Coarse copies are compared, and that can be cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ProxyPromptSegmentLib.imaging.geometry import (
    AXES,
    Axis,
    FloatArray,
    SliceView,
    VolumeGeometry,
    slice_spacing_mm,
    slice_view,
    view_directions,
)
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import Note, Remedy, RemedyKind, Severity
from ProxyPromptSegmentLib.support.matching import (
    MOST_TILT,
    has_place,
    is_sliceable,
    is_stacked_backwards,
    plane_of,
    stack_direction,
    tilt_degrees,
    view_like,
)
from ProxyPromptSegmentLib.support.registration.sources import Likeness, SupportVolume, is_stack
from ProxyPromptSegmentLib.support.reslicing import Reslicing

LOOK_FROM = 20.0
"""In degrees; a header that turns a target less against its supports is believed."""

NOTABLE = 0.05
"""Similarity by which another way to read a target must exceed the stored slices, turned as the header says."""

CLEAR = 0.1
"""The same for a header that turns nothing: it is usually right, and what it says is known beforehand."""

LEAST_ALIKE = 0.15
"""Similarity below which support and target do not resemble each other in any way."""


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """How the slices of a target are read.

    Attributes:
        view: Axis and turn of the slices as they are stored.
        backwards: Whether they run against the order of the supports'.
        reslicing: How the target is resampled in the plane of the supports before it is segmented; None if it is read
            as it is stored.
        header: Whether this is what the header says, so that supports are sliced in the plane that the header gives.
        seen: Whether it was seen that target and supports resemble each other so, whatever the planes of the headers.
        notes: Notes for the user.
    """

    view: SliceView
    backwards: bool
    reslicing: Reslicing | None = None
    header: bool = True
    seen: bool = False
    notes: tuple[Note, ...] = ()


def orientation_of(
    target: Volume,
    axis: Axis,
    supports: Sequence[SupportVolume],
    sliced: Sequence[Axis],
    free: bool = True,
    reslice: bool | None = None,
    cancel: CancelToken | None = None,
) -> Orientation:
    """Choose how a target is read.

    Args:
        target: The volume to be segmented.
        axis: Its slicing axis by its header.
        supports: The supports, each with the axis along which it was annotated.
        sliced: For each support the axis that is parallel to the target's by the headers.
        free: Whether another axis may be chosen; not where slices were chosen, which are counted along this one.
        reslice: Whether resampling may be chosen; by default as ``free``.
        cancel: Checked between short steps of a comparison; once cancelled, what the header says is returned.
    """
    placed = [(one, own) for one, own in zip(supports, sliced, strict=True) if has_place(one.volume)]
    if not has_place(target):
        placed = []
    view, backwards = view_like(target.geometry, axis, [(one.volume.geometry, own) for one, own in placed])
    header = Orientation(view=view, backwards=backwards)
    if not placed:
        return header
    nearest, own = min(placed, key=lambda one: tilt_degrees(target.geometry, axis, one[0].volume.geometry, one[1]))
    reslice = free if reslice is None else reslice
    turn = turn_degrees(_frame(target.geometry, header), frame_of(nearest.volume.geometry, own))
    stored = Orientation(
        view=_same_turn(nearest, target), backwards=is_stacked_backwards(nearest.volume.geometry, nearest.axis)
    )
    alike = _same(header, stored)
    usable = _usable(target, stored.view.axis, free, axis) and not _mirrors(target, stored, nearest)
    if turn < LOOK_FROM and (alike or not usable):
        return header
    if not (is_stack(target, axis) and is_stack(nearest.volume, nearest.axis)):
        return header if turn < LOOK_FROM else _with_note(header, False, turn, target, axis, (nearest, own))
    if turn < LOOK_FROM:
        found, seen = _more_alike(target, header, own, nearest, [stored], CLEAR, cancel=cancel)
        return header if found.header or not seen else _with_note(found, True, turn, target, axis, (nearest, own))
    ways = _ways(target, axis, nearest, free)
    found, seen = _more_alike(target, header, own, nearest, ways, reslice=reslice, cancel=cancel)
    return _with_note(found, seen, turn, target, axis, (nearest, own))


def _with_note(
    way: Orientation, seen: bool, turn: float, target: Volume, axis: Axis, support: tuple[SupportVolume, Axis]
) -> Orientation:
    """Return a way with a sentence on the turn of the header, and what was made of it."""
    nearest, own = support
    said = f"The slices of the target {target.name} are "
    tilt = tilt_degrees(target.geometry, axis, nearest.volume.geometry, own)
    said += f"tilted by {tilt:.0f}" if tilt >= LOOK_FROM else f"turned by {turn:.0f}"
    said += f" degrees against those of the support {nearest.name}"
    if way.reslicing is not None:
        said += "; the target is segmented in the support's plane, and the result is brought back"
    if not seen:
        what = "which way up they resemble it" if tilt > MOST_TILT else "whether the patient is turned likewise"
        said += f". It cannot be known {what}; check the result closely."
    elif way.reslicing is not None:
        said += "."
    elif way.header:
        said += ", but resemble them as they are stored; check the result closely."
    else:
        said = (
            f"By its header, the target {target.name} is turned against the support {nearest.name}, but its slices "
            "resemble those of the support as they are stored and are read so; check the result closely."
        )
    planes = plane_of(target.geometry, axis), plane_of(nearest.volume.geometry, own)
    if planes[0] != planes[1]:
        said += f" By the headers its slices are {planes[0]}, those of the support are {planes[1]}."
    sure = seen and way.reslicing is not None and planes[0] == planes[1]
    severity = Severity.INFORMATION if sure else Severity.WARNING
    note = Note(said, Remedy(kind=RemedyKind.CHOOSE_AXIS), severity)
    return replace(way, seen=seen, notes=(note,))


def frame_of(geometry: VolumeGeometry, axis: Axis) -> FloatArray:
    """Return the directions of columns, rows and stack of a support's slices as the model sees them, ``(3, 3)``."""
    down, right = view_directions(geometry, slice_view(geometry, axis))
    return np.stack([right, down, stack_direction(geometry, axis)], axis=1)


def turn_degrees(one: FloatArray, other: FloatArray) -> float:
    """Return the angle of the rotation between two frames, 0 to 180 degrees."""
    cosine = (float(np.trace(one.T @ other)) - 1) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def _frame(geometry: VolumeGeometry, way: Orientation) -> FloatArray:
    """Return the directions of columns, rows and stack of a target that is read in a way."""
    down, right = view_directions(geometry, way.view)
    along = geometry.direction[:, 2 - AXES.index(way.view.axis)]
    return np.stack([right, down, -along if way.backwards else along], axis=1)


def _same_turn(support: SupportVolume, target: Volume) -> SliceView:
    """Return the view of a target with the axis and turn of a support's slices, whatever the headers say."""
    own = slice_view(support.volume.geometry, support.axis)
    return _view(target.geometry, own.axis, own.transpose, own.flip_rows, own.flip_columns)


def _view(geometry: VolumeGeometry, axis: Axis, transpose: bool, rows: bool, columns: bool) -> SliceView:
    rows_mm, columns_mm = slice_spacing_mm(geometry, axis)
    return SliceView(axis, transpose, rows, columns, (columns_mm, rows_mm) if transpose else (rows_mm, columns_mm))


def _usable(target: Volume, axis: Axis, free: bool, given: Axis) -> bool:
    return axis == given or (free and is_sliceable(target.geometry, axis))


def _mirrors(target: Volume, way: Orientation, support: SupportVolume) -> bool:
    """Return whether a way to read a target shows the anatomy mirrored against a support."""
    own = frame_of(support.volume.geometry, support.axis)
    return bool(np.linalg.det(_frame(target.geometry, way)) * np.linalg.det(own) < 0)


def _ways(target: Volume, axis: Axis, support: SupportVolume, free: bool) -> list[Orientation]:
    """Return the ways to read slices as they are stored without mirroring the anatomy."""
    ways = []
    for one in AXES:
        if not _usable(target, one, free, axis) or not is_stack(target, one):
            continue
        for transpose, rows, columns, backwards in product((False, True), repeat=4):
            way = Orientation(
                view=_view(target.geometry, one, transpose, rows, columns), backwards=backwards, header=False
            )
            if not _mirrors(target, way, support):
                ways.append(way)
    return ways


def _more_alike(
    target: Volume,
    header: Orientation,
    sliced: Axis,
    support: SupportVolume,
    ways: Sequence[Orientation],
    notable: float = NOTABLE,
    reslice: bool = False,
    cancel: CancelToken | None = None,
) -> tuple[Orientation, bool]:
    """Return the way to read a target in which it resembles a support most, and whether it does resemble it."""
    cancel = cancel or CancelToken()
    parallel = SupportVolume(support.volume, support.masks, sliced, support.name)
    alike = Likeness(support)
    first = alike if sliced == support.axis else Likeness(parallel)
    best, highest = header, first.of(target, header.view, header.backwards, cancel)
    least = highest + notable
    for way in ways:
        if sliced == support.axis and _same(way, header):
            continue
        value = alike.of(target, way.view, way.backwards, cancel)
        if value > max(highest, least):
            best = Orientation(view=way.view, backwards=way.backwards, header=False)
            highest = value
    if reslice and not cancel.cancelled:
        frame = frame_of(support.volume.geometry, support.axis)
        grid = Reslicing.parallel(target, frame, support.volume.geometry, support.axis)
        value = alike.of(grid.volume(target), grid.view, False, cancel)
        if value > highest + NOTABLE:
            best = Orientation(view=header.view, backwards=header.backwards, reslicing=grid, header=False)
            highest = value
    if cancel.cancelled:
        return header, False
    return best, highest >= LEAST_ALIKE


def _same(one: Orientation, other: Orientation) -> bool:
    """Return whether two ways turn and order slices alike."""
    turns = [(way.view.axis, way.view.transpose, way.view.flip_rows, way.view.flip_columns) for way in (one, other)]
    return turns[0] == turns[1] and one.backwards == other.backwards
