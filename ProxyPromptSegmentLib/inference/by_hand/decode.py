"""How a slice is decoded with clicks, boxes and masks: SAM's own prompts, alone or beside a generator's prompt.

The clicks on an object are decoded one after the other, each with the mask so far as SAM's mask prompt, as SAM is used
interactively; of what a correcting click changes, that which lies at the click is taken, see `local`. The answer
depends on what was said alone, not on when: the same clicks give the same mask from command line, script or Slicer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ProxyPromptSegmentLib.inference.by_hand.local import changed_at
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE
from ProxyPromptSegmentLib.inference.helps import mask_logits
from ProxyPromptSegmentLib.inference.results import THRESHOLD, SegmentResult, SlicePrediction
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices, SliceEncoder
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, logits_to_slice, points_to_square
from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES
from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.networks.values import ImageFeatures, Prompt

COMPACT_LIMIT = 8.0
"""Largest logit of a mask prompt of the compact models, as in their training."""
LIMIT = 32.0
"""The same of official weights, as in sam2's image predictor."""

READINGS = (1, 2, 3)
"""The decoder's three readings of a single click: whole, part and subpart."""


@dataclass(frozen=True, kw_only=True)
class HandAnswer:
    """What the decoder draws for one object.

    Attributes:
        logits: float ``(4g, 4g)`` over the whole square.
        quality: Its estimate of the intersection over union.
    """

    logits: torch.Tensor
    quality: float


def decoded_by_hand(
    backbone: Backbone,
    features: ImageFeatures,
    box: Letterbox,
    said: HandPrompt,
    base: Prompt | None = None,
    before: torch.Tensor | None = None,
    known: list[HandAnswer] | None = None,
) -> HandAnswer:
    """Decode one object on one slice.

    Args:
        backbone: SAM or SAM 2.
        features: The embedded slice.
        box: Its position in the network's square.
        said: What the user says; at least a click, a box or a mask.
        base: A generator's prompt of this object, which is corrected; None for SAM's own prompts alone.
        before: Logits of the mask that is corrected, ``(4g, 4g)``; None if there is none.
        known: Answers to the first clicks of the same object, which are not decoded again; the new ones are added.
    """
    mask = said.mask
    if mask is not None:
        if base is None and said.box is None and not said.points:
            said = replace(said, box=said.extent)  # no SAM was trained on a mask alone
        drawn = mask_logits(mask[None, None].astype(np.float32), box, 4 * backbone.grid)
        before = drawn[0, 0].to(features.top.device)
    answers = [] if known is None else known
    first = min(1, len(said.points))
    # A box or a mask asks for a new drawing; a click on what is drawn already corrects it.
    corrects = said.box is None and mask is None
    for count in range(first + len(answers), len(said.points) + 1):
        so_far = answers[-1].logits if answers else before
        answer = _once(backbone, features, box, replace(said, points=said.points[:count]), base, so_far)
        if so_far is not None and count and (answers or corrects):
            answer = replace(answer, logits=changed_at(so_far, answer.logits, said.points[count - 1], box))
        answers.append(answer)
    return answers[len(said.points) - first]


def _once(
    backbone: Backbone,
    features: ImageFeatures,
    box: Letterbox,
    said: HandPrompt,
    base: Prompt | None,
    before: torch.Tensor | None,
) -> HandAnswer:
    """Decode all that was said at once, with the mask so far."""
    prompt = (Prompt() if base is None else base).with_points(tokens_of(backbone, said, box, features.top))
    if before is not None:
        limit = COMPACT_LIMIT if backbone.name in COMPACT_NAMES else LIMIT
        prompt = replace(prompt, mask=before.clamp(-limit, limit)[None, None])
    open_to_reading = base is None and before is None and said.box is None and len(said.points) == 1
    logits, quality = backbone.decode_masks(features, prompt, READINGS if open_to_reading else (0,))
    best = int(quality[0, 0].argmax())
    return HandAnswer(logits=logits[0, 0, best].float(), quality=float(quality[0, 0, best]))


