"""The loss of one step: the proxy prompt alone, the proxy prompt corrected, and SAM's own prompts without it.

The encoder is the dearest part of a step, so that the decoder is asked several times: by the proxy prompt for every
target; by the proxy prompt with correcting clicks or a rough mask for half of them; by clicks or boxes alone, and by
what corrects those, for a quarter; and for a quarter by tokens that are not the target's own, whose answer is nothing.
"""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import ImageFeatures, Prompt
from ProxyPromptSegmentLib.training.broad.episodes import BroadEpisode
from ProxyPromptSegmentLib.training.broad.losses import (
    WEIGHTS,
    full_size,
    mask_loss,
    prior_loss,
    quality_loss,
)
from ProxyPromptSegmentLib.training.broad.manual import (
    INSIDE,
    LOGIT_LIMIT,
    NONE,
    boxes,
    correcting_clicks,
    embed_prompts,
    first_clicks,
    rough_masks,
)
from ProxyPromptSegmentLib.training.losses import gate_by_presence, intersection_over_union

PARTS = ("loss", "mask", "prior", "presence", "quality", "corrected", "manual", "impostor", "iou")
CORRECTED, MANUAL, IMPOSTOR = 0.4, 0.3, 0.3  # weights of the losses beside the proxy prompt's own
EVERY_READING = 0.1  # share of all three readings of a click; the best of them counts in full
NOISE = 0.5  # share of noise among the tokens that are not the target's own
CLICKS = 2  # correcting clicks at most
CLICK, PREVIOUS_MASK, ROUGH_MASK = 0.5, 0.3, 0.3  # shares of corrected targets that get each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switches:
    """Scalars on the device that change between steps of one graph.

    Attributes:
        late: See `mask_loss`.
        dense_dropout: Share of targets without the dense prompt.
        others: Weight of the losses beside the proxy prompt's own.
    """

    late: torch.Tensor
    dense_dropout: torch.Tensor
    others: torch.Tensor


def step_loss(model: ProxyPromptModel, episode: BroadEpisode, switches: Switches) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of an episode and its `PARTS` as one vector without gradient; errors as of `prompted_loss`."""
    valid = valid_positions(episode.content, model.backbone.grid)
    features = dataclasses.replace(model.backbone.encode(episode.images, valid), depth=episode.depth)
    return prompted_loss(model, features, episode, switches)


def prompted_loss(
    model: ProxyPromptModel, features: ImageFeatures, episode: BroadEpisode, switches: Switches, others: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of an episode whose images are embedded; see `step_loss`.

    Args:
        model: The model.
        features: Features of the episode's images, with their position.
        episode: The episode.
        switches: See `Switches`.
        others: Whether the losses beside the proxy prompt's own are computed at all; they count 0 otherwise.

    Raises:
        UsageError: If the model's backbone is not a SAM with a dense proxy prompt.
    """
    backbone, late = model.backbone, switches.late
    if not isinstance(backbone, SamBackbone):
        raise UsageError(f"a broad training is for a SAM backbone; {backbone.name} is none.")
    side = episode.images.shape[-1]
    support = model.generator.prepare(features, episode.images, episode.masks)
    prompt = model.generator.prompt(features, support, episode.chosen)
    if prompt.dense is None or prompt.prior is None or prompt.presence is None:
        raise UsageError("a broad training needs a generator with a dense prompt, a mask prior and a presence.")
    presence, guess = prompt.presence.float(), prompt.prior
    prompt = dataclasses.replace(prompt, dense=_sometimes(backbone, prompt.dense, switches.dense_dropout))
    decoded = backbone.decode(features, prompt)
    truth = episode.truth
    logits = full_size(decoded.logits, side)
    gated = gate_by_presence(logits, presence)
    with torch.autocast(truth.device.type, enabled=False):
        there = truth.amax((-2, -1))
        mask = mask_loss(gated, truth, late).mean()
        prior = prior_loss(guess, truth, episode.related)
        present = functional.binary_cross_entropy_with_logits(presence, there)
        quality = quality_loss(decoded.quality, gated, truth)
    total = mask + WEIGHTS.prior * prior + WEIGHTS.presence * present + WEIGHTS.quality * quality
    corrected = manual = impostor = torch.zeros_like(mask)
    if others:
        corrected = _corrected_loss(backbone, features, prompt, logits.detach(), truth, late)
        manual = _manual_loss(backbone, features, truth, late)
        impostor = _impostor_loss(backbone, features, prompt, episode.foreign, late)
        total = total + switches.others * (CORRECTED * corrected + MANUAL * manual + IMPOSTOR * impostor)
    iou = (intersection_over_union(gated, truth) * there).sum() / there.sum().clamp(min=1)
    parts = torch.stack([total, mask, prior, present, quality, corrected, manual, impostor, iou]).detach()
    return total, parts


