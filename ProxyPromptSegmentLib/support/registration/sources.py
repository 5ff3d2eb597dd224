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
from ProxyPromptSegmentLib.support.registration.prior import FEWEST_SLICES, MarkedStack, MaskPrior, Registered, register
from ProxyPromptSegmentLib.support.registration.stack import Stack

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
) -> MaskPrior:
    """Register supports to a target, see `prior.register`.

    Args:
        supports: Annotated volumes with the same objects.
        target: The volume to be segmented.
        axis: Its slicing axis.
        progress: Informed of each support.
        cancel: Checked between short steps.
        view: Orientation of the target's slices; by default that of the body's plane.

    Returns:
        The prior; its masks have the order and orientation of the target's oriented slices.
    """
    fixed = stack_of(target, axis, view)
    backwards = has_place(target) and is_stacked_backwards(target.geometry, axis)
    parallel = [one for one in supports if _is_parallel(one, target, axis)]
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


def stack_of(volume: Volume, axis: Axis, view: SliceView | None = None) -> Stack:
    """Return a volume's oriented slices, grey and with its intensity window at 0..1."""
    unit = window_to_unit(volume.array, intensity_window(volume.array))
    if volume.is_rgb:
        unit = unit.mean(axis=-1)
    spacing = volume.geometry.spacing_mm
    view = view or slice_view(volume.geometry, axis)
    across = spacing[2 - AXES.index(axis)]
    measured = has_place(volume) and spacing != _UNKNOWN
    return Stack(_ordered(view.take(unit), volume, axis), (across, *view.spacing_mm), measured=measured)


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
