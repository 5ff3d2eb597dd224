"""The loss of an episode of single images, computed as in use: padding is not read, and positions are known."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch

from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedSupport
from ProxyPromptSegmentLib.training.augment import valid_positions
from ProxyPromptSegmentLib.training.clips import click_tokens
from ProxyPromptSegmentLib.training.episodes import Episode
from ProxyPromptSegmentLib.training.losses import prediction_loss
from ProxyPromptSegmentLib.training.recipe import ComputingRecipe, Recipe
from ProxyPromptSegmentLib.training.recomputing import again, encoder_blocks, recomputed

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def half_precision(computing: ComputingRecipe, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of a recipe; the weights keep their type."""
    kind = HALF.get(computing.precision)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def episode_loss(
    model: ProxyPromptModel, episode: Episode, recipe: Recipe, step: int = 0, number: int | None = None
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of one episode and its parts.

    Every image is encoded once; unless targets and supports are apart, it is a target, and a support of the targets
    that chose it.

    Args:
        model: The model.
        episode: The images.
        recipe: The settings.
        step: Step number, for the parts of the loss that start later.
        number: Number of the episode, for random choices; by default that of the step.
    """
    count = len(episode.truth)
    rng = np.random.default_rng((recipe.seed, step if number is None else number, 1))
    with half_precision(recipe.computing, episode.images.device):
        features, support = encoded(model, episode, recipe.computing)
        prompt = model.generator.prompt(features, support, episode.chosen - count if episode.apart else episode.chosen)
        if rng.random() < recipe.prompts.dense_dropout:
            prompt = dataclasses.replace(prompt, dense=None)
        if rng.random() < recipe.prompts.clicks:
            prompt = prompt.with_points(click_tokens(model, episode.truth, rng))
        decoded = model.backbone.decode(features, prompt)
    content = None if episode.content is None else episode.content[:count]
    return prediction_loss(decoded, prompt, episode.truth, episode.related, recipe.losses, step, content)


def encoded(
    model: ProxyPromptModel, episode: Episode, computing: ComputingRecipe
) -> tuple[ImageFeatures, PreparedSupport]:
    """Encode the targets of an episode and prepare its supports.

    Args:
        model: The model.
        episode: The images.
        computing: What is kept for the backward pass, and what has no gradient.
    """
    count, everything = len(episode.truth), slice(None)
    with recomputed(encoder_blocks(model.backbone)) if computing.recompute else nullcontext():
        if not episode.apart:
            features = features_of(model, episode, everything)
            return features, prepared(model, features, episode, everything, computing)
        features = features_of(model, episode, slice(0, count))
        if not computing.frozen_supports:
            seen = features_of(model, episode, slice(count, None))
        else:  # one at a time, since nothing of them is kept
            with torch.no_grad():
                seen = ImageFeatures.concatenate(
                    [features_of(model, episode, slice(n, n + 1)) for n in range(count, len(episode.images))]
                )
    return features, prepared(model, seen, episode, slice(count, None), computing)


def features_of(model: ProxyPromptModel, episode: Episode, part: slice) -> ImageFeatures:
    """Embed some images of an episode, with what is padding and where they lie along their volumes."""
    content = None if episode.content is None else episode.content[part]
    valid = None if content is None else valid_positions(content, model.backbone.grid)
    features = model.backbone.encode(episode.images[part], valid)
    return dataclasses.replace(features, depth=None if episode.depth is None else episode.depth[part])


def prepared(
    model: ProxyPromptModel, features: ImageFeatures, episode: Episode, part: slice, computing: ComputingRecipe
) -> PreparedSupport:
    """Prepare supports that are embedded: all together, or one by one where their activations are not kept."""
    images, masks = episode.images[part], episode.masks[part]
    learning = computing.learning_supports or len(images)
    if not computing.recompute and learning >= len(images):
        return model.generator.prepare(features, images, masks)

    def some(number: int) -> PreparedSupport:
        one = slice(number, number + 1)
        return model.generator.prepare(features.select(one), images[one], masks[one])

    parts = []
    for number in range(len(images)):
        if number < learning:
            parts.append(again(partial(some, number)) if computing.recompute else some(number))
        else:
            with torch.no_grad():
                parts.append(some(number))
    return PreparedSupport.concatenate(parts)
