"""What a backbone and a prompt generator hand to each other; neither knows the other.

Axes: ``B`` targets, ``K`` supports, ``N`` objects, ``C`` channels of the backbone, ``g`` the side of its
feature grid, ``P = g * g`` positions in row-major order, ``T`` prompt tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass
class ImageFeatures:
    """The image embedding of ``B`` slices.

    Attributes:
        top: ``(B, C, g, g)``.
        positions: Positional encoding of the grid, ``(C, g, g)``; the backbone's own.
        valid: Positions that are not padding, bool ``(B, g, g)``.
        high_res: Finer features of SAM 2's decoder, or None.
    """

    top: torch.Tensor
    positions: torch.Tensor
    valid: torch.Tensor
    high_res: tuple[torch.Tensor, ...] | None = None

    def select(self, index: slice | list[int] | torch.Tensor) -> ImageFeatures:
        """Keeps some of the ``B`` slices."""
        high_res = None if self.high_res is None else tuple(level[index] for level in self.high_res)
        return ImageFeatures(self.top[index], self.positions, self.valid[index], high_res)

    @staticmethod
    def concatenate(parts: list[ImageFeatures]) -> ImageFeatures:
        """Joins the slices of several embeddings of one backbone."""
        high_res = None
        if parts[0].high_res is not None:
            levels = zip(*(part.high_res for part in parts if part.high_res is not None), strict=True)
            high_res = tuple(torch.cat(level) for level in levels)
        return ImageFeatures(
            torch.cat([part.top for part in parts]),
            parts[0].positions,
            torch.cat([part.valid for part in parts]),
            high_res,
        )


@dataclass
class Prompt:
    """What a decoder is told about ``B`` targets and ``N`` objects; a field that is None is not used.

    Attributes:
        sparse: Prompt tokens of SAM's decoder, ``(B, N, T, C)``.
        dense: Added to the image embedding in the decoder, ``(B, N, C, g, g)``.
        memory: Tokens for SAM 2's memory attention, ``(B, N, T, C)``.
        presence: Logit that the object is in the slice at all, ``(B, N)``.
        prior: Probability read straight from the supports' masks, ``(B, N, g, g)``; shown, and trained.
        names: The ``N`` objects.
    """

    sparse: torch.Tensor | None = None
    dense: torch.Tensor | None = None
    memory: torch.Tensor | None = None
    presence: torch.Tensor | None = None
    prior: torch.Tensor | None = None
    names: tuple[str, ...] = ()

    def with_points(self, tokens: torch.Tensor) -> Prompt:
        """Adds SAM's own prompt tokens ``(B, N, t, C)``, a click that corrects a proxy prompt."""
        sparse = tokens if self.sparse is None else torch.cat([self.sparse, tokens], dim=2)
        return Prompt(sparse, self.dense, self.memory, self.presence, self.prior, self.names)


@dataclass
class Decoded:
    """A decoder's answer.

    Attributes:
        logits: ``(B, N, h, w)`` over the whole square; an object is where they are above 0.
        quality: The decoder's own estimate of its intersection over union, ``(B, N)``.
        presence: SAM 2's logit that the object is in the frame at all, ``(B, N)``; None where the decoder has none.
        pointer: SAM 2's summary of the object for later frames, ``(B, N, C)``.
    """

    logits: torch.Tensor
    quality: torch.Tensor
    presence: torch.Tensor | None = None
    pointer: torch.Tensor | None = None

    def detach(self) -> Decoded:
        """The same values without their history."""
        return Decoded(
            self.logits.detach(),
            self.quality.detach(),
            None if self.presence is None else self.presence.detach(),
            None if self.pointer is None else self.pointer.detach(),
        )


@dataclass(frozen=True)
class FrameMemory:
    """What SAM 2 remembers of one frame, for ``B * N`` tracks.

    Attributes:
        frame: Number of the frame in the order of tracking, which may run backwards through a volume.
        spatial: Features and mask together, ``(B * N, M, g, g)``.
        pointer: Summary of the object, ``(B * N, C)``.
        conditioning: Whether the mask was given and not predicted; such a memory is read from any distance.
    """

    frame: int
    spatial: torch.Tensor
    pointer: torch.Tensor
    conditioning: bool = False


def presence_of(decoded: Decoded, prompt: Prompt) -> torch.Tensor | None:
    """The logit ``(B, N)`` that an object is there: the decoder's where it has one, else the prompt's."""
    return prompt.presence if decoded.presence is None else decoded.presence


class Backbone(Protocol):
    """SAM or SAM 2, without knowing where prompts come from."""

    name: str
    image_size: int
    grid: int
    channels: int
    keeps_aspect: bool

    def encode(self, images: torch.Tensor, valid: torch.Tensor | None = None) -> ImageFeatures:
        """Embeds images ``(B, 3, size, size)`` in 0..1."""

    def decode(self, features: ImageFeatures, prompt: Prompt) -> Decoded:
        """Predicts the objects of the prompt on the embedded slices."""