def valid_positions(content: torch.Tensor, grid: int) -> torch.Tensor:
    """Return the positions of a grid, bool ``(B, g, g)``, that show any of the pixels ``(B, s, s)`` of an image."""
    return functional.max_pool2d(content.float().unsqueeze(1), content.shape[-1] // grid)[:, 0] > 0


def _sometimes(backbone: SamBackbone, dense: torch.Tensor, dropout: torch.Tensor) -> torch.Tensor:
    """Replace the dense prompt ``(B, N, C, g, g)`` of some targets by SAM's embedding of no mask."""
    none = backbone.sam.prompt_encoder.no_mask_embed.weight.view(1, 1, -1, 1, 1)
    dropped = torch.rand(dense.shape[:2], device=dense.device) < dropout
    return torch.where(dropped[..., None, None, None], none.to(dense.dtype), dense)


def _some(prompt: Prompt, index: slice) -> Prompt:
    """Select some targets of a prompt."""
    return dataclasses.replace(
        prompt,
        sparse=None if prompt.sparse is None else prompt.sparse[index],
        dense=None if prompt.dense is None else prompt.dense[index],
        presence=None if prompt.presence is None else prompt.presence[index],
        prior=None,
    )


def _corrected_loss(
    backbone: SamBackbone,
    features: ImageFeatures,
    prompt: Prompt,
    logits: torch.Tensor,
    truth: torch.Tensor,
    late: torch.Tensor,
) -> torch.Tensor:
    """Return the loss of every second target after clicks and masks that correct its prediction."""
    index = slice(0, None, 2)
    mine, wanted, before = _some(prompt, index), truth[index], logits[index]
    count, objects, side = wanted.shape[:3]
    flat_truth, flat_before = wanted.flatten(0, 1), before.flatten(0, 1)
    points, labels = correcting_clicks(flat_before, flat_truth, CLICKS)
    draw = torch.rand(count * objects, 4, device=truth.device)
    clicked = torch.stack([draw[:, 0] < CLICK, draw[:, 1] < CLICK / 2], 1)
    labels = torch.where(clicked, labels, NONE)
    tokens = embed_prompts(backbone.sam.prompt_encoder, points, labels).unflatten(0, (count, objects))
    small = 4 * backbone.grid
    previous = functional.interpolate(before, size=(small, small), mode="bilinear", align_corners=False)
    rough = rough_masks(flat_truth, small)
    kind = draw[:, 2].view(-1, 1, 1)
    masks = torch.where(kind < PREVIOUS_MASK, previous.flatten(0, 1).clamp(-LOGIT_LIMIT, LOGIT_LIMIT), rough)
    embedded = backbone.sam.prompt_encoder.mask_downscaling(masks.unsqueeze(1))
    given = (kind < PREVIOUS_MASK + ROUGH_MASK).unsqueeze(1)
    dense = mine.dense.flatten(0, 1) + embedded * given  # type: ignore[union-attr]
    asked = dataclasses.replace(mine.with_points(tokens), dense=dense.unflatten(0, (count, objects)))
    decoded = backbone.decode(features.select(index), asked)
    after = full_size(decoded.logits, side)
    # A click inside says that the object is there, whatever the presence.
    said = ((labels == INSIDE).any(1) & (flat_truth.amax((1, 2)) > 0.5)).unflatten(0, (count, objects))
    presence = torch.where(said, torch.full_like(mine.presence.float(), 8.0), mine.presence.float())  # type: ignore
    gated = gate_by_presence(after, presence)
    with torch.autocast(truth.device.type, enabled=False):
        return mask_loss(gated, wanted, late).mean() + WEIGHTS.quality * quality_loss(decoded.quality, gated, wanted)


def _manual_loss(
    backbone: SamBackbone, features: ImageFeatures, truth: torch.Tensor, late: torch.Tensor
) -> torch.Tensor:
    """Return the loss of every fourth target with SAM's own prompts: a click or a box, then what corrects it."""
    index = slice(1, None, 4)
    wanted, chosen = truth[index], features.select(index)
    count, objects, side = wanted.shape[:3]
    flat = wanted.flatten(0, 1)
    encoder, small = backbone.sam.prompt_encoder, 4 * backbone.grid
    draw = torch.rand(count * objects, 4, device=truth.device)
    click, click_label = first_clicks(flat)
    corners, corner_labels = boxes(flat)
    boxed = (draw[:, :1] < 0.45) | (draw[:, :1] > 0.9)  # a tenth has a box and a click
    clicked = draw[:, :1] >= 0.45
    points = torch.cat([click, corners], 1)
    labels = torch.cat([torch.where(clicked, click_label, NONE), torch.where(boxed, corner_labels, NONE)], 1)
    tokens = embed_prompts(encoder, points, labels).unflatten(0, (count, objects))
    none = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    rough = encoder.mask_downscaling(rough_masks(flat, small).unsqueeze(1))
    dense = torch.where((draw[:, 1] < 0.2).view(-1, 1, 1, 1), rough, none.to(rough.dtype))
    first = Prompt(sparse=tokens, dense=dense.unflatten(0, (count, objects)))
    logits, quality = backbone.decode_masks(chosen, first)
    all_logits = full_size(logits.flatten(1, 2), side).unflatten(1, (objects, 4))
    repeated = wanted.unsqueeze(2).expand_as(all_logits)
    weight = (wanted.amax((-2, -1)) > 0.5).float()
    with torch.autocast(truth.device.type, enabled=False):
        each = mask_loss(all_logits.flatten(1, 2), repeated.flatten(1, 2), late).unflatten(1, (objects, 4))
        # The best reading alone would leave one that is never the best without a gradient for ever.
        best = each[..., 1:].amin(-1) + EVERY_READING * each[..., 1:].mean(-1)
        shown = weight.sum().clamp(min=1)
        loss = ((each[..., 0] + best) * weight).sum() / shown
        loss = loss + WEIGHTS.quality * quality_loss(quality, all_logits, repeated)
    before = all_logits[:, :, 0].detach()
    more, more_labels = correcting_clicks(before.flatten(0, 1), flat, CLICKS)
    only_one = (draw[:, 2:3] >= 0.6) & (torch.arange(CLICKS, device=truth.device) > 0)
    more_labels = torch.where(only_one, NONE, more_labels)
    again = torch.cat([tokens, embed_prompts(encoder, more, more_labels).unflatten(0, (count, objects))], 2)
    previous = functional.interpolate(before, size=(small, small), mode="bilinear", align_corners=False)
    kept = encoder.mask_downscaling(previous.flatten(0, 1).clamp(-LOGIT_LIMIT, LOGIT_LIMIT).unsqueeze(1))
    dense = torch.where((draw[:, 3] < 0.7).view(-1, 1, 1, 1), kept, none.to(kept.dtype))
    second = backbone.decode(chosen, Prompt(sparse=again, dense=dense.unflatten(0, (count, objects))))
    after = full_size(second.logits, side)
    with torch.autocast(truth.device.type, enabled=False):
        corrected = (mask_loss(after, wanted, late) * weight).sum() / shown
        return loss / 2 + corrected + WEIGHTS.quality * quality_loss(second.quality, after, wanted)


def _impostor_loss(
    backbone: SamBackbone, features: ImageFeatures, prompt: Prompt, foreign: torch.Tensor, late: torch.Tensor
) -> torch.Tensor:
    """Return the loss of every fourth target with sparse tokens that are not its own, and no dense prompt.

    Half are noise of the same norm, half were made for an image of another kind. Nothing is to be drawn: otherwise the
    decoder learns to draw what is conspicuous whatever the tokens say, and they carry no task.
    """
    assert prompt.sparse is not None
    index = slice(2, None, 4)
    own, chosen = prompt.sparse[index].float(), features.select(index)
    others = prompt.sparse[foreign.clamp(min=0)][index].float()
    noise = torch.randn_like(own)
    noise = noise * (own.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)).detach()
    drawn = (torch.rand(own.shape[:2], device=own.device) < NOISE) | (foreign[index] < 0).unsqueeze(1)
    tokens = torch.where(drawn[..., None, None], noise, others).to(prompt.sparse.dtype)
    decoded = backbone.decode(chosen, Prompt(sparse=tokens))
    logits = full_size(decoded.logits, 4 * backbone.grid)
    with torch.autocast(logits.device.type, enabled=False):
        return mask_loss(logits, torch.zeros_like(logits), late).mean()
