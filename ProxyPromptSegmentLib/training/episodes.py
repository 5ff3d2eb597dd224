"""Episodes: a few images of each task, where every image is a target with random subsets of the others as supports.

Encoding ``n`` images once and using each as target and support makes supports almost free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, images_to_tensor, masks_to_tensor
from ProxyPromptSegmentLib.training.augment import random_affine, random_intensity
from ProxyPromptSegmentLib.training.recipe import EpisodeRecipe, TaskRecipe


@dataclass(frozen=True, kw_only=True)
class TaskPool:
    """All training slices of one data set, at the network's size.

    Attributes:
        task: The settings of the data set in the recipe.
        images: uint8 ``(M, size, size)``.
        masks: bool ``(M, N, size, size)``.
        patients: Index of the patient of each slice, ``(M,)``.
        objects: Names of the ``N`` objects, in addition to which unions are drawn.
    """

    task: TaskRecipe
    images: torch.Tensor
    masks: torch.Tensor
    patients: torch.Tensor
    objects: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.task.dataset


def build_pool(task: TaskRecipe, cases: list[Case], size: int) -> TaskPool:
    """Build a pool from cases, with the slices at the network's size.

    Raises:
        InputError: If there is no case.
    """
    if not cases:
        raise InputError(
            f"there is no case of {task.dataset} to train on (its split may be for testing only); leave it out of the "
            "recipe, or give a data folder that has some."
        )
    images, masks, patients = [], [], []
    index = {patient: number for number, patient in enumerate(sorted({case.patient for case in cases}))}
    for case in cases:
        box = Letterbox(size, (case.images.shape[1], case.images.shape[2]))
        gray = images_to_tensor(case.images, intensity_window(case.images), box)[:, :1]
        images.append((gray[:, 0] * 255).round().to(torch.uint8))
        masks.append(masks_to_tensor(case.masks, box) > 0.5)
        patients.append(torch.full((case.images.shape[0],), index[case.patient]))
    return TaskPool(
        task=task,
        images=torch.cat(images),
        masks=torch.cat(masks),
        patients=torch.cat(patients),
        objects=cases[0].objects,
    )


@dataclass(kw_only=True)
class Episode:
    """The data of one training step on single images.

    Attributes:
        images: ``(B, 3, size, size)`` in 0..1.
        masks: Masks of the images as supports, one object each, ``(B, 1, size, size)``.
        truth: Reference masks of the images as targets, ``(B, 1, size, size)``.
        chosen: Indices of the supports of each target, ``(B, k)``; never an image of the same patient.
        related: Targets whose supports show their own task, bool ``(B,)``.
    """

    images: torch.Tensor
    masks: torch.Tensor
    truth: torch.Tensor
    chosen: torch.Tensor
    related: torch.Tensor


def _check_pool(pool: TaskPool) -> None:
    """Reject a task in which a target would have no other image as a support."""
    patients = len(pool.patients.unique())
    if pool.task.per_step < 2:
        raise UsageError(
            f"per_step of {pool.name} is {pool.task.per_step}, but an image's supports are the other images of the "
            "step; make it 2 or more."
        )
    if patients < 2:
        raise InputError(
            f"{pool.name} has images of {patients} patient{'s' if patients != 1 else ''}, but a support has to be of "
            "another patient than the target, so at least 2 are needed; add cases, or leave it out of the recipe."
        )


class EpisodeSampler:
    """A sampler of episodes from task pools, deterministic given its seed and the step."""

    def __init__(
        self,
        pools: list[TaskPool],
        seed: int,
        recipe: EpisodeRecipe | None = None,
        zoom: tuple[float, float] = (0.75, 1.5),
    ) -> None:
        """Create the sampler.

        Args:
            pools: The tasks.
            seed: Seed of all random choices.
            recipe: Settings of episodes; by default the recipe's defaults.
            zoom: Smallest and largest magnification.

        Raises:
            UsageError: If there is no task, a task draws fewer than two images, or no support is allowed.
            InputError: If a task's images are all from one patient.
        """
        recipe = recipe or EpisodeRecipe()
        if not pools:
            raise UsageError("there is no task to draw from; name at least one data set in the recipe's tasks.")
        if recipe.max_supports < 1:
            raise UsageError(f"max_supports is {recipe.max_supports}; every target needs a support: make it 1 or more.")
        for pool in pools:
            _check_pool(pool)
        self.pools, self.seed = pools, seed
        self._unions = [pool.masks.any(dim=1) for pool in pools]
        self.recipe = recipe
        self.zoom = zoom

    def draw(self, step: int) -> Episode:
        """Draw the episode of a step."""
        rng = np.random.default_rng((self.seed, step))
        chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
        images, masks, task, flip = [], [], [], []
        for number, pool in enumerate(self.pools):
            chosen, mask = self._draw_pool(pool, self._unions[number], rng)
            images.append(pool.images[chosen].float().unsqueeze(1) / 255)
            masks.append(mask)
            task += [number] * len(chosen)
            flip += [pool.task.flip] * len(chosen)
        joined, mask = random_affine(
            torch.cat(images), torch.cat(masks), chance, zoom=self.zoom, flip=torch.tensor(flip)
        )
        joined = random_intensity(joined, chance)
        empty_tasks = rng.random(len(self.pools)) < self.recipe.emptied
        for position, number in enumerate(task):
            if empty_tasks[number]:
                mask[position] = 0
        picked, related = self._choose(np.array(task), mask.flatten(1).any(1).numpy(), empty_tasks, rng)
        truth = mask * torch.from_numpy(related).view(-1, 1, 1, 1)
        return Episode(
            images=joined.expand(-1, 3, -1, -1),
            masks=mask,
            truth=truth,
            chosen=torch.from_numpy(picked),
            related=torch.from_numpy(related),
        )

    def _draw_pool(
        self, pool: TaskPool, union: torch.Tensor, rng: np.random.Generator
    ) -> tuple[list[int], torch.Tensor]:
        """Draw slices of distinct patients, and one object for all of them."""
        total = pool.masks.shape[1]
        union_asked = total > 1 and pool.task.unions and rng.random() < pool.task.union_share
        pick = total if union_asked else int(rng.integers(total))
        mask = pool.masks[:, pick] if pick < total else union
        present = mask.flatten(1).any(dim=1).numpy()
        patients = pool.patients.numpy()
        chosen: list[int] = []
        for patient in rng.permutation(np.unique(patients))[: pool.task.per_step]:
            want_empty = len(chosen) >= 2 and rng.random() < pool.task.empty_share
            mine = patients == patient
            options = np.flatnonzero(mine & (present != want_empty))
            if len(options) == 0:
                options = np.flatnonzero(mine)
            chosen.append(int(rng.choice(options)))
        return chosen, mask[chosen].unsqueeze(1).float()

    def _choose(
        self, task: np.ndarray, present: np.ndarray, empty_tasks: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose the same number of supports for each target; at least one shows the object, if possible."""
        count = len(task)
        smallest = min(np.bincount(task)) - 1
        number = int(rng.integers(1, min(self.recipe.max_supports, smallest) + 1))
        picked, related = np.zeros((count, number), np.int64), np.ones(count, bool)
        for target in range(count):
            if len(self.pools) > 1 and rng.random() < self.recipe.unrelated:
                related[target] = False
                others = np.flatnonzero(task != task[target])
            else:
                others = np.flatnonzero((task == task[target]) & (np.arange(count) != target))
            chosen = rng.choice(others, number, replace=False)
            if not empty_tasks[task[chosen[0]]] and not present[chosen].any() and present[others].any():
                chosen[0] = rng.choice(others[present[others]])
            picked[target] = chosen
        return picked, related
