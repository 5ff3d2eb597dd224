"""Pools: all training slices of one data set at the network's size, prepared as in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, images_to_tensor, masks_to_tensor
from ProxyPromptSegmentLib.training.recipe import TaskRecipe


@dataclass(frozen=True, kw_only=True)
class TaskPool:
    """All training slices of one data set, at the network's size.

    Attributes:
        task: The settings of the data set in the recipe.
        images: uint8 ``(M, size, size)``, or ``(M, 3, size, size)`` for colour.
        masks: bool ``(M, N, size, size)``.
        patients: Index of the patient of each slice, ``(M,)``.
        objects: Names of the ``N`` objects, in addition to which unions are drawn.
        filled: Rows and columns of the square that each slice fills, ``(M, 2)``, the rest being padding; None: all.
        depth: Position of each slice along its volume, -1 to 1, ``(M,)``; None where the images are no volumes.
    """

    task: TaskRecipe
    images: torch.Tensor
    masks: torch.Tensor
    patients: torch.Tensor
    objects: tuple[str, ...]
    filled: torch.Tensor | None = None
    depth: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.task.dataset

    @property
    def colour(self) -> bool:
        """Whether the images have three channels."""
        return self.images.ndim == 4

    def pictures(self, index: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Return some images in 0..1, ``(n, 1, size, size)``, or ``(n, 3, size, size)`` for colour."""
        chosen = self.images[torch.as_tensor(np.asarray(index))].float() / 255
        return chosen if self.colour else chosen.unsqueeze(1)

    def content(self, index: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Return which pixels of some images are not padding, bool ``(n, 1, size, size)``."""
        size = self.images.shape[-1]
        count = len(index)
        if self.filled is None:
            return torch.ones(count, 1, size, size, dtype=torch.bool)
        rows, columns = self.filled[torch.as_tensor(np.asarray(index))].unbind(1)
        place = torch.arange(size)
        return ((place < rows.view(-1, 1)).unsqueeze(2) & (place < columns.view(-1, 1)).unsqueeze(1)).unsqueeze(1)

    def depths(self, index: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Return the position of some slices along their volumes, ``(n,)``; 0 where it is not known."""
        return torch.zeros(len(index)) if self.depth is None else self.depth[torch.as_tensor(np.asarray(index))]


def build_pool(task: TaskRecipe, cases: list[Case], size: int, keep_aspect: bool = True) -> TaskPool:
    """Build a pool from cases, with the slices at the network's size.

    Args:
        task: The settings of the data set.
        cases: The cases.
        size: Side of the network's square in pixels.
        keep_aspect: Whether the backbone's images are letterboxed, see `Letterbox`.

    Raises:
        InputError: If there is no case.
    """
    if not cases:
        raise InputError(
            f"there is no case of {task.dataset} to train on (its split may be for testing only); leave it out of the "
            "recipe, or give a data folder that has some."
        )
    images, masks, patients, filled, depth = [], [], [], [], []
    index = {patient: number for number, patient in enumerate(sorted({case.patient for case in cases}))}
    colour = any(case.images.ndim == 4 for case in cases)
    for case in cases:
        count = case.images.shape[0]
        spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
        box = Letterbox(size, (case.images.shape[1], case.images.shape[2]), spacing, keep_aspect)
        seen = images_to_tensor(case.images, intensity_window(case.images), box)
        images.append(((seen if colour else seen[:, 0]) * 255).round().to(torch.uint8))
        masks.append(masks_to_tensor(case.masks, box) > 0.5)
        patients.append(torch.full((count,), index[case.patient]))
        filled.append(torch.tensor(box.valid).expand(count, 2))
        depth.append(_depth_of(case))
    together = torch.cat(filled)
    known = torch.cat(depth)
    return TaskPool(
        task=task,
        images=torch.cat(images),
        masks=torch.cat(masks),
        patients=torch.cat(patients),
        objects=cases[0].objects,
        filled=None if bool((together == size).all()) else together,
        depth=known if bool(known.any()) else None,
    )


def _depth_of(case: Case) -> torch.Tensor:
    """Return the position of each slice along its volume, ``(S,)``; 0 of what is no volume."""
    count = case.images.shape[0]
    if case.spacing_mm is None or count < 2:
        return torch.zeros(count)
    return torch.linspace(-1.0, 1.0, count)
