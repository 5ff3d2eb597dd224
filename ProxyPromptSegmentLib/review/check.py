"""Checks of a support before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.slice_choice import slice_numbers
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
from ProxyPromptSegmentLib.remedies import Note, Severity
from ProxyPromptSegmentLib.review.findings import Finding, by_level
from ProxyPromptSegmentLib.review.flip import probable_flip
from ProxyPromptSegmentLib.review.leave_one_out import LeaveOneOut, leave_one_out, trial_findings
from ProxyPromptSegmentLib.review.shape import shape_findings
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.matching import annotated_axis, choose_axes, differences, slice_names

__all__ = ["Finding", "LeaveOneOut", "check_case", "leave_one_out", "trial_findings"]

FLAT = 0.05
"""A slice whose windowed intensities (0..1) vary by less than this shows nothing."""

NARROW_WINDOW = 0.02
"""A window narrower than this share of the intensity range omits most of the image's content."""


def check_case(
    case: SupportCase,
    others: Sequence[SupportCase] = (),
    target: Volume | None = None,
    modality: str = "",
    target_modality: str = "",
) -> list[Finding]:
    """Check a support for common mistakes.

    The accuracy of the flip detection is documented in `review.flip.probable_flip`.

    Args:
        case: The support; image and masks may differ in size, which is reported as a finding.
        others: The other supports in use, to find duplicates.
        target: The volume to segment with it.
        modality: The support's modality, e.g. "MR T2"; empty if unknown.
        target_modality: The target's modality; empty if unknown.

    Returns:
        The findings, most serious first; empty if there are none. A bad support never raises.
    """
    found = list(_image(case.volume))
    usable = not found
    found += _empty(case.segmentation)
    same_grid = list(_grid(case))
    found += same_grid
    kept = Segmentation([s for s in case.segmentation.segments if s.mask.any()], case.segmentation.geometry)
    if kept.segments and not same_grid:
        axis = case.axis or annotated_axis(case.volume, kept)
        found += _chosen_slices(case, kept, axis)
        for segment in kept.segments:
            rest = [other.mask for other in kept.segments if other is not segment]
            found += shape_findings(segment.name, segment.mask, rest, axis, slice_names(case.volume, axis))
        if usable:
            found += _contrast(case.volume, kept, axis)
            found += _flip(case.volume, kept, axis)
            if target is not None:
                found += _beside(case.volume, kept, target)
    found += _twice(case, others)
    if modality and target_modality and modality.strip().casefold() != target_modality.strip().casefold():
        text = f"The support is {modality}, the target {target_modality}; choose a support of the target's modality."
        found.append(Finding("warning", text))
    return by_level(found)


def _image(volume: Volume) -> Iterator[Finding]:
    """Report NaN, infinite or constant intensity."""
    try:
        check_intensities(volume.array, "The image")
    except InputError as error:
        yield Finding("error", str(error), remedy=error.remedy)


def _empty(segmentation: Segmentation) -> Iterator[Finding]:
    """Report objects without a voxel."""
    empty = [segment.name for segment in segmentation.segments if not segment.mask.any()]
    if len(empty) == len(segmentation.segments):
        yield Finding("error", "Every mask of the support is empty. Annotate the object on at least one slice.")
        return
    for name in empty:
        yield Finding("warning", f"The mask of '{name}' is empty; the object will be left out.", name)


def _grid(case: SupportCase) -> Iterator[Finding]:
    """Report masks that are not on the image's grid."""
    image, masks = case.volume.geometry, case.segmentation.geometry
    if image.size_ijk != masks.size_ijk:
        sizes = ["x".join(map(str, g.size_ijk)) for g in (image, masks)]
        yield Finding(
            "error",
            f"The image has {sizes[0]} voxels, its masks {sizes[1]}; both must have the same size. Export the "
            "segmentation in the image's geometry.",
        )
    elif not masks.is_close(image):
        yield Finding(
            "error",
            f"The masks lie on another grid ({masks}) than the image ({image}); use the segmentation drawn on this "
            "image, or export it in the image's geometry.",
        )


