"""Episodes: a few images of each task, where every image is a target with random subsets of the others as supports.

Encoding ``n`` images once and using each as target and support makes supports almost free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.training.augment import middle_of, random_affine, random_intensity
from ProxyPromptSegmentLib.training.pools import TaskPool, build_pool
from ProxyPromptSegmentLib.training.recipe import EpisodeRecipe

__all__ = ["Episode", "EpisodeSampler", "TaskPool", "build_pool", "varied"]

DEPTH_SHARE, DEPTH_NOISE = 0.7, 0.04  # of steps in which the position of slices is known, and how exactly


@dataclass(kw_only=True)
class Episode:
    """The data of one training step on single images.

    Attributes:
        images: ``(B, 3, size, size)`` in 0..1; the first ``T`` are targets.
        masks: Masks of the images as supports, ``N`` objects each, ``(B, N, size, size)``.
        truth: Reference masks of the targets, ``(T, N, size, size)``.
        chosen: Indices of the supports of each target, ``(T, k)``; never an image of the same patient.
        related: Targets whose supports show their own task, bool ``(T,)``.
        content: Pixels that are not padding, bool ``(B, 1, size, size)``; None if all are.
        depth: Position of each image along its volume, ``(B,)``; None if it is not used.
        apart: Whether targets are not supports; otherwise every image is both.
    """

    images: torch.Tensor
    masks: torch.Tensor
    truth: torch.Tensor
    chosen: torch.Tensor
    related: torch.Tensor
    content: torch.Tensor | None = None
    depth: torch.Tensor | None = None
    apart: bool = False


def varied(
    pictures: Sequence[torch.Tensor],
    masks: torch.Tensor,
    content: torch.Tensor,
    flip: torch.Tensor,
    zoom: tuple[float, float],
    chance: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment images and masks; the padding stays where it is, and black, as in use.

    Args:
        pictures: Images of one data set each, ``(n, 1 or 3, size, size)``.
        masks: ``(B, N, size, size)``.
        content: Pixels that are not padding, bool ``(B, 1, size, size)``.
        flip: Which images may be mirrored, bool ``(B,)``.
        zoom: Smallest and largest magnification.
        chance: Source of chance.

    Returns:
        Images, ``(B, 3, size, size)``, or with one channel if none has colour, and masks.
    """
    channels = max(part.shape[1] for part in pictures)
    joined = torch.cat([part.expand(-1, channels, -1, -1) for part in pictures])
    joined, mask = random_affine(joined, masks, chance, zoom=zoom, flip=flip, middle=middle_of(content))
    return random_intensity(joined, chance) * content, mask * content


def known_depth(depth: torch.Tensor, seed: tuple[int, ...]) -> torch.Tensor | None:
    """Return the positions of slices along their volumes, not quite exact and in most steps; None in the others."""
    rng = np.random.default_rng(seed)
    if not bool(depth.any()) or rng.random() >= DEPTH_SHARE:
        return None
    noise = torch.from_numpy(rng.normal(0, DEPTH_NOISE, len(depth)).astype(np.float32))
    return torch.where(depth == 0, depth, depth + noise)


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

    @property
    def largest(self) -> tuple[int, int]:
        """Largest number of images of an episode, and of objects that it asks for."""
        return sum(min(pool.task.per_step, len(pool.patients.unique())) for pool in self.pools), 1

    def draw(self, step: int) -> Episode:
        """Draw the episode of a step."""
        rng = np.random.default_rng((self.seed, step))
        chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
        images, masks, content, depth, task, flip = [], [], [], [], [], []
        for number, pool in enumerate(self.pools):
            chosen, mask = self._draw_pool(pool, self._unions[number], rng)
            images.append(pool.pictures(chosen))
            masks.append(mask)
            content.append(pool.content(chosen))
            depth.append(pool.depths(chosen))
            task += [number] * len(chosen)
            flip += [pool.task.flip] * len(chosen)
        inside = torch.cat(content)
        joined, mask = varied(images, torch.cat(masks), inside, torch.tensor(flip), self.zoom, chance)
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
            content=None if bool(inside.all()) else inside,
            depth=known_depth(torch.cat(depth), (self.seed, step, 5)),
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
