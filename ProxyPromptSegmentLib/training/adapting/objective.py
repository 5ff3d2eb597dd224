"""The loss of a step: that of a broad training on a compact SAM, and on official weights the prompt generator's own."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import PreparedSupport, presence_of
from ProxyPromptSegmentLib.training.adapting.episodes import Drawn
from ProxyPromptSegmentLib.training.adapting.weights import is_official
from ProxyPromptSegmentLib.training.broad.losses import WEIGHTS, full_size, mask_loss, prior_loss, quality_loss
from ProxyPromptSegmentLib.training.broad.step import Switches, prompted_loss
from ProxyPromptSegmentLib.training.losses import gate_by_presence
from ProxyPromptSegmentLib.training.recomputing import again

LEARNING = 2
"""Supports of a step through which the contextual encoder and the Bridge Unit are trained: with activations of all,
which are computed twice so that they need not be kept, a step on two cores takes minutes."""


def adapting_loss(model: ProxyPromptModel, drawn: Drawn, switches: Switches, others: bool) -> torch.Tensor:
    """Return the loss of a step.

    Args:
        model: The model.
        drawn: The data.
        switches: See `Switches`.
        others: Whether SAM's own prompts, corrections and foreign tokens are trained as well; not on official weights,
            which read clicks and boxes as they always did.
    """
    if not is_official(model):
        return prompted_loss(model, drawn.features, drawn.episode, switches, others)[0]
    truth = drawn.episode.truth
    prompt = model.generator.prompt(drawn.features, _supports(model, drawn), drawn.episode.chosen)
    decoded = model.backbone.decode(drawn.features, prompt)
    logits, presence = full_size(decoded.logits, truth.shape[-1]), presence_of(decoded, prompt)
    if presence is not None:
        logits = gate_by_presence(logits, presence)
    loss = mask_loss(logits, truth, switches.late).mean() + WEIGHTS.quality * quality_loss(
        decoded.quality, logits, truth
    )
    if presence is not None:
        there = truth.amax((-2, -1))
        loss = loss + WEIGHTS.presence * functional.binary_cross_entropy_with_logits(presence.float(), there)
    if prompt.prior is not None:
        loss = loss + WEIGHTS.prior * prior_loss(prompt.prior, truth, drawn.episode.related)
    return loss


def _supports(model: ProxyPromptModel, drawn: Drawn) -> PreparedSupport:
    """Prepare the supports one by one: the first ones, which were drawn by chance, with a gradient."""
    images, masks = drawn.episode.images, drawn.episode.masks

    def one(number: int) -> PreparedSupport:
        part = slice(number, number + 1)
        return model.generator.prepare(drawn.features.select(part), images[part], masks[part])

    parts = [again(partial(one, number)) for number in range(min(LEARNING, len(images)))]
    with torch.no_grad():
        parts += [one(number) for number in range(len(parts), len(images))]
    return PreparedSupport.concatenate(parts)
