"""Agreement of the proxy prompt alone and the prediction with memory, by which a tracker checks itself.

A memory can drift and then confirms itself from frame to frame. The proxy prompt does not depend on earlier frames, so
where the two disagree, one of them is wrong, and the frame should be reviewed. The prior, the supports' masks through
the Selective Map, is a free first test; a second decoding without memories then decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, ImageFeatures, Prompt, presence_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank

# Provisional, as `choices.DISAGREEMENT`.
STRONG_DISAGREEMENT = 0.25  # Dice below which the memory is dropped, if the proxy prompt alone is confident
CONFIDENT = 0.7  # presence times estimated IoU
CHECK_EVERY = 8  # frames between checks without a prior, or after a false alarm of the prior
EXACT = "exact"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The result of the comparison on one frame.

    Attributes:
        values: Agreement of each object, 0..1, ``(N,)``; NaN if not checked.
        disagrees: Whether proxy prompt and memory disagree, bool ``(N,)``.
        reanchored: Whether the memory is to be dropped, bool ``(N,)``.
        decoded: The prediction; for reanchored objects, that of the proxy prompt alone.
        asked_from: Number of the frame from which each object's prior is tested again, after a false alarm.
    """

    values: np.ndarray
    disagrees: np.ndarray
    reanchored: np.ndarray
    decoded: Decoded
    asked_from: tuple[int, ...]

    @staticmethod
    def unchecked(decoded: Decoded, asked_from: tuple[int, ...]) -> Agreement:
        """Return the result of a frame on which nothing was compared."""
        none = np.zeros(decoded.logits.shape[1], bool)
        return Agreement(
            values=np.full(len(none), np.nan, np.float32),
            disagrees=none,
            reanchored=none.copy(),
            decoded=decoded,
            asked_from=asked_from,
        )


class AgreementCheck:
    """A comparison of proxy prompt and memory, which also decides whether to drop the memory; stateless."""

    def __init__(self, how: bool | str, threshold: float, reanchor: bool) -> None:
        """Configure the check.

        Args:
            how: False never checks, True tests the prior first, ``exact`` decodes every frame twice.
            threshold: Dice below which the two disagree.
            reanchor: Whether a memory may be dropped at all.
        """
        self.how, self.threshold, self.reanchor = how, threshold, reanchor

    def __call__(
        self,
        decode: Callable[[ImageFeatures, Prompt], Decoded],
        features: ImageFeatures,
        prompt: Prompt,
        decoded: Decoded,
        banks: Sequence[MemoryBank],
        frame: int,
        since: int,
        asked_from: tuple[int, ...],
    ) -> Agreement:
        """Compare proxy prompt and memory on one frame.

        Args:
            decode: Decodes without memories.
            features: The embedding of the frame.
            prompt: Its proxy prompt, of ``N`` objects.
            decoded: The prediction with memory.
            banks: The memory of each object; objects with an empty one are not compared.
            frame: Number of the frame in the order of tracking.
            since: Number of frames since the support was set.
            asked_from: See `Agreement`.
        """
        found = Agreement.unchecked(decoded, asked_from)
        tracks = [n for n, bank in enumerate(banks) if bank.read(frame)]
        cheap = self.how != EXACT and prompt.prior is not None
        if cheap:
            tracks = [n for n in tracks if frame >= asked_from[n]]
        elif self.how != EXACT and since % CHECK_EVERY:
            tracks = []
        if not self.how or not tracks:
            return found
        if cheap:
            found.values[tracks] = _numpy(prior_agreement(prompt, decoded, features.valid))[tracks]
            tracks = [n for n in tracks if found.values[n] < self.threshold]
            if not tracks:
                return found
        some = prompt_of(prompt, tracks)
        alone = decode(features, some)
        dice = mask_agreement(alone, decoded_of(decoded, tracks), some, features.valid)
        dice, sure = _numpy(torch.stack([dice, _confidence_where_shown(alone, some)]))
        found.values[tracks], found.disagrees[tracks] = dice, dice < self.threshold
        if cheap:
            later = list(asked_from)
            for track in tracks:
                if not found.disagrees[track]:  # a false alarm
                    later[track] = frame + CHECK_EVERY
            found = replace(found, asked_from=tuple(later))
        # Masks given by the user outrank the proxy prompt. A proxy prompt that sees nothing does not drop a memory
        # either, because the memory serves to bridge such frames.
        strong = (dice < min(STRONG_DISAGREEMENT, self.threshold)) & (sure >= CONFIDENT)
        strong &= [not banks[track].has_given for track in tracks]
        if not self.reanchor or not strong.any():
            return found
        found.reanchored[tracks] = strong
        kept = np.flatnonzero(~found.reanchored)
        answers = [(np.array(tracks)[strong], decoded_of(alone, np.flatnonzero(strong)))]
        if len(kept):
            answers.append((kept, decoded_of(decoded, kept)))
        return replace(found, decoded=decoded_joined(answers))


