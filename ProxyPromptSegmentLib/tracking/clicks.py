"""Correction of a tracked frame by hand: clicks, boxes and masks, which are remembered for later frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ProxyPromptSegmentLib.inference.by_hand.decode import corrected
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt
from ProxyPromptSegmentLib.inference.results import THRESHOLD, SlicePrediction
from ProxyPromptSegmentLib.inference.slice_encoder import SliceEncoder
from ProxyPromptSegmentLib.networks.letterbox import masks_to_tensor
from ProxyPromptSegmentLib.networks.protocols import MemoryBackbone
from ProxyPromptSegmentLib.networks.values import FrameMemory, Prompt
from ProxyPromptSegmentLib.tracking.memory_bank import track_of
from ProxyPromptSegmentLib.tracking.state import FramePrediction, Present, answer_of, unchecked


def clicked(
    backbone: MemoryBackbone,
    present: Present,
    prompt: Prompt,
    known: Sequence[FrameMemory],
    where: np.ndarray,
    labels: Sequence[int],
) -> tuple[FramePrediction, FrameMemory]:
    """Decode one object of a frame again, with clicks.

    Args:
        backbone: A backbone with a memory.
        present: The frame.
        prompt: The proxy prompt of this object.
        known: The memories of this object.
        where: Clicks ``(x, y)`` in pixels of the network's square, ``(P, 2)``.
        labels: For each click 1 inside or 0 outside of the object.

    Returns:
        The new prediction of the object, and its memory as that of a given mask.
    """
    encoded = present.encoded
    device = encoded.features.top.device
    tokens = backbone.prompt_points(
        torch.from_numpy(where).to(device).unsqueeze(0),
        torch.tensor(list(labels), dtype=torch.int32, device=device).unsqueeze(0),
    ).unsqueeze(1)
    joined = prompt.with_points(tokens)
    decoded = backbone.decode(encoded.features, joined, known, present.frame)
    memory = replace(backbone.remember(encoded.features, decoded, present.frame), conditioning=True)
    # The calibration knows proxy prompts alone, so that presence and quality are the network's own after a click.
    probability, judged = answer_of(decoded, joined, encoded, None, None)
    answer = unchecked(present.prediction.index, probability, judged.presence[0], judged.quality[0], judged.evidence[0])
    return answer, memory


def masks_of(prediction: SlicePrediction) -> np.ndarray:
    """Return the masks of a prediction at the usual threshold, uint8 ``(N, H, W)``."""
    return (prediction.probability * prediction.presence[:, None, None] > THRESHOLD).astype(np.uint8)


def corrected_by_hand(
    encoder: SliceEncoder,
    backbone: MemoryBackbone,
    present: Present,
    said: Mapping[int, HandPrompt],
    prompt: Prompt | None,
    anew: bool = False,
) -> tuple[list[int], FramePrediction, list[FrameMemory]]:
    """Decode some objects of a frame again as a slice that stands alone; what its memories say is in the mask so far.

    Args:
        encoder: The model.
        backbone: Its backbone, with a memory.
        present: The frame.
        said: What the user says, by number of the object.
        prompt: The proxy prompt of all objects; None for SAM 2 alone.
        anew: Whether the mask so far does not count.

    Returns:
        Numbers of the objects, their new prediction, and the memories of their masks as given ones.
    """
    encoded, before = present.encoded, present.prediction
    prediction = SlicePrediction(
        index=before.index,
        probability=np.zeros_like(before.probability) if anew else before.probability,
        presence=before.presence,
        quality=before.quality,
        evidence=before.evidence,
    )
    new, tracks = corrected(encoder, encoded, said, prediction, prompt), sorted(said)
    masks = masks_to_tensor(masks_of(new)[None, tracks], encoded.box).to(encoded.features.top.device)
    memory = backbone.remember_mask(encoded.features, masks, present.frame)
    answer = unchecked(
        before.index, new.probability[tracks], new.presence[tracks], new.quality[tracks], new.evidence[tracks]
    )
    return tracks, answer, [track_of(memory, position) for position in range(len(tracks))]
