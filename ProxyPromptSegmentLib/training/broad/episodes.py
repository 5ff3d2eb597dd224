"""Episodes of a broad training: several groups, augmented together, with the supports that each target reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.training.broad.augment import Strength, change_intensity, content_mask, sampling_grid, warp
from ProxyPromptSegmentLib.training.broad.groups import OBJECTS, Group, drawn_group, real_group, region_group
from ProxyPromptSegmentLib.training.broad.pools import SIDE, Pool
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe

# Few supports are the usual case, and the hardest.
SUPPORT_CHANCES = (0.25, 0.2, 0.12, 0.13, 0.08, 0.07, 0.05, 0.1)
SMALLEST = 12  # pixels below which nothing is left of an object after augmentation


@dataclass(kw_only=True)
class BroadEpisode:
    """The data of one step; every tensor has the same shape in every step.

    Attributes:
        images: ``(B, 3, SIDE, SIDE)`` in 0..1.
        masks: Masks of the images as supports, ``(B, OBJECTS, SIDE, SIDE)``.
        truth: Reference masks of the images as targets, of the same shape.
        chosen: Indices of the supports of each target, ``(B, k)``; below 0 for none.
        related: 1 where the supports show the target's own task, ``(B,)``.
        foreign: For each target an image of a group of another kind, ``(B,)``; below 0 where there is none.
        content: Pixels that show the image and not its padding, bool ``(B, SIDE, SIDE)``.
        depth: Position of each image along its volume, ``(B,)``.
    """

    images: torch.Tensor
    masks: torch.Tensor
    truth: torch.Tensor
    chosen: torch.Tensor
    related: torch.Tensor
    foreign: torch.Tensor
    content: torch.Tensor
    depth: torch.Tensor

    @property
    def targets(self) -> int:
        """Number of targets, each an image and an object."""
        return self.truth.shape[0] * self.truth.shape[1]

    def tensors(self) -> list[torch.Tensor]:
        """Return the fields in their order."""
        return [getattr(self, item.name) for item in dataclasses.fields(self)]

    @classmethod
    def of(cls, tensors: list[torch.Tensor]) -> BroadEpisode:
        """Build an episode of its fields in their order."""
        names = [item.name for item in dataclasses.fields(cls)]
        return cls(**dict(zip(names, tensors, strict=True)))


class TrainingEpisode(Protocol):
    """What a trainer has to know of an episode."""

    @property
    def targets(self) -> int:
        """Number of targets, each an image and an object."""

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors on the device."""


class EpisodeSampler(Protocol):
    """A source of episodes for a trainer.

    Attributes:
        device: The device of the episodes.
    """

    device: torch.device

    def draw(self, rng: np.random.Generator) -> TrainingEpisode:
        """Draw one episode."""