def prior_agreement(prompt: Prompt, decoded: Decoded, valid: torch.Tensor) -> torch.Tensor:
    """Return the soft Dice ``2 sum(p q) / sum(p^2 + q^2)`` of the prior and the prediction averaged to its grid.

    Args:
        prompt: A prompt with a prior ``(1, N, g, g)``.
        decoded: The prediction of the same objects.
        valid: Positions that are not padding, bool ``(1, g, g)``.

    Returns:
        Soft Dice ``(N,)``; 1 where neither shows anything.
    """
    assert prompt.prior is not None
    prior = prompt.prior[0].float() * valid
    predicted = functional.adaptive_avg_pool2d(_gated(decoded, prompt)[0], prior.shape[-2:]) * valid
    both = 2 * (prior * predicted).sum(dim=(-2, -1))
    sizes = (prior.square() + predicted.square()).sum(dim=(-2, -1))
    nothing = torch.maximum(prior, predicted).amax(dim=(-2, -1)) <= THRESHOLD
    return torch.where(nothing, torch.ones_like(both), both / sizes.clamp(min=1e-6))


def mask_agreement(first: Decoded, second: Decoded, prompt: Prompt, valid: torch.Tensor) -> torch.Tensor:
    """Return the Dice of two predictions from one prompt, on the decoder's grid, ``(N,)``; 1 where both are empty."""
    size = first.logits.shape[-2:]
    inside = functional.interpolate(valid.unsqueeze(1).float(), size=size, mode="nearest")[0]
    one, other = ((_gated(decoded, prompt)[0] > THRESHOLD) * inside for decoded in (first, second))
    both, sizes = (one * other).sum(dim=(-2, -1)), (one + other).sum(dim=(-2, -1))
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), torch.ones_like(both))


def prompt_of(prompt: Prompt, tracks: Iterable[int]) -> Prompt:
    """Return the prompt for some of the objects."""
    index = list(tracks)

    def some(value: torch.Tensor | None) -> torch.Tensor | None:
        return None if value is None else value[:, index]

    names = tuple(prompt.names[n] for n in index) if prompt.names else ()
    return Prompt(
        sparse=some(prompt.sparse),
        dense=some(prompt.dense),
        memory=some(prompt.memory),
        presence=some(prompt.presence),
        prior=some(prompt.prior),
        names=names,
    )


def decoded_of(decoded: Decoded, tracks: Iterable[int]) -> Decoded:
    """Return the predictions for some of the objects."""
    index = list(tracks)
    return Decoded(
        logits=decoded.logits[:, index],
        quality=decoded.quality[:, index],
        presence=None if decoded.presence is None else decoded.presence[:, index],
        pointer=None if decoded.pointer is None else decoded.pointer[:, index],
    )


def decoded_in_groups(
    decode: Callable[..., Decoded],
    features: ImageFeatures,
    prompt: Prompt,
    groups: Sequence[tuple[list[int], list[FrameMemory]]],
    frame: int,
) -> Decoded:
    """Decode a frame, one call for each group of objects that remember the same frames.

    Args:
        decode: The backbone's `decode`.
        features: Embedding of the frame.
        prompt: The prompt of all objects.
        groups: Numbers of the objects of each group and their memories, see `memory_bank.joined`.
        frame: Number of the frame in the order of tracking.
    """
    if len(groups) == 1:
        return decode(features, prompt, groups[0][1], frame)
    parts = [decode(features, prompt_of(prompt, some), known, frame) for some, known in groups]
    return decoded_joined([(some, part) for (some, _), part in zip(groups, parts, strict=True)])


def decoded_joined(parts: Sequence[tuple[Iterable[int], Decoded]]) -> Decoded:
    """Join predictions for disjoint groups of objects to one, in the order of the objects.

    Args:
        parts: Numbers of the objects, and the predictions for them.
    """
    tracks = [int(track) for some, _ in parts for track in some]
    order = [tracks.index(n) for n in range(len(tracks))]

    def join(values: list[torch.Tensor | None]) -> torch.Tensor | None:
        there = [value for value in values if value is not None]
        return torch.cat(there, dim=1)[:, order] if there else None

    logits, quality, presence, pointer = (
        join([getattr(one, name) for _, one in parts]) for name in ("logits", "quality", "presence", "pointer")
    )
    assert logits is not None and quality is not None
    return Decoded(logits=logits, quality=quality, presence=presence, pointer=pointer)


def _gated(decoded: Decoded, prompt: Prompt) -> torch.Tensor:
    """Return probability times presence, ``(1, N, h, w)``."""
    probability = torch.sigmoid(decoded.logits.float())
    score = presence_of(decoded, prompt)
    return probability if score is None else probability * torch.sigmoid(score.float())[..., None, None]


def _confidence_where_shown(decoded: Decoded, prompt: Prompt) -> torch.Tensor:
    """Return presence times estimated IoU for objects with a mask, 0 for others; ``(N,)``."""
    shown = (_gated(decoded, prompt)[0] > THRESHOLD).flatten(1).any(dim=1)
    sure = decoded.quality[0].float().clamp(0, 1)
    if (score := presence_of(decoded, prompt)) is not None:
        sure = sure * torch.sigmoid(score[0].float())
    return torch.where(shown, sure, torch.zeros_like(sure))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return the tensor as a float32 array."""
    return tensor.float().cpu().numpy()
