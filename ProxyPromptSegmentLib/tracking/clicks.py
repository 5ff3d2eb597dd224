"""Correction of a tracked frame by clicks, which are joined to its proxy prompt and decoded again.

Only `Tracker.correct` calls it, which neither a command nor the panel offers yet; both are the basis for correcting
frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ProxyPromptSegmentLib.networks.protocols import FrameMemory, MemoryBackbone, Prompt
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