def tokens_of(backbone: Backbone, said: HandPrompt, box: Letterbox, like: torch.Tensor) -> torch.Tensor:
    """Return SAM's tokens of clicks and box, ``(1, 1, t, C)``, with the type and device of ``like``."""
    points = labels = corners = None
    if said.points:
        places = np.array([(point.column, point.row) for point in said.points], np.float64)
        points = torch.from_numpy(points_to_square(places, box)).to(like.device)[None]
        labels = torch.tensor([[int(point.inside) for point in said.points]], dtype=torch.int32, device=like.device)
    if said.box is not None:
        ends = np.array([(said.box.left, said.box.top), (said.box.right, said.box.bottom)], np.float64)
        corners = torch.from_numpy(points_to_square(ends, box)).to(like.device).reshape(1, 4)
    if points is None and corners is None:
        return like.new_zeros(1, 1, 0, backbone.channels)
    return backbone.prompt_points(points, labels, corners).unsqueeze(1)


def corrected(
    encoder: SliceEncoder,
    encoded: EncodedSlices,
    said: Mapping[int, HandPrompt],
    prediction: SlicePrediction,
    prompt: Prompt | None = None,
    known: Mapping[int, list[HandAnswer]] | None = None,
) -> SlicePrediction:
    """Return the prediction of a slice after what a user says of some of its objects; the others stay as they are.

    Args:
        encoder: The model.
        encoded: The embedded slice.
        said: What the user says, by number of the object.
        prediction: The prediction so far; `nothing_yet` where there is none.
        prompt: The generator's prompt for this slice and all objects; None for SAM's own prompts alone.
        known: Answers to the first clicks on each object, see `decoded_by_hand`; of the same slice, model and start.
    """
    backbone, features, box = encoder.model.backbone, encoded.features, encoded.box
    probability, presence, quality = (
        prediction.probability.copy(),
        prediction.presence.copy(),
        prediction.quality.copy(),
    )
    evidence, drawn = prediction.evidence.copy(), probability * presence[:, None, None]
    with torch.inference_mode(), encoder.precision():
        for number, hand in said.items():
            base = before = None
            # Where nothing is drawn there is nothing to correct, and the generator's prompt says that there is nothing.
            if (drawn[number] > THRESHOLD).any():
                base = None if prompt is None else prompt.of_object(number)
                so_far = mask_logits(prediction.probability[None, [number]], box, 4 * backbone.grid)
                before = so_far[0, 0].to(encoder.device)
            answer = decoded_by_hand(backbone, features, box, hand, base, before, (known or {}).get(number))
            redrawn = torch.sigmoid(logits_to_slice(answer.logits, box)).cpu().numpy()
            if before is not None:  # what a click leaves as it is keeps the detail that the decoder's grid has not
                touched = logits_to_slice((answer.logits != before).float(), box).cpu().numpy() > 0
                redrawn = np.where(touched, redrawn, probability[number])
            probability[number] = redrawn
            if hand.says_there:
                presence[number] = 1.0
            # The calibration knows prompts of generators alone, so that the estimate is the network's own.
            quality[number] = min(1.0, max(0.0, answer.quality)) * presence[number]
            evidence[number : number + 1] = np.nan
    return replace(prediction, probability=probability, presence=presence, quality=quality, evidence=evidence)


def nothing_yet(index: int, objects: int, shape: tuple[int, int]) -> SlicePrediction:
    """Return a prediction that shows nothing, of ``objects`` on a slice of ``shape``."""
    nothing: npt.NDArray[np.float32] = np.zeros(objects, np.float32)
    return SlicePrediction(
        index=index,
        probability=np.zeros((objects, *shape), np.float32),
        presence=nothing,
        quality=nothing.copy(),
        evidence=np.full((objects, len(EVIDENCE)), np.nan, np.float32),
    )


def prediction_of(result: SegmentResult, index: int) -> SlicePrediction:
    """Return a slice of a result as the prediction that it was made of."""
    evidence = np.full((len(result.objects), len(EVIDENCE)), np.nan, np.float32)
    return SlicePrediction(
        index=index,
        probability=result.probability[index],
        presence=result.presence[index],
        quality=result.quality[index],
        evidence=evidence if result.evidence is None else result.evidence[index],
    )


def enter_by_hand(result: SegmentResult, prediction: SlicePrediction, said: Mapping[int, HandPrompt]) -> None:
    """Write a corrected slice into a result, and record which of its objects were prompted by hand."""
    index = prediction.index
    result.probability[index] = prediction.probability
    result.presence[index], result.quality[index] = prediction.presence, prediction.quality
    if result.evidence is not None:
        result.evidence[index] = prediction.evidence
    result.done[index] = True
    if result.by_hand is None:
        result.by_hand = np.zeros((len(result.done), len(result.objects)), bool)
    result.by_hand[index, list(said)] = True
