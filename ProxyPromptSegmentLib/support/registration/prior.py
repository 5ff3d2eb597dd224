"""The soft prior of a target: the masks of annotated volumes, registered to it and averaged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.package_loading import SCIPY_LATER, loading
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.support.registration.alignment import align, working_pixel
from ProxyPromptSegmentLib.support.registration.deformation import MOST_FOLDED, deform, target_box
from ProxyPromptSegmentLib.support.registration.filling import fill_between
from ProxyPromptSegmentLib.support.registration.placement import candidates
from ProxyPromptSegmentLib.support.registration.stack import Box, Floats, Stack, box_of, slices

FEWEST_SLICES = 3
"""Slices that a volume needs: fewer say nothing about heights."""

PLACED_WITH, DEFORMED_WITH = 0.5, 0.25
"""Margins around the object, as shares of its size, within which it is placed and deformed."""

LEAST_SIMILARITY = 0.15
"""Local correlation below which support and target do not resemble each other around the object."""


@dataclass(frozen=True, eq=False)
class MarkedStack:
    """An annotated volume as the registration reads it.

    Attributes:
        name: Its name for display.
        stack: The image.
        masks: The objects, uint8 ``(S, N, H, W)``.
    """

    name: str
    stack: Stack
    masks: npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Registered:
    """The outcome for one support.

    Attributes:
        name: Name of the support.
        similarity: Mean local correlation with the target around the object, -1..1.
        deformed: Whether the deformable step was used.
        seconds: Time it took.
        problem: Why it was left out; empty if it was used.
    """

    name: str
    similarity: float
    deformed: bool
    seconds: float
    problem: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskPrior:
    """Where the supports' masks lie in a target.

    Attributes:
        masks: Share of the registered supports that cover each pixel, float32 ``(S, N, H, W)``, 0..1; None if no
            support could be registered, or the registration was cancelled.
        supports: The outcome for each support.
        cancelled: Whether it was cancelled.
    """

    masks: Floats | None
    supports: tuple[Registered, ...] = ()
    cancelled: bool = False

    @property
    def notes(self) -> tuple[Note, ...]:
        """A note on each support that was left out."""
        return tuple(
            Note(f"The support {one.name} was not registered to the target: {one.problem}.")
            for one in self.supports
            if one.problem
        )


def register(
    supports: Sequence[MarkedStack],
    target: Stack,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> MaskPrior:
    """Register annotated volumes to a target, one after the other; the same input gives the same result.

    Args:
        supports: Annotated volumes with the same objects, oriented as the target.
        target: The volume to be segmented.
        progress: Informed of each support.
        cancel: Checked between steps of less than about a second.

    Returns:
        The prior. Supports that could not be registered are left out, with a note.
    """
    progress, cancel = progress or Progress(), cancel or CancelToken()
    with loading(SCIPY_LATER):
        import scipy.ndimage  # noqa: F401 - for the functions below
    total: Floats | None = None
    outcomes: list[Registered] = []
    progress.start(len(supports), "registering supports")
    try:
        for support in supports:
            if cancel.cancelled:
                break
            masks, outcome = _register_one(support, target, cancel)
            outcomes.append(outcome)
            if masks is not None:
                total = masks if total is None else total + masks
            progress.step()
    finally:
        progress.close()
    if cancel.cancelled:
        return MaskPrior(masks=None, supports=tuple(outcomes), cancelled=True)
    used = sum(not one.problem for one in outcomes)
    return MaskPrior(masks=None if total is None else total / np.float32(used), supports=tuple(outcomes))


def _register_one(support: MarkedStack, target: Stack, cancel: CancelToken) -> tuple[Floats | None, Registered]:
    """Return the support's masks on the target's grid, ``(S, N, H, W)``, and the outcome."""
    start = time.perf_counter()

    def outcome(problem: str, similarity: float = 0.0, deformed: bool = False) -> Registered:
        return Registered(
            name=support.name,
            similarity=similarity,
            deformed=deformed,
            seconds=time.perf_counter() - start,
            problem=problem,
        )

    filled = np.stack([fill_between(support.masks[:, n]) for n in range(support.masks.shape[1])], axis=1)
    marked = np.asarray(filled.any(axis=1))
    if min(marked.shape[0], target.array.shape[0]) < FEWEST_SLICES:
        return None, outcome("it or the target has too few slices to be a volume")
    if sum(layer.any() for layer in marked) < 2:
        return None, outcome("only one of its slices is annotated")
    box = box_of(marked, PLACED_WITH)
    aligned = align(
        support.stack, box, target, candidates(support.stack, box, target), stopped=lambda: cancel.cancelled
    )
    if cancel.cancelled:
        return None, outcome("cancelled")
    if aligned.similarity < LEAST_SIMILARITY:
        return None, outcome(
            f"around the objects they do not look alike (similarity {aligned.similarity:.2f})", aligned.similarity
        )
    near = box_of(marked, DEFORMED_WITH)
    pixel = working_pixel(support.stack, box) * aligned.placement.size
    found = deform(support.stack, near, target, aligned.placement, pixel)
    better = found is not None and found.after > found.before and found.folded <= MOST_FOLDED
    transform = found.transform if found is not None and better else aligned.placement.from_target()
    masks = _warped(filled, support.stack, target, transform, target_box(support.stack, box, target, aligned.placement))
    return masks, outcome("", aligned.similarity, better)


def _warped(masks: npt.NDArray[np.uint8], support: Stack, target: Stack, transform: object, box: Box) -> Floats:
    """Return the masks on the target's grid; outside of the box nothing is marked."""
    import SimpleITK as sitk

    result = np.zeros((target.array.shape[0], masks.shape[1], *target.array.shape[1:]), np.float32)
    grid = target.crop(box).image()
    inside = slices(box)
    for number in range(masks.shape[1]):
        image = support.with_array(masks[:, number]).image()
        warped = sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0)
        result[inside[0], number, inside[1], inside[2]] = sitk.GetArrayFromImage(warped)
    return result
