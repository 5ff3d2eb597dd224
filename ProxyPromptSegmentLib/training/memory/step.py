"""The loss of one step on clips: frame by frame, each with the memory of the frames before it.

The image encoder is frozen: features have no gradient. A frame's memory is made of its own prediction, which is
detached; the memory encoder and the object pointer learn through the frames that read them.
"""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, ImageFeatures, PreparedSupport, Prompt
from ProxyPromptSegmentLib.training.broad.losses import WEIGHTS, full_size, mask_loss, prior_loss, quality_loss
from ProxyPromptSegmentLib.training.broad.manual import NONE, embed_prompts, first_clicks
from ProxyPromptSegmentLib.training.broad.step import Switches
from ProxyPromptSegmentLib.training.losses import gate_by_presence, intersection_over_union
from ProxyPromptSegmentLib.training.memory.episodes import ALONE, PROMPTED, ClipEpisode

PARTS = ("loss", "mask", "prior", "presence", "quality", "iou", "first", "last")


def clip_loss(
    model: ProxyPromptModel, episode: ClipEpisode, switches: Switches, clicks: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of an episode and its `PARTS` as one vector without gradient.

    Args:
        model: The model in training.
        episode: The clips.
        switches: What changes between steps.
        clicks: Share of tracks and frames with a click.

    Raises:
        UsageError: If the model's backbone is no SAM 2.
    """
    backbone = model.backbone
    if not isinstance(backbone, Sam2Backbone):
        raise UsageError(f"clips are followed with a memory, which {backbone.name} does not have; choose a SAM 2.")
    batch, time, objects = episode.truth.shape[:3]
    features, support = _embedded(model, backbone, episode)
    tracks = (batch, objects)
    without_dense = torch.rand(tracks, device=episode.truth.device) < switches.dense_dropout
    bank: list[FrameMemory] = []
    numbers, losses = [], []
    for number in range(time):
        now = features.select(torch.arange(number, batch * time, time, device=episode.truth.device))
        truth = episode.truth[:, number]
        if number == 0 and episode.begin != PROMPTED:
            bank.append(backbone.remember_mask(now, truth, 0))
            continue
        prompt = Prompt() if episode.begin == ALONE else model.generator.prompt(now, support, episode.chosen)
        guess = prompt.prior
        prompt = _varied(backbone, prompt, truth, without_dense, clicks)
        decoded = backbone.decode(now, prompt, bank, number + 1)
        loss, parts = _frame_loss(decoded, guess, truth, episode.related, switches.late)
        losses.append(loss)
        numbers.append(parts)
        if number + 1 < time:
            bank.append(backbone.remember(now, _seen(decoded), number + 1))
    total = torch.stack(losses).mean()
    every = torch.stack(numbers)
    mean = every.mean(0)
    return total, torch.cat([total.detach().view(1), mean, every[0, -1:], every[-1, -1:]])


def _embedded(
    model: ProxyPromptModel, backbone: Sam2Backbone, episode: ClipEpisode
) -> tuple[ImageFeatures, PreparedSupport]:
    """Return the features of all frames ``B * T`` without gradient, and the prepared supports."""
    count = episode.frames.shape[0] * episode.frames.shape[1]
    content = torch.cat([episode.content.flatten(0, 1), episode.support_content])
    valid = functional.max_pool2d(content.float().unsqueeze(1), content.shape[-1] // backbone.grid)[:, 0] > 0
    depth = torch.cat([episode.depth.flatten(), episode.support_depth])
    with torch.no_grad():
        everything = backbone.encode(torch.cat([episode.frames.flatten(0, 1), episode.images]), valid)
    everything = dataclasses.replace(everything, depth=depth)
    support = model.generator.prepare(everything.select(slice(count, None)), episode.images, episode.masks)
    return everything.select(slice(0, count)), support


def _varied(
    backbone: Sam2Backbone, prompt: Prompt, truth: torch.Tensor, without_dense: torch.Tensor, clicks: float
) -> Prompt:
    """Remove the dense prompt of some tracks, and click on some objects."""
    encoder = backbone.sam2.sam_prompt_encoder
    if prompt.dense is not None:
        none = encoder.no_mask_embed.weight.view(1, 1, -1, 1, 1).to(prompt.dense.dtype)
        prompt = dataclasses.replace(
            prompt, dense=torch.where(without_dense[..., None, None, None], none, prompt.dense)
        )
    points, labels = first_clicks(truth.flatten(0, 1))
    some = torch.rand(len(labels), 1, device=labels.device) < clicks
    # A second point that is none, as the package pads points without a box.
    points, labels = (
        points.expand(-1, 2, -1),
        torch.cat([torch.where(some, labels, NONE), torch.full_like(labels, NONE)], 1),
    )
    return prompt.with_points(embed_prompts(encoder, points, labels).unflatten(0, truth.shape[:2]))


def _frame_loss(
    decoded: Decoded, guess: torch.Tensor | None, truth: torch.Tensor, related: torch.Tensor, late: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of one frame, and mask, prior, presence, quality and IoU as one vector."""
    assert decoded.presence is not None
    presence = decoded.presence.float()
    gated = gate_by_presence(full_size(decoded.logits, truth.shape[-1]), presence)
    with torch.autocast(truth.device.type, enabled=False):
        there = truth.amax((-2, -1))
        mask = mask_loss(gated, truth, late).mean()
        prior = mask.new_zeros(()) if guess is None else prior_loss(guess, truth, related)
        present = functional.binary_cross_entropy_with_logits(presence, there)
        quality = quality_loss(decoded.quality, gated, truth)
    total = mask + WEIGHTS.prior * prior + WEIGHTS.presence * present + WEIGHTS.quality * quality
    iou = (intersection_over_union(gated, truth) * there).sum() / there.sum().clamp(min=1)
    return total, torch.stack([mask, prior, present, quality, iou]).detach()


def _seen(decoded: Decoded) -> Decoded:
    """Return the input of the memory, detached except for the pointer, whose projection must be trained."""
    return dataclasses.replace(decoded.detach(), pointer=decoded.pointer)
