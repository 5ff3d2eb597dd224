"""Label transfer: the few cases are registered to the target, and their masks vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.mean_mask import mean_mask
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import chosen_slices, support_of
from ProxyPromptSegmentLib.evaluation.systems.stacks import stack_of
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.evaluation.systems.transforms import affine, deformable, grid_image, transferred
from ProxyPromptSegmentLib.evaluation.tracking import SWEEPS
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import MAX_SLICES

if TYPE_CHECKING:
    import SimpleITK as sitk

AFFINE, DEFORMABLE = "registration, affine", "registration, deformable"
LEAST_SLICES = 8
"""Slices from which a case is registered as a volume; others are registered slice by slice."""


@dataclass(frozen=True)
class LabelTransfer:
    """Registration of every support to the target, and a majority vote of the masks.

    Attributes:
        deforms: Whether Demons follow the affine step.
    """

    deforms: bool = False
    kind: Kind = Kind.FREE
    source: str = "SimpleITK: Mattes mutual information, symmetric Demons; majority vote of the supports"

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return DEFORMABLE if self.deforms else AFFINE

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Keep the annotated volumes and slices."""
        support_of(lesson.few)  # raises where nothing is marked
        return _Transferring(tuple(lesson.few), self.deforms)


@dataclass(frozen=True, eq=False)
class _Annotated:
    image: sitk.Image
    masks: np.ndarray  # (N, ...)


@dataclass(frozen=True, eq=False)
class _Transferring:
    few: tuple[Case, ...]
    deforms: bool

    def segment(self, case: Case) -> np.ndarray:
        """Transfer the masks of volumes to a volume, of slices to slices."""
        measured = case.spacing_mm is not None and all(one.spacing_mm is not None for one in self.few)
        grey = stack_of(case).array
        volumes = [one for one in self.few if _is_volume(one) and one.masks.any()]
        if _is_volume(case) and volumes:
            target = grid_image(grey, case.spacing_mm if measured else None)
            known = [
                _Annotated(
                    grid_image(stack_of(one).array, one.spacing_mm if measured else None), one.masks.swapaxes(0, 1)
                )
                for one in volumes
            ]
            return self._voted(target, known).swapaxes(0, 1)
        share = max(1, -(-MAX_SLICES // len(self.few)))
        flat = []
        for one in self.few:
            stack = stack_of(one).array
            flat += [
                _Annotated(grid_image(stack[n], spacing_of(one) if measured else None), one.masks[n])
                for n in chosen_slices(one, share)
            ]
        return np.stack([self._voted(grid_image(part, spacing_of(case) if measured else None), flat) for part in grey])

    def _voted(self, target: sitk.Image, known: Sequence[_Annotated]) -> np.ndarray:
        """Return what at least half of the transferred masks cover, uint8 ``(N, ...)``."""
        found = []
        for one in known:
            transform = affine(target, one.image)
            if self.deforms:
                transform = deformable(target, one.image, transform)
            moved = transferred(one.masks, one.image, target, transform)
            found.append(moved.reshape(len(moved), -1, moved.shape[-1]))
        return mean_mask(np.stack(found)).reshape(moved.shape)


def _is_volume(case: Case) -> bool:
    """Return whether the slices of a case lie beside one another in space; those of sweeps follow in time."""
    return len(case.images) >= LEAST_SLICES and case.dataset not in SWEEPS
