"""The linear readings of classes, fitted in closed form on kept embeddings before a training begins.

The map of a class is a ridge regression of its mask on what is read at each position; its presence is a logistic
regression on the whole image. Both read images of the sets that mark the class, and of sets that surely show nothing of
it. Two passes over the images give what a training from random weights needs hours for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.class_prompt.readout import ClassReadout, statistics
from ProxyPromptSegmentLib.training.vocabulary.features import KeptImages
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe

MOST_INSIDE = 2000  # positions inside of a class in a batch, above which every second one is read
RIDGE = 3e-3  # beside the mean of the squares
STRANGE = 0.3  # weight of sets that show nothing, beside those that mark the class
STEEPNESS = 12.0  # of the logit beside the fitted share of a position
CUTS = np.array(
    [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7]
)  # shares from which a position may count as inside
MOST_STRANGERS = 400  # images of other kinds for presence
DECAY, ROUNDS = 1e-2, 40  # of the logistic regression
TOGETHER = 16
INSIDE = 0.35  # weight of the positions inside of a class, which are few
STRIDE = 4  # of the positions whose products are summed; neighbours say almost the same


@dataclass(kw_only=True)
class _OfSet:
    """What is known of the images of one set.

    Attributes:
        classes: Numbers of the classes that it marks.
        squares: Mean products of readings with each other, ``(D, D)``.
        products: Mean products of readings with the mask of each of these classes, ``(K, D)``.
        inner: Mean products of readings with each other inside of each class, ``(K, D, D)``.
        means: Mean readings inside of each class, ``(K, D)``.
        shown: Whether each image shows each of these classes, ``(M, K)``.
        statistics: What presence reads of each image for every class, ``(M, N, S)``.
        fits: Dice of the map of each of these classes at each of `CUTS`, by image that shows it.
    """

    classes: tuple[int, ...]
    squares: torch.Tensor
    products: torch.Tensor
    inner: torch.Tensor
    means: torch.Tensor
    shown: torch.Tensor
    statistics: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    fits: dict[int, list[torch.Tensor]] = field(default_factory=dict)


def fit_readout(readout: ClassReadout, kept: Sequence[KeptImages], recipe: VocabularyRecipe) -> None:
    """Fit the readings of all classes of a recipe.

    Args:
        readout: What is filled.
        kept: The embedded images; those that are not changed are read.
        recipe: The settings.
    """
    firsts: dict[str, KeptImages] = {}
    for one in kept:
        firsts.setdefault(one.dataset, one)  # the images themselves come before what is changed
    count = len(recipe.classes)
    with torch.no_grad():
        sets = {name: _summed(readout, one, recipe) for name, one in firsts.items()}
        weights = torch.stack([_map_of(number, sets, recipe) for number in range(count)])
        for name, one in firsts.items():
            _add_fits(readout, sets[name], one, recipe, weights)
        cuts = torch.tensor([_best_cut(number, sets) for number in range(count)])
        maps = STEEPNESS * weights
        maps[:, -1] -= STEEPNESS * cuts
        for name, one in firsts.items():
            found = [_statistics(readout, top, maps) for top, _, _ in _batches(one, recipe)]
            sets[name].statistics = torch.cat(found)
        readout.maps.copy_(maps)
    presence = torch.stack([_presence_of(number, sets, recipe) for number in range(count)])
    with torch.no_grad():
        readout.presence.copy_(presence)


def _batches(kept: KeptImages, recipe: VocabularyRecipe) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield embeddings ``(b, C, g, g)``, valid positions ``(b, P)`` and masks of the set's classes ``(b, K, P)``."""
    objects = [
        [kept.objects.index(name) for name in recipe.classes[number].sets[kept.dataset]]
        for number in recipe.marked(kept.dataset)
    ]
    for start in range(0, len(kept.shown), TOGETHER):
        part = range(start, min(len(kept.shown), start + TOGETHER))
        top = torch.stack([kept.get("top", index) for index in part]).float()
        valid = torch.stack([kept.get("valid", index) for index in part]).flatten(1).float()
        masks = torch.stack([kept.get("masks", index) for index in part]).float() / 255
        small = functional.adaptive_avg_pool2d(masks, top.shape[-1]).flatten(2)
        joined = [small[:, mine].amax(1) for mine in objects]
        yield top, valid, torch.stack(joined, 1) if joined else small[:, :0]


