"""Volumes as the registration reads them: oriented slices from inferior to superior (or right to left, and so on)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, SliceView, axis_number, slice_view
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.support.matching import has_place, is_stacked_backwards, plane_of
from ProxyPromptSegmentLib.support.registration.alignment import align
from ProxyPromptSegmentLib.support.registration.placement import candidates
from ProxyPromptSegmentLib.support.registration.prior import (
    FEWEST_SLICES,
    PLACED_WITH,
    MarkedStack,
    MaskPrior,
    Registered,
    register,
)
from ProxyPromptSegmentLib.support.registration.stack import Stack, box_of

_UNKNOWN = (1.0, 1.0, 1.0)  # spacing in mm that files have whose authors did not know it


@dataclass(frozen=True, eq=False)
class SupportVolume:
    """An annotated volume that may be registered to a target.

    Attributes:
        volume: The image.
        masks: One mask for each object, uint8 ``(K, J, I)``.
        axis: Slicing axis, parallel to the target's.
        name: Name for display.
    """

    volume: Volume
    masks: tuple[npt.NDArray[np.uint8], ...]
    axis: Axis
    name: str


def is_stack(volume: Volume, axis: Axis) -> bool:
    """Return whether a volume has enough slices along an axis to be registered; a picture has not."""
    return bool(volume.array.shape[axis_number(axis)] >= FEWEST_SLICES)


def mask_prior(
    supports: Sequence[SupportVolume],
    target: Volume,
    axis: Axis,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    view: SliceView | None = None,
    backwards: bool | None = None,
    compared: bool = False,
) -> MaskPrior:
    """Register supports to a target, see `prior.register`.

    Args:
        supports: Annotated volumes with the same objects.
        target: The volume to be segmented.
        axis: Its slicing axis.
        progress: Informed of each support.
        cancel: Checked between short steps.
        view: Orientation of the target's slices; by default that of the body's plane.
        backwards: Whether the target's slices run against the order of the supports'; by default as its directions
            tell.
        compared: Whether supports and target were compared, so that all are taken to be parallel whatever the headers
            say; otherwise those in another plane of the body are left out.

    Returns:
        The prior; its masks have the order and orientation of the target's oriented slices.
    """
    if backwards is None:
        backwards = has_place(target) and is_stacked_backwards(target.geometry, axis)
    fixed = stack_of(target, axis, view, backwards)
    parallel = [one for one in supports if compared or _is_parallel(one, target, axis)]
    found = register([_marked(one) for one in parallel], fixed, progress, cancel)
    others = tuple(
        Registered(
            name=one.name,
            similarity=0.0,
            deformed=False,
            seconds=0.0,
            problem="its slices lie in another plane than the target's",
        )
        for one in supports
        if one not in parallel
    )
    masks = found.masks
    if masks is not None and backwards:
        masks = masks[::-1]
    return MaskPrior(masks=masks, supports=found.supports + others, cancelled=found.cancelled)


class Likeness:
    """How alike a support and a target are around the support's objects, if the target is read in several ways."""

    def __init__(self, support: SupportVolume) -> None:
        """Read a support."""
        marked = _marked(support)
        objects = np.asarray(marked.masks.any(axis=1))
        self._stack = marked.stack
        self._box = box_of(objects, PLACED_WITH) if objects.any() else None
        self._unit: tuple[Volume, npt.NDArray[np.float32]] | None = None

    def of(self, target: Volume, view: SliceView, backwards: bool) -> float:
        """Return the similarity, -1..1; -1 if no slice of the support is marked.

        Args:
            target: The target; its intensities are brought to 0..1 once for all ways to read it.
            view: Turn of its slices.
            backwards: Whether they run against the order of the support's.
        """
        if self._box is None:
            return -1.0
        if self._unit is None or self._unit[0] is not target:
            self._unit = target, _unit(target)
        fixed = _stack(self._unit[1], target, view, backwards)
        starts = candidates(self._stack, self._box, fixed)
        return align(self._stack, self._box, fixed, starts, rounds=1).similarity


def stack_of(volume: Volume, axis: Axis, view: SliceView | None = None, backwards: bool | None = None) -> Stack:
    """Return a volume's oriented slices, grey and with its intensity window at 0..1.

    Args:
        volume: The volume.
        axis: Its slicing axis.
        view: Turn of the slices; by default that of the body's plane.
        backwards: Whether to reverse their order; by default as its directions tell.
    """
    return _stack(_unit(volume), volume, view or slice_view(volume.geometry, axis), backwards)


def _unit(volume: Volume) -> npt.NDArray[np.float32]:
    """Return a volume's intensities, grey and with its window at 0..1, ``(K, J, I)``."""
    unit = window_to_unit(volume.array, intensity_window(volume.array))
    grey: npt.NDArray[np.float32] = unit.mean(axis=-1) if volume.is_rgb else unit
    return grey


def _stack(unit: npt.NDArray[np.float32], volume: Volume, view: SliceView, backwards: bool | None) -> Stack:
    """Return the slices of a volume that is read in a way."""
    spacing = volume.geometry.spacing_mm
    across = spacing[2 - AXES.index(view.axis)]
    slices = view.take(unit)
    ordered = _ordered(slices, volume, view.axis) if backwards is None else slices[:: -1 if backwards else 1]
    measured = has_place(volume) and spacing != _UNKNOWN
    return Stack(np.ascontiguousarray(ordered), (across, *view.spacing_mm), measured=measured)


def _marked(support: SupportVolume) -> MarkedStack:
    """Return a support's slices with its masks."""
    view = slice_view(support.volume.geometry, support.axis)
    masks = np.stack([view.take(mask) for mask in support.masks], axis=1)
    ordered = _ordered(masks, support.volume, support.axis)
    return MarkedStack(support.name, stack_of(support.volume, support.axis), ordered)


def _ordered(slices: npt.NDArray[Any], volume: Volume, axis: Axis) -> npt.NDArray[Any]:
    """Return slices in the order of the body's axis; those of a volume without directions as they are."""
    if has_place(volume) and is_stacked_backwards(volume.geometry, axis):
        slices = slices[::-1]
    return np.ascontiguousarray(slices)


def _is_parallel(support: SupportVolume, target: Volume, axis: Axis) -> bool:
    """Return whether slices of both lie in one anatomical plane, or nothing is known of one of them."""
    if not (has_place(support.volume) and has_place(target)):
        return True
    return plane_of(support.volume.geometry, support.axis) == plane_of(target.geometry, axis)
