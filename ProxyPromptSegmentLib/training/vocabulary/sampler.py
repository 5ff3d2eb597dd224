"""Draws of embedded images for classes: each class as often as its weight says, and images that do not show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.training.vocabulary.features import KeptImages
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe


@dataclass(kw_only=True)
class ClassEpisode:
    """Images of one step and the classes asked for on each.

    Attributes:
        top: Embeddings ``(B, C, g, g)``.
        valid: Positions that show the image, bool ``(B, g, g)``.
        classes: Numbers of the classes, int64 ``(B, A + S)``: those whose masks are known, then strangers.
        truth: Masks of the first ``A``, 0..1, ``(B, A, 4g, 4g)``.
        there: Whether the image shows each, 0 or 1, ``(B, A + S)``.
        counted: Whether presence is learned from each, 0 or 1, ``(B, A + S)``: a class that is asked for twice, or a
            stranger where there is none, counts once or not at all.
        images: The images ``(B, 3, s, s)`` in 0..1 for generators that read them, or what their frozen trunk makes of
            them, ``(B, F)``; else empty.
    """

    top: torch.Tensor
    valid: torch.Tensor
    classes: torch.Tensor
    truth: torch.Tensor
    there: torch.Tensor
    counted: torch.Tensor
    images: torch.Tensor

    @property
    def targets(self) -> int:
        """Number of targets, each an image and a class whose mask is decoded."""
        return int(self.truth.shape[0] * self.truth.shape[1])

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors on the device."""
        return [self.top, self.valid, self.classes, self.truth, self.there, self.counted, self.images]


class ClassSampler:
    """Draws episodes from embedded images."""

    def __init__(self, kept: Sequence[KeptImages], recipe: VocabularyRecipe, device: torch.device) -> None:
        """Create the sampler.

        Raises:
            InputError: If no image shows a class.
        """
        self.recipe, self.device = recipe, device
        self.of_set: dict[str, list[KeptImages]] = {}
        for one in kept:
            self.of_set.setdefault(one.dataset, []).append(one)
        for number, taught in enumerate(recipe.classes):
            if not any(self.shows(one, number).any() for name in taught.sets for one in self.of_set.get(name, [])):
                raise InputError(
                    f"no training image shows the class '{taught.about.name}'; leave it out of the recipe, or give a "
                    "data folder that has some."
                )
        weights = np.array([taught.weight for taught in recipe.classes])
        self.chances = weights / weights.sum()
        self.others = [one for one in kept if one.dataset not in recipe.datasets]

    def objects(self, kept: KeptImages, number: int) -> list[int]:
        """Return the numbers of a set's objects whose union is a class."""
        return [kept.objects.index(name) for name in self.recipe.classes[number].sets[kept.dataset]]

    def shows(self, kept: KeptImages, number: int) -> np.ndarray:
        """Return which images of a set show a class, bool ``(M,)``."""
        return np.asarray(kept.shown[:, self.objects(kept, number)].any(axis=1))

    def draw(self, rng: np.random.Generator) -> ClassEpisode:
        """Draw one episode."""
        drawn = [self._one(rng) for _ in range(self.recipe.images)]
        columns = [torch.stack([one[n] for one in drawn]).to(self.device) for n in range(7)]
        top, valid, classes, truth, there, counted, images = columns
        return ClassEpisode(
            top=top.float(),
            valid=valid,
            classes=classes,
            truth=truth.float() / 255,
            there=there,
            counted=counted,
            images=images,
        )

    def _one(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Draw one image and its classes."""
        recipe = self.recipe
        if self.others and rng.random() < recipe.foreign:
            return self._other(rng)
        first = int(rng.choice(len(self.chances), p=self.chances))
        kept, index = self._image(first, rng)
        marked = [number for number in recipe.marked(kept.dataset) if number != first]
        strange = recipe.strangers_of(kept.dataset)
        others = list(rng.permutation(marked)[: recipe.asked - 1])
        asked = [first, *others] + [first] * (recipe.asked - 1 - len(others))
        strangers = list(rng.choice(strange, recipe.strangers)) if strange and recipe.strangers else []
        masks = kept.get("masks", index)
        truth = torch.stack([masks[self.objects(kept, int(number))].amax(0) for number in asked])
        there = [float(self.shows(kept, int(number))[index]) for number in asked]
        counted = [float(number not in asked[:place]) for place, number in enumerate(asked)]
        missing = recipe.strangers - len(strangers)
        return (
            kept.get("top", index),
            kept.get("valid", index),
            torch.tensor([int(number) for number in [*asked, *strangers, *[first] * missing]]),
            truth,
            torch.tensor([*there, *[0.0] * recipe.strangers]),
            torch.tensor([*counted, *[1.0] * len(strangers), *[0.0] * missing]),
            kept.read(index),
        )

    def _other(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Draw an image of a set that marks no class, and ask for some of them."""
        recipe = self.recipe
        kept = self.others[int(rng.integers(len(self.others)))]
        index, count = int(rng.integers(len(kept.shown))), recipe.asked + recipe.strangers
        classes = rng.choice(len(self.chances), count)
        masks = kept.get("masks", index)
        return (
            kept.get("top", index),
            kept.get("valid", index),
            torch.tensor([int(number) for number in classes]),
            torch.zeros(recipe.asked, *masks.shape[1:], dtype=torch.uint8),
            torch.zeros(count),
            torch.ones(count),
            kept.read(index),
        )

    def _image(self, number: int, rng: np.random.Generator) -> tuple[KeptImages, int]:
        """Draw an image of a set that marks a class, mostly one that shows it."""
        names = [name for name in self.recipe.classes[number].sets if name in self.of_set]
        sizes = np.sqrt([float(self.shows(self.of_set[name][0], number).sum()) for name in names])
        name = names[int(rng.choice(len(names), p=sizes / sizes.sum()))]
        variants = self.of_set[name]
        kept = variants[int(rng.integers(len(variants)))]
        shown = self.shows(kept, number)
        wanted = rng.random() >= self.recipe.absent
        options = np.flatnonzero(shown == wanted)
        return kept, int(rng.choice(options if len(options) else np.arange(len(shown))))