def _summed(readout: ClassReadout, kept: KeptImages, recipe: VocabularyRecipe) -> _OfSet:
    """Sum the products of one set."""
    classes, size = recipe.marked(kept.dataset), readout.maps.shape[1]
    squares, products = torch.zeros(size, size), torch.zeros(len(classes), size)
    inner, means = torch.zeros(len(classes), size, size), torch.zeros(len(classes), size)
    total, inside, shown = 0.0, torch.zeros(len(classes)), []
    for batch, (top, valid, masks) in enumerate(_batches(kept, recipe)):
        read = readout.read(top) * valid.unsqueeze(1)
        some = slice(batch % STRIDE, None, STRIDE)
        flat = read[:, :, some].transpose(0, 1).flatten(1)
        squares += flat @ flat.T
        products += masks[:, :, some].transpose(0, 1).flatten(1) @ flat.T
        total += float(valid[:, some].sum())
        everything = read.transpose(0, 1).flatten(1)
        for place in range(len(classes)):
            mine = everything[:, (masks[:, place] * valid).flatten() > 0.5]
            mine = mine[:, batch % 2 :: 2] if mine.shape[1] > MOST_INSIDE else mine
            inner[place] += mine @ mine.T
            means[place] += mine.sum(1)
            inside[place] += mine.shape[1]
        shown.append(masks.amax(2) > 0.5)
    inside = inside.clamp(min=1)
    return _OfSet(
        classes=classes,
        squares=squares / total,
        products=products / total,
        inner=inner / inside.view(-1, 1, 1),
        means=means / inside.view(-1, 1),
        shown=torch.cat(shown),
    )


def _own(number: int, sets: dict[str, _OfSet]) -> list[tuple[_OfSet, int]]:
    """Return the sets that mark a class, and its place in each."""
    return [(one, one.classes.index(number)) for one in sets.values() if number in one.classes]


def _strangers(number: int, sets: dict[str, _OfSet], recipe: VocabularyRecipe) -> list[_OfSet]:
    return [one for name, one in sets.items() if number in recipe.strangers_of(name)]


def _map_of(number: int, sets: dict[str, _OfSet], recipe: VocabularyRecipe) -> torch.Tensor:
    """Return the weights of a class's map, as a share of each position."""
    own, others = _own(number, sets), _strangers(number, sets, recipe)
    squares = torch.stack([(1 - INSIDE) * one.squares + INSIDE * one.inner[place] for one, place in own]).mean(0)
    product = torch.stack([(1 - INSIDE) * one.products[place] + INSIDE * one.means[place] for one, place in own]).mean(
        0
    )
    if others:
        squares = squares + STRANGE * torch.stack([one.squares for one in others]).mean(0)
    damped = squares + RIDGE * squares.diagonal().mean() * torch.eye(len(squares))
    return torch.linalg.solve(damped, product)


def _add_fits(
    readout: ClassReadout, one: _OfSet, kept: KeptImages, recipe: VocabularyRecipe, weights: torch.Tensor
) -> None:
    """Add the Dice of the maps of a set's own classes at each of `CUTS`."""
    cuts = torch.from_numpy(CUTS).float().view(-1, 1)
    for top, valid, masks in _batches(kept, recipe):
        share = torch.einsum("bdp,kd->bkp", readout.read(top), weights[list(one.classes)]) * valid.unsqueeze(1)
        for image in range(len(top)):
            for place, number in enumerate(one.classes):
                wanted = masks[image, place]
                if wanted.amax() > 0.5:
                    inside = share[image, place] > cuts
                    dice = 2 * (inside * wanted).sum(1) / (inside.sum(1) + wanted.sum())
                    one.fits.setdefault(number, []).append(dice)


def _best_cut(number: int, sets: dict[str, _OfSet]) -> float:
    """Return the share from which a position counts as inside, by the mean Dice over images that show the class."""
    found = [dice for one, _ in _own(number, sets) for dice in one.fits.get(number, [])]
    return float(CUTS[int(torch.stack(found).mean(0).argmax())]) if found else 0.5


def _statistics(readout: ClassReadout, top: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return what presence reads for every class, ``(b, N, S)``."""
    return statistics(top, torch.einsum("bdp,nd->bnp", readout.read(top), maps))


def _presence_of(number: int, sets: dict[str, _OfSet], recipe: VocabularyRecipe) -> torch.Tensor:
    """Return the weights of a class's presence, by a logistic regression in which both answers count alike."""
    own = _own(number, sets)
    read = torch.cat([one.statistics[:, number] for one, _ in own])
    truth = torch.cat([one.shown[:, place] for one, place in own]).float()
    if others := _strangers(number, sets, recipe):
        strange = torch.cat([one.statistics[:, number] for one in others])
        order = np.random.default_rng((recipe.seed, number)).permutation(len(strange))[:MOST_STRANGERS]
        read = torch.cat([read, strange[torch.from_numpy(order)]])
        truth = torch.cat([truth, torch.zeros(len(order))])
    if bool((truth > 0).all()):
        certain = torch.zeros(read.shape[1])
        certain[-1] = 4.0  # nothing is known of images without it
        return certain
    mean, scale = read[:, :-1].mean(0), read[:, :-1].std(0).clamp(min=1e-3)
    normal = torch.cat([(read[:, :-1] - mean) / scale, read[:, -1:]], 1)
    balance = torch.where(truth > 0, 0.5 / truth.sum(), 0.5 / (1 - truth).sum())
    weights = torch.zeros(read.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        each = functional.binary_cross_entropy_with_logits(normal @ weights, truth, reduction="none")
        value = (each * balance).sum() + DECAY * weights[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    fitted = weights.detach()
    return torch.cat([fitted[:-1] / scale, fitted[-1:] - (fitted[:-1] * mean / scale).sum()])
