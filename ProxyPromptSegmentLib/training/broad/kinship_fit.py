"""Kinship fitted on the finished network: which images are of one kind, judged by statistics of their features.

In a step of the broad training a few targets are unrelated to their supports, far too few for a distance between images
to learn from. On the features of the finished network the same distance is fitted in seconds, on every pair of some
thousand training images; everything else stays as it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.proxy_prompt.kinship import Kinship, statistics
from ProxyPromptSegmentLib.training.broad.pools import SIDE, Pool
from ProxyPromptSegmentLib.training.broad.precision import plain_attention
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe
from ProxyPromptSegmentLib.training.broad.step import valid_positions

logger = logging.getLogger(__name__)

IMAGES, TOGETHER = 32, 8  # images of each data set, and how many are embedded at once
STEPS, BATCH, RATE, DECAY = 1500, 256, 1e-2, 1e-2
ALIKE = 0.3  # weight of pairs of different sets that may show the same: other scanners are no strangers
JITTER = 0.05  # noise of the statistics, in their standard deviations


@dataclass(frozen=True, kw_only=True)
class Described:
    """Statistics of training images.

    Attributes:
        values: See `statistics`, ``(M, 2 C)``.
        source: Number of the data set of each, ``(M,)``.
        patients: Number of the patient of each within its set, ``(M,)``.
    """

    values: torch.Tensor
    source: torch.Tensor
    patients: torch.Tensor


def describe(model: ProxyPromptModel, pools: Sequence[Pool], seed: int) -> Described:
    """Embed images of every data set as they are and return their statistics.

    Inverted and discoloured images, which the network learns to match, would make every kind look like any other.

    Args:
        model: The model, in evaluation mode.
        pools: The data sets.
        seed: Seed of the choice of images.
    """
    rng = np.random.default_rng(seed)
    values, source, patients = [], [], []
    for number, pool in enumerate(pools):
        chosen = np.sort(rng.permutation(len(pool.images))[:IMAGES])
        for some in np.array_split(chosen, math.ceil(len(chosen) / TOGETHER)):
            images, content = pool.images[some].float() / 255, pool.content[some]
            scale = SIDE / images.shape[-1]
            if scale != 1:
                images = functional.interpolate(images, (SIDE, SIDE), mode="area")
            place = torch.arange(SIDE, device=images.device)
            rows, columns = (place < (content[:, n, None] * scale) for n in range(2))
            shown = rows[:, :, None] & columns[:, None, :]
            with torch.inference_mode(), plain_attention():
                features = model.backbone.encode(images, valid_positions(shown, model.backbone.grid))
                values.append(statistics(features.top.flatten(2), features.valid.flatten(1)).cpu())
        patients.append(torch.from_numpy(np.asarray(pool.patients)[chosen]))
        source.append(torch.full((len(chosen),), number))
    return Described(values=torch.cat(values).clone(), source=torch.cat(source), patients=torch.cat(patients))


def kin_of(names: list[str], recipe: BroadRecipe) -> torch.Tensor:
    """Return the weight with which pairs of data sets count as kin, ``(S, S)``: 1 for one set, 0 for strangers."""
    return torch.tensor([[1.0 if a == b else ALIKE * recipe.kin(a, b) for b in names] for a in names])


def fit_kinship(kinship: Kinship, described: Described, kin: torch.Tensor, seed: int, steps: int = STEPS) -> float:
    """Fit the distance, near for pairs of one kind and far for others; return the share of pairs classified correctly.

    Args:
        kinship: The module, changed in place.
        described: The training images.
        kin: See `kin_of`.
        seed: Seed of the batches.
        steps: Number of steps.

    Raises:
        UsageError: If all images are of one kind.
    """
    if bool((kin > 0).all()):
        raise UsageError("all data sets are of one kind, so that none can be distinguished.")
    chance = torch.Generator().manual_seed(seed)
    values, source = described.values.float(), described.source
    spread = values.std(0, correction=0) + 1e-6
    # Sets count alike, however many images they have.
    weights = 1.0 / torch.bincount(source, minlength=len(kin))[source].float()
    optimizer = torch.optim.AdamW(kinship.parameters(), RATE, weight_decay=DECAY)
    kinship.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        one, other = (torch.multinomial(weights, BATCH, replacement=True, generator=chance) for _ in range(2))
        loss, _ = _pairs(kinship, values, spread * JITTER, described, kin, one, other, chance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    kinship.eval()
    with torch.no_grad():
        one, other = (torch.multinomial(weights, 4 * BATCH, replacement=True, generator=chance) for _ in range(2))
        _, right = _pairs(kinship, values, spread * 0, described, kin, one, other, chance)
    logger.info("kinship classified %.1f %% of pairs correctly", 100 * right)
    return right


def _pairs(
    kinship: Kinship,
    values: torch.Tensor,
    noise: torch.Tensor,
    described: Described,
    kin: torch.Tensor,
    one: torch.Tensor,
    other: torch.Tensor,
    chance: torch.Generator,
) -> tuple[torch.Tensor, float]:
    """Return the loss of all pairs, kin and strangers alike in weight, and the share classified correctly."""
    jittered = [values[index] + noise * torch.randn(values[index].shape, generator=chance) for index in (one, other)]
    here, there = (kinship.embed(part) for part in jittered)
    logit = kinship.margin - torch.cdist(here, there).square()
    sources, people = described.source, described.patients
    near = kin[sources[one]][:, sources[other]]
    same = (sources[one][:, None] == sources[other]) & (people[one][:, None] == people[other])
    weight = torch.where(near > 0, near, torch.ones_like(near)) * ~same
    wanted = (near > 0).float()
    weight = weight * torch.where(wanted > 0, 1 / (weight * wanted).sum(), 1 / (weight * (1 - wanted)).sum()) / 2
    loss = (functional.binary_cross_entropy_with_logits(logit, wanted, reduction="none") * weight).sum()
    right = ((logit > 0) == (wanted > 0)).float()
    return loss, float((right * weight).sum())