class BroadSampler:
    """A sampler of episodes from pools."""

    def __init__(self, pools: list[Pool], recipe: BroadRecipe) -> None:
        """Create the sampler.

        Raises:
            UsageError: If there is no pool.
        """
        if not pools:
            raise UsageError("there is no data set to draw from; give a data folder that has some.")
        self.pools, self.recipe = pools, recipe
        weights = np.array([recipe.weights.get(p.name, 0.7 * min(3, len(p.bits)) ** 0.5) for p in pools])
        self.chances = weights / weights.sum()
        self.device = pools[0].images.device

    def draw(self, rng: np.random.Generator) -> BroadEpisode:
        """Draw one episode; the fields of chance of the device are torch's own."""
        groups = self._groups(rng)
        number = np.repeat(np.arange(len(groups)), [len(group.images) for group in groups])
        images, masks, content = self._augment(groups, number)
        patients = np.concatenate([group.patients for group in groups])
        emptied = rng.random((len(groups), OBJECTS)) < self.recipe.emptied
        emptied &= np.array([group.real for group in groups])[:, None]
        kept = torch.from_numpy(~emptied[number]).to(self.device)
        masks = masks * (kept & (masks.sum((2, 3)) >= SMALLEST)).view(*kept.shape, 1, 1)
        has = (masks.amax((2, 3)) > 0).cpu().numpy()
        strange = self._strange(groups)[number][:, number]
        chosen, related = self._choose(number, patients, strange, has[:, 0], rng)
        # An object that none of a target's supports shows cannot be asked for.
        shown = (has[chosen] & (chosen >= 0)[:, :, None]).any(1) & related[:, None]
        truth = masks * torch.from_numpy(shown).to(self.device).view(*shown.shape, 1, 1)
        return BroadEpisode(
            images=images,
            masks=masks,
            truth=truth,
            chosen=torch.from_numpy(chosen).to(self.device),
            related=torch.from_numpy(related.astype(np.float32)).to(self.device),
            foreign=torch.from_numpy(_one_of_each(strange, rng)).to(self.device),
            content=content,
            depth=torch.from_numpy(np.concatenate([group.depth for group in groups])).to(self.device),
        )

    def _groups(self, rng: np.random.Generator) -> list[Group]:
        """Draw the groups of one episode."""
        recipe = self.recipe
        groups = [real_group(self._pool(rng), recipe, rng) for _ in range(recipe.groups)]
        regions = 0
        for _ in range(20 * recipe.region_groups):
            if regions == recipe.region_groups:
                break
            group = region_group(self._pool(rng), recipe, rng)
            if group is not None:
                groups.append(group)
                regions += 1
        if regions < recipe.region_groups:
            raise UsageError("the data have no regions to draw from; pack them with scikit-image, or ask for none.")
        like = self.pools[0].content
        return groups + [drawn_group(like, recipe, rng) for _ in range(recipe.drawn_groups)]

    def _pool(self, rng: np.random.Generator) -> Pool:
        return self.pools[int(rng.choice(len(self.pools), p=self.chances))]

    def _augment(self, groups: list[Group], number: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return images, masks and content of all groups after augmentation."""
        images, masks, content, strength = self._warped(groups, number)
        changed = change_intensity(images, strength)
        # Padding is black, also after a change of intensity, as it is in use.
        return changed * content.unsqueeze(1), masks, content

    def _warped(
        self, groups: list[Group], number: np.ndarray, same: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Strength]:
        """Return images, masks and content of all groups after the changes of geometry, and how strong these are.

        Args:
            groups: The groups.
            number: Number of the group of each image.
            same: For each image the one whose geometry it takes over; by default its own.
        """
        device = self.device
        zoom = np.array([group.zoom for group in groups], np.float32)[number]
        elastic = np.array([group.elastic for group in groups], np.float32)[number]
        intensity = np.array([group.intensity for group in groups], np.float32)[number]
        strength = Strength(
            group=torch.from_numpy(number).to(device),
            groups=len(groups),
            zoom=torch.from_numpy(zoom).to(device),
            elastic=torch.from_numpy(elastic).to(device),
            intensity=torch.from_numpy(intensity).to(device),
        )
        grid = sampling_grid(strength)
        if same is not None:
            grid = grid[torch.from_numpy(same).to(device)]
        count = len(number)
        images = torch.zeros(count, 3, SIDE, SIDE, device=device)
        masks = torch.zeros(count, OBJECTS, SIDE, SIDE, device=device)
        content = torch.zeros(count, SIDE, SIDE, dtype=torch.bool, device=device)
        for side in sorted({group.images.shape[-1] for group in groups}):  # squares of one side are warped together
            mine = [index for index, group in enumerate(groups) if group.images.shape[-1] == side]
            where = torch.from_numpy(np.flatnonzero(np.isin(number, mine))).to(device)
            joined = torch.cat([torch.cat([groups[n].images, groups[n].masks], 1) for n in mine])
            moved = warp(joined, grid[where])
            images[where] = moved[:, :3]
            masks[where] = (moved[:, 3:] > 0.5).float()
            content[where] = content_mask(torch.cat([groups[n].content for n in mine]), side, grid[where])
        return images, masks, content, strength

    def _strange(self, groups: list[Group]) -> np.ndarray:
        """Return which groups of patients surely show nothing of each other's objects, bool ``(G, G)``."""
        kin = self.recipe.kin
        return np.array([[a.real and b.real and not kin(a.source, b.source) for b in groups] for a in groups])

    def _choose(
        self, group: np.ndarray, patients: np.ndarray, strange: np.ndarray, shown: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose the supports of each target, of other patients where there are some; one at least shows the object.

        Args:
            group: Number of the group of each image.
            patients: Number of its patient.
            strange: Which images surely show nothing of each other's objects, bool ``(B, B)``.
            shown: Whether it shows the first object.
            rng: Source of chance.
        """
        count, most = len(group), self.recipe.most_supports
        chances = np.array(SUPPORT_CHANCES[:most])
        chosen, related = np.full((count, most), -1, np.int64), np.ones(count, bool)
        for target in range(count):
            foreign = np.flatnonzero(strange[target])
            if len(foreign) and rng.random() < self.recipe.unrelated:
                # Of one group: supports of several at once would give away that they do not belong together.
                one = group[rng.choice(foreign)]
                related[target], others = False, foreign[group[foreign] == one]
            else:
                own = (group == group[target]) & (np.arange(count) != target)
                others = np.flatnonzero(own & (patients != patients[target]))
                others = others if len(others) else np.flatnonzero(own)
            number = min(len(others), 1 + int(rng.choice(len(chances), p=chances / chances.sum())))
            picked = rng.choice(others, number, replace=False)
            if not shown[picked].any() and shown[others].any():
                picked[0] = rng.choice(others[shown[others]])
            chosen[target, :number] = picked
        return chosen, related


def _one_of_each(among: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return for each row of ``(B, B)`` one of its true columns, -1 where there is none, int64 ``(B,)``."""
    drawn = np.where(among, rng.random(among.shape), -1.0)
    return np.where(among.any(1), drawn.argmax(1), -1).astype(np.int64)
