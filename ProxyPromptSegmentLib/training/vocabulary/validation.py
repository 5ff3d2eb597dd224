"""What a model draws of its classes on kept validation images, and which of them it corrects for the better."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.class_prompt.readout import ClassReadout
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedClasses
from ProxyPromptSegmentLib.training.vocabulary.features import KeptImages
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe

MOST = 8  # images of each set that show a class
STRANGERS = 4  # classes of other images that are asked for on each
TOGETHER = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationScores:
    """What was found.

    Attributes:
        dice: Dice by class number and data set, one for each image that shows the class.
        empty: Of classes of other images, whether nothing was drawn.
    """

    dice: dict[tuple[int, str], list[float]]
    empty: list[float]

    def of_class(self, number: int) -> list[float]:
        """Return the Dice of a class on all images."""
        return [value for (one, _), values in self.dice.items() if one == number for value in values]


def validation_scores(
    model: ProxyPromptModel, kept: Sequence[KeptImages], recipe: VocabularyRecipe, strangers: int = STRANGERS
) -> ValidationScores:
    """Draw the classes of a recipe on kept images, with presence, as in use.

    Args:
        model: On the backbone that embedded them, in evaluation mode.
        kept: Embedded validation images.
        recipe: The classes and where they are marked.
        strangers: How many classes of other images are asked for on each.
    """
    found: dict[tuple[int, str], list[float]] = {}
    empty: list[float] = []
    backbone: Any = model.backbone
    for one in kept:
        marked, strange = recipe.marked(one.dataset), recipe.strangers_of(one.dataset)[:strangers]
        shown = np.flatnonzero(one.shown.any(axis=1))[:MOST].tolist()
        for start in range(0, len(shown), TOGETHER):
            part = shown[start : start + TOGETHER]
            features = ImageFeatures(
                top=torch.stack([one.get("top", index) for index in part]).float(),
                positions=backbone.positions(),
                valid=torch.stack([one.get("valid", index) for index in part]),
            )
            masks = torch.stack([one.get("masks", index) for index in part]) > 127
            with torch.inference_mode():
                decoded, prompt = model.predict(features, PreparedClasses(classes=torch.tensor([*marked, *strange])))
                logits = functional.interpolate(decoded.logits, size=masks.shape[-2:], mode="bilinear")
                drawn = torch.sigmoid(logits)
                if prompt.presence is not None:
                    drawn = drawn * torch.sigmoid(prompt.presence)[..., None, None]
            drawn = drawn > 0.5
            for place, number in enumerate(marked):
                mine = [one.objects.index(name) for name in recipe.classes[number].sets[one.dataset]]
                truth = masks[:, mine].any(1).flatten(1)
                mask = drawn[:, place].flatten(1)
                dice = 2 * (truth & mask).sum(1) / (truth.sum(1) + mask.sum(1)).clamp(min=1)
                found.setdefault((number, one.dataset), []).extend(dice[truth.any(1)].tolist())
            empty += (~drawn[:, len(marked) :].flatten(2).any(2)).float().flatten().tolist()
    return ValidationScores(dice=found, empty=empty)


def fit_trust(
    model: ProxyPromptModel, kept: Sequence[KeptImages], recipe: VocabularyRecipe, first: ClassReadout | None
) -> torch.Tensor:
    """Return for each class whether its readings are corrected, 1, or stay as they are, 0: what is better.

    Args:
        model: A model whose generator corrects readings, in evaluation mode. Its trust is set to what is returned, and
            the readings of the other classes to those before the training.
        kept: Embedded validation images.
        recipe: The settings.
        first: The readings before the training; None where they are not known any more.
    """
    encoder = model.generator.class_encoder
    trained = {name: value.clone() for name, value in encoder.readout.state_dict().items()}
    before = trained if first is None else first.state_dict()
    means = []
    for value, readings in ((0.0, before), (1.0, trained)):
        encoder.trust.fill_(value)
        encoder.readout.load_state_dict(readings)
        scores = validation_scores(model, kept, recipe, strangers=0)
        means.append([float(np.mean(scores.of_class(n) or [0.0])) for n in range(len(recipe.classes))])
    trust = torch.tensor([float(with_it > without) for without, with_it in zip(*means, strict=True)])
    encoder.trust.copy_(trust)
    with torch.no_grad():
        for name in ("maps", "presence"):
            getattr(encoder.readout, name).copy_(torch.where(trust.unsqueeze(1) > 0, trained[name], before[name]))
    return trust
