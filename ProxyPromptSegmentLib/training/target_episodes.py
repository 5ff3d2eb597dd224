"""Episodes as in the paper: targets of one data set, and supports that are other patients of the same set.

Within an epoch every image is a target once, and a support of the others; the steps of all data sets follow in an order
that is drawn for each epoch, so that a set has as many as its images need.
Several objects can be asked for at once, as in use.

References:
    Proxy Prompt, section 7.1 (alternating targets and supports, varied support masks) and section 11.6 (K = M - 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.training.episodes import Episode, known_depth, varied
from ProxyPromptSegmentLib.training.pools import TaskPool
from ProxyPromptSegmentLib.training.recipe import EpisodeRecipe

ALL_OBJECTS = 0.5  # share of steps with several objects that ask for all of them


class TargetSampler:
    """A sampler of targets with their supports, deterministic given its seed and the step."""

    def __init__(
        self,
        pools: Sequence[TaskPool],
        seed: int,
        recipe: EpisodeRecipe,
        zoom: tuple[float, float] = (0.75, 1.5),
    ) -> None:
        """Create the sampler.

        Args:
            pools: The tasks.
            seed: Seed of all random choices.
            recipe: Settings of episodes.
            zoom: Smallest and largest magnification.

        Raises:
            UsageError: If there is no task, or no support is allowed.
            InputError: If a task has fewer than two patients with a marked slice.
        """
        if not pools:
            raise UsageError("there is no task to draw from; name at least one data set in the recipe's tasks.")
        if recipe.max_supports < 1:
            raise UsageError(f"max_supports is {recipe.max_supports}; every target needs a support: make it 1 or more.")
        self.pools, self.seed, self.recipe, self.zoom = list(pools), seed, recipe, zoom
        self._marked = [np.flatnonzero(pool.masks.flatten(1).any(1).numpy()) for pool in pools]
        self._turns = [math.ceil(len(marked) / recipe.targets) for marked in self._marked]  # of an epoch
        for pool, marked in zip(pools, self._marked, strict=True):
            patients = len(pool.patients[marked].unique())
            if patients < 2:
                raise InputError(
                    f"{pool.name} has marked images of {patients} patient{'s' if patients != 1 else ''}, but a support "
                    "has to be of another patient than the target, so at least 2 are needed; add cases, or leave it "
                    "out of the recipe."
                )

    @property
    def per_epoch(self) -> int:
        """Number of episodes of an epoch."""
        return sum(self._turns)

    @property
    def largest(self) -> tuple[int, int]:
        """Largest number of images of an episode, targets included, and of objects that it asks for."""
        recipe, images, objects = self.recipe, 0, 1
        for which, pool in enumerate(self.pools):
            most = len(self._marked[which]) - 1  # those of a target's own patient are none
            if recipe.unrelated > 0:
                most = max([most, *(len(marked) for n, marked in enumerate(self._marked) if n != which)])
            images = max(images, min(recipe.targets, len(self._marked[which])) + min(recipe.max_supports, most))
            total = pool.masks.shape[1]
            if recipe.objects == "several":
                objects = max(objects, total + bool(total > 1 and pool.task.unions and pool.task.union_share > 0))
        return images, objects

    def draw(self, number: int) -> Episode:
        """Draw an episode by its number."""
        rng = np.random.default_rng((self.seed, number, 6))
        chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
        which, turn = self._turn(number)
        pool = self.pools[which]
        targets = self._targets(which, turn, rng)
        related, source = True, which
        if len(self.pools) > 1 and rng.random() < self.recipe.unrelated:
            related = False
            source = int(rng.choice([other for other in range(len(self.pools)) if other != which]))
        supports = self._supports(source, pool.patients[targets] if related else None, rng)
        asked, present = self._masks(self.pools[source], supports, rng)
        emptied = rng.random() < self.recipe.emptied
        truth_of_targets = _combined(pool, targets, asked) if related else None
        shape = pool.images.shape[-2:]
        count = len(targets)
        masks = torch.cat([torch.zeros(count, present.shape[1], *shape), present])
        if truth_of_targets is not None:
            masks[:count] = truth_of_targets
        other = self.pools[source]
        content = torch.cat([pool.content(targets), other.content(supports)])
        flip = torch.tensor([pool.task.flip] * count + [other.task.flip] * len(supports))
        pictures = [pool.pictures(targets), other.pictures(supports)]
        images, masks = varied(pictures, masks, content, flip, self.zoom, chance)
        if emptied:
            masks = torch.zeros_like(masks)
        depth = torch.cat([pool.depths(targets), other.depths(supports)])
        return Episode(
            images=images.expand(-1, 3, -1, -1),
            masks=masks,
            truth=masks[:count].clone(),
            chosen=torch.arange(count, count + len(supports)).expand(count, -1),
            related=torch.full((count,), related),
            content=None if bool(content.all()) else content,
            depth=known_depth(depth, (self.seed, number, 7)),
            apart=True,
        )

    def _turn(self, number: int) -> tuple[int, int]:
        """Return the data set of an episode, and how many of its episodes came before."""
        epoch, place = divmod(number, self.per_epoch)
        sets = np.repeat(np.arange(len(self.pools)), self._turns)
        order = np.random.default_rng((self.seed, epoch, 9)).permutation(sets)
        which = int(order[place])
        return which, epoch * self._turns[which] + int(np.count_nonzero(order[:place] == which))

    def _targets(self, which: int, turn: int, rng: np.random.Generator) -> np.ndarray:
        """Return the targets of a turn: the next of the epoch's order, occasionally replaced by empty slices."""
        pool, marked, most = self.pools[which], self._marked[which], self.recipe.targets
        turns = self._turns[which]
        order = np.random.default_rng((self.seed, which, turn // turns, 8)).permutation(marked)
        chosen = order[turn % turns * most :][:most]
        if len(pool.patients[chosen].unique()) == len(pool.patients[marked].unique()):
            chosen = chosen[:1]  # at least one has to be a support
        empty = np.setdiff1d(np.arange(len(pool.images)), marked)
        if len(empty) and rng.random() < pool.task.empty_share:
            chosen = rng.choice(empty, len(chosen), replace=len(empty) < len(chosen))
        return chosen

    def _supports(self, which: int, patients: torch.Tensor | None, rng: np.random.Generator) -> np.ndarray:
        """Draw supports of other patients than the targets': one of each patient, then a second one, and so on."""
        pool, marked = self.pools[which], self._marked[which]
        owner = pool.patients.numpy()
        allowed = marked if patients is None else marked[~np.isin(owner[marked], patients.numpy())]
        if not len(allowed):  # the drawn targets are of all patients
            allowed = marked
        shuffled = rng.permutation(allowed)
        rounds = np.zeros(len(shuffled), np.int64)
        seen: dict[int, int] = {}
        for place, index in enumerate(shuffled):
            rounds[place] = seen.get(int(owner[index]), 0)
            seen[int(owner[index])] = int(rounds[place]) + 1
        ranked = shuffled[np.argsort(rounds, kind="stable")]
        most = min(self.recipe.max_supports, len(ranked))
        return ranked[: most if self.recipe.all_supports else int(rng.integers(1, most + 1))]

    def _masks(
        self, pool: TaskPool, supports: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[list[int]], torch.Tensor]:
        """Choose what is asked for, each a union of objects, and return it with the supports' masks of it."""
        total = pool.masks.shape[1]
        shown = np.flatnonzero(pool.masks[supports].flatten(2).any(2).any(0).numpy())  # never none: all are marked
        if self.recipe.objects == "several":
            count = len(shown) if rng.random() < ALL_OBJECTS else int(rng.integers(1, len(shown) + 1))
            asked = [[int(number)] for number in sorted(rng.choice(shown, count, replace=False))]
        else:
            asked = [[int(rng.choice(shown))]]
        if total > 1 and pool.task.unions and rng.random() < pool.task.union_share:
            union = list(range(total))
            asked = [*asked, union] if self.recipe.objects == "several" else [union]
        return asked, _combined(pool, supports, asked)


def _combined(pool: TaskPool, index: np.ndarray, asked: list[list[int]]) -> torch.Tensor:
    """Return the masks of unions of objects, float ``(n, N, size, size)``."""
    masks = pool.masks[torch.as_tensor(index)]
    return torch.stack([masks[:, union].any(1) for union in asked], dim=1).float()