def _chosen_slices(case: SupportCase, kept: Segmentation, axis: str) -> Iterator[Finding]:
    """Report slices that were chosen to prompt, but are not annotated or do not exist."""
    shown = np.any([take_slices(s.mask, axis).any(axis=(1, 2)) for s in kept.segments], axis=0)
    numbers = slice_numbers(case.slices, len(shown))
    if numbers is None:
        return
    wrong = [n for n in numbers if not (0 <= n < len(shown) and shown[n])]
    if wrong or not numbers:
        names = slice_names(case.volume, axis)
        marked = names.names(int(n) for n in np.flatnonzero(shown))
        text = f"Nothing is annotated on {names.names(wrong)}" if wrong else "No slice is chosen"
        yield Finding("error", f"{text}; choose among {marked}.", slices=tuple(wrong))


def _contrast(volume: Volume, kept: Segmentation, axis: str) -> Iterator[Finding]:
    """Report annotated slices without contrast, and windows dominated by a few extreme voxels."""
    low, high = intensity_window(volume.array)
    images = take_slices(volume.array, axis)
    shown = np.any([take_slices(s.mask, axis).any(axis=(1, 2)) for s in kept.segments], axis=0)
    flat = [int(n) for n in np.flatnonzero(shown) if np.ptp(window_to_unit(images[n], (low, high))) < FLAT]
    if flat:
        yield Finding(
            "warning",
            f"The image has almost no contrast on {slice_names(volume, axis).names(flat)}; choose slices on which the "
            "object is visible.",
            slices=tuple(flat),
        )
    span = float(volume.array.max()) - float(volume.array.min())
    if high - low < NARROW_WINDOW * span:
        yield Finding(
            "info",
            f"A few voxels are far brighter or darker than all others: intensities from {low:g} to {high:g} are "
            f"shown, of {float(volume.array.min()):g} to {float(volume.array.max()):g}. If the object is among the "
            "extreme ones (metal, contrast agent), clip the image first.",
        )


def _flip(volume: Volume, kept: Segmentation, axis: str) -> Iterator[Finding]:
    """Report masks that were probably mirrored."""
    if flip := probable_flip(volume, kept, axis):
        yield Finding(
            "warning",
            f"The masks are probably flipped {flip}: mirrored back, they follow the edges in the image better. View "
            "them over the image, and export them again if they do not fit.",
        )


def _beside(volume: Volume, kept: Segmentation, target: Volume) -> Iterator[Finding]:
    """Report differences from the target."""
    if volume.array.shape == target.array.shape and np.array_equal(volume.array, target.array):
        text = "The target is the support itself; the result does not show how well other cases work."
        yield Finding("warning", text)
        return
    try:
        axis, (own,), notes = choose_axes([(volume, kept)], target)
        notes = [*notes, *differences([(volume, own)], target, axis)]
    except UsageError as error:
        notes = [Note(str(error), error.remedy)]
    for note in notes:
        yield Finding("warning" if note.severity is Severity.WARNING else "info", note.text, remedy=note.remedy)


def _twice(case: SupportCase, others: Sequence[SupportCase]) -> Iterator[Finding]:
    """Report the same image among the other supports."""
    for other in others:
        if other is case or other.volume.array.shape != case.volume.array.shape:
            continue
        if not np.array_equal(other.volume.array, case.volume.array):
            continue
        name = other.volume.name
        if _same_masks(case.segmentation, other.segmentation):
            yield Finding("warning", f"The same image with the same masks is already a support ('{name}'); untick one.")
        else:
            yield Finding("info", f"The same image is already a support ('{name}'), with other masks.")


def _same_masks(one: Segmentation, other: Segmentation) -> bool:
    """Return whether two segmentations have the same masks in the same order."""
    return len(one.segments) == len(other.segments) and all(
        a.mask.shape == b.mask.shape and np.array_equal(a.mask, b.mask)
        for a, b in zip(one.segments, other.segments, strict=True)
    )
