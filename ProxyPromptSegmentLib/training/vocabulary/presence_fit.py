"""The threshold of presence, fitted on validation images after a training.

What a training sees of images without a class is a small part of what there is. On other patients a threshold is sought
that leaves a share of them empty and loses few of those that show the class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedClasses
from ProxyPromptSegmentLib.training.vocabulary.features import KeptImages
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe

TOGETHER = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresenceFit:
    """What was fitted for one class.

    Attributes:
        name: The class.
        threshold: Presence logit from which it counts as shown.
        shown: Share of the validation images with it that are found to show it.
        empty: Share of those without it that stay empty.
        images: How many images with and without it there were.
    """

    name: str
    threshold: float
    shown: float
    empty: float
    images: tuple[int, int]


def fit_presence(
    model: ProxyPromptModel, kept: Sequence[KeptImages], recipe: VocabularyRecipe
) -> tuple[PresenceFit, ...]:
    """Fit the threshold of each class.

    Args:
        model: The trained model, in evaluation mode.
        kept: Embedded validation images of the recipe's data sets.
        recipe: The settings, of which ``kept_empty`` is reached where it can be.
    """
    found: list[PresenceFit] = []
    logits = {id(one): presence_logits(model, one) for one in kept}
    for number, taught in enumerate(recipe.classes):
        shown, empty = [torch.zeros(0)], [torch.zeros(0)]
        for one in kept:
            mine = logits[id(one)][:, number]
            if one.dataset in taught.sets:
                index = [one.objects.index(name) for name in taught.sets[one.dataset]]
                there = torch.from_numpy(one.shown[:, index].any(axis=1))
                shown.append(mine[there])
                empty.append(mine[~there])
            elif number in recipe.strangers_of(one.dataset):
                empty.append(mine)
        found.append(_fit(taught.about.name, torch.cat(shown), torch.cat(empty), recipe.kept_empty))
    return tuple(found)


def presence_logits(model: ProxyPromptModel, kept: KeptImages) -> torch.Tensor:
    """Return the presence logit of every class on every image of a set, ``(M, N)``."""
    generator, count = model.generator, len(kept.shown)
    backbone: Any = model.backbone
    everything = PreparedClasses(classes=torch.arange(len(generator.vocabulary)))
    found = []
    with torch.inference_mode():
        for start in range(0, count, TOGETHER):
            part = range(start, min(count, start + TOGETHER))
            top = torch.stack([kept.get("top", index) for index in part]).float()
            valid = torch.stack([kept.get("valid", index) for index in part])
            features = ImageFeatures(top=top, positions=backbone.positions(), valid=valid)
            if generator.embeds:
                read = torch.stack([kept.read(index) for index in part])
                embed = generator.embed if read.ndim == 4 else generator.embed_kept
                features = dataclasses.replace(features, seen=embed(read))
            found.append(generator.prompt(features, everything).presence)
    return torch.cat(found)


def _fit(name: str, shown: torch.Tensor, empty: torch.Tensor, least: float) -> PresenceFit:
    """Return the threshold between two samples: as few errors as possible while a share of the empty ones stays so."""
    if not len(shown) or not len(empty):
        return PresenceFit(name=name, threshold=0.0, shown=1.0, empty=1.0, images=(len(shown), len(empty)))
    values = torch.cat([shown, empty]).sort().values
    cuts = torch.cat([values[:1] - 1, (values[1:] + values[:-1]) / 2, values[-1:] + 1])
    kept = (shown > cuts.unsqueeze(1)).float().mean(1)
    still = (empty <= cuts.unsqueeze(1)).float().mean(1)
    score = kept + still - 2 * (still < least)
    best = torch.nonzero(score >= score.max() - 1e-6).flatten()
    threshold = float(cuts[best].mean())  # where several are as good, the middle of them
    return PresenceFit(
        name=name,
        threshold=threshold,
        shown=float((shown > threshold).float().mean()),
        empty=float((empty <= threshold).float().mean()),
        images=(len(shown), len(empty)),
    )
