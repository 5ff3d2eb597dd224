"""Interface between backbone and prompt generator, which do not import each other.

Axes: ``B`` targets, ``K`` supports, ``N`` objects, ``C`` channels of the backbone, ``g`` the side of its
feature grid, ``P = g * g`` positions in row-major order, ``T`` prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import torch

from ProxyPromptSegmentLib.networks.values import (
    Decoded,
    FrameMemory,
    ImageFeatures,
    PreparedClasses,
    PreparedSupport,
    Prompt,
)
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


class Backbone(Protocol):
    """SAM or SAM 2 as an encoder and a decoder, without knowing where prompts come from.

    Attributes:
        name: Name of the architecture.
        image_size: Side of the square input in pixels.
        grid: Side ``g`` of the feature grid.
        channels: Channels ``C`` of the embedding.
        keeps_aspect: Whether images are letterboxed; else they are squashed to the square.
    """

    name: str
    image_size: int
    grid: int
    channels: int

    @property
    def keeps_aspect(self) -> bool:
        """Whether images are letterboxed; else they are squashed to the square."""

    def encode(self, images: torch.Tensor, valid: torch.Tensor | None = None) -> ImageFeatures:
        """Embed images.

        Args:
            images: ``(B, 3, size, size)`` in 0..1.
            valid: Feature positions that are not padding, bool ``(B, g, g)``; None means all.
        """

    def decode(self, features: ImageFeatures, prompt: Prompt) -> Decoded:
        """Predict the objects of the prompt on the embedded slices."""

    def prompt_points(
        self, points: torch.Tensor | None, labels: torch.Tensor | None, boxes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embed clicks and boxes as the package does; at least one of both is given.

        Args:
            points: Pixel positions ``(x, y)`` in the square, whole numbers for centres of pixels, ``(M, P, 2)``.
            labels: 1 inside, 0 outside, ``(M, P)``.
            boxes: Centres of the first and the last pixel ``(x, y, x, y)``, ``(M, 4)``.

        Returns:
            Tokens ``(M, t, C)``.
        """

    def decode_masks(
        self, features: ImageFeatures, prompt: Prompt, outputs: Sequence[int] = (0, 1, 2, 3)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some of the decoder's masks: 0 is the single mask, 1 to 3 are three readings of a click.

        Args:
            features: ``B`` embedded slices.
            prompt: For ``B`` slices and ``N`` objects.
            outputs: Numbers of the masks.

        Returns:
            Logits ``(B, N, len(outputs), 4g, 4g)`` and estimated IoU ``(B, N, len(outputs))``.
        """


@runtime_checkable
class MemoryBackbone(Backbone, Protocol):
    """A backbone that can read what it remembers of earlier frames.

    Attributes:
        memories: How many earlier frames' spatial memories are read.
        pointers: How many frames' object pointers are read.
    """

    memories: int
    pointers: int

    def decode(
        self, features: ImageFeatures, prompt: Prompt, memories: Sequence[FrameMemory] = (), frame: int = 0
    ) -> Decoded:
        """Predict the objects of the prompt on the embedded frames, with memories of earlier frames.

        Args:
            features: ``B`` embedded frames.
            prompt: For ``B`` frames and ``N`` objects.
            memories: Memories of earlier frames, of ``B * N`` tracks each.
            frame: Number of this frame in the order of tracking.
        """

    def remember(self, features: ImageFeatures, decoded: Decoded, frame: int) -> FrameMemory:
        """Encode a frame's own prediction as a memory for later frames."""

    def remember_mask(self, features: ImageFeatures, masks: torch.Tensor, frame: int) -> FrameMemory:
        """Encode given masks, 0 or 1, ``(B, N, size, size)``, as a conditioning memory."""


def has_memory(backbone: Backbone) -> TypeGuard[MemoryBackbone]:
    """Return whether a backbone has a memory and can track."""
    return isinstance(backbone, MemoryBackbone)


class GeneratorConfig(Protocol):
    """The sizes that a prompt generator is built for; they must match its backbone's."""

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""

    @property
    def grid(self) -> int:
        """Side ``g`` of the feature grid."""

    @property
    def channels(self) -> int:
        """Channels ``C`` of the embedding."""

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values, as in a checkpoint."""


class PromptGenerator(Protocol):
    """A generator of prompts from annotated supports, independent of the backbone."""

    @property
    def config(self) -> GeneratorConfig:
        """The sizes and choices that it was made with."""

    def prepare(
        self, features: ImageFeatures, images: torch.Tensor, masks: torch.Tensor, names: tuple[str, ...] = ()
    ) -> PreparedSupport:
        """Compute everything that depends on the supports alone.

        Args:
            features: ``K`` embedded support images.
            images: The same images in 0..1, ``(K, 3, size, size)``.
            masks: 0 or 1, ``(K, N, size, size)``.
            names: The ``N`` objects.
        """

    def prompt(self, features: ImageFeatures, support: PreparedSupport, chosen: torch.Tensor | None = None) -> Prompt:
        """Compute the prompt of ``B`` targets and ``N`` objects.

        Args:
            features: ``B`` embedded targets.
            support: The prepared supports.
            chosen: Indices of the supports that each target reads, ``(B, k)``, below 0 for none; None means all.
        """

    def why(self, features: ImageFeatures, support: PreparedSupport, positions: torch.Tensor) -> torch.Tensor:
        """Return the weights ``(Q, K, g, g)`` of the support positions read at positions ``(Q,)`` of one target."""


@runtime_checkable
class VocabularyGenerator(Protocol):
    """A generator of prompts that needs no support: it knows classes by name.

    Attributes:
        embeds: Whether `embed` computes something; its weights are then part of what identifies an embedding.
    """

    embeds: bool

    @property
    def config(self) -> GeneratorConfig:
        """The sizes and choices that it was made with, the vocabulary among them."""

    @property
    def vocabulary(self) -> tuple[PromptClass, ...]:
        """The classes that it knows."""

    def prepare_classes(self, names: Sequence[str]) -> PreparedClasses:
        """Look up classes by their names.

        Raises:
            UsageError: If one is unknown.
        """

    def embed(self, images: torch.Tensor) -> torch.Tensor | None:
        """Compute what depends on the images alone; it is kept with the image embedding as `ImageFeatures.seen`.

        Args:
            images: ``(B, 3, size, size)`` in 0..1.

        Returns:
            ``(B, ...)``; None if the generator reads the backbone's embedding only.
        """

    def prompt(self, features: ImageFeatures, prepared: PreparedClasses) -> Prompt:
        """Compute the prompt of ``B`` targets and ``N`` classes."""

    def finish(self, decoded: Decoded, features: ImageFeatures) -> Decoded:
        """Return a decoder's answer to its prompt as this generator means it; usually unchanged."""


AnyGenerator: TypeAlias = PromptGenerator | VocabularyGenerator
"""The generators that a model may have; `isinstance(generator, VocabularyGenerator)` tells them apart."""
