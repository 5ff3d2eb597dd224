"""Interface between backbone and prompt generator, which do not import each other.

Axes: ``B`` targets, ``K`` supports, ``N`` objects, ``C`` channels of the backbone, ``g`` the side of its
feature grid, ``P = g * g`` positions in row-major order, ``T`` prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import torch

from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


def _joined(parts: list[torch.Tensor | None]) -> torch.Tensor | None:
    """Join what every part has; None if one has not."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None


@dataclass(kw_only=True)
class ImageFeatures:
    """The image embedding of ``B`` slices.

    Attributes:
        top: ``(B, C, g, g)``.
        positions: Positional encoding of the grid, ``(C, g, g)``; the backbone's own.
        valid: Positions that are not padding, bool ``(B, g, g)``.
        high_res: Finer features of SAM 2's decoder, or None.
        depth: Position of each slice along its volume, -1 to 1, ``(B,)``; None where it is not known.
        seen: What the prompt generator itself computed from the images, see `VocabularyGenerator.embed`, ``(B, ...)``;
            None where it computes nothing.
    """

    top: torch.Tensor
    positions: torch.Tensor
    valid: torch.Tensor
    high_res: tuple[torch.Tensor, ...] | None = None
    depth: torch.Tensor | None = None
    seen: torch.Tensor | None = None

    def select(self, index: slice | list[int] | torch.Tensor) -> ImageFeatures:
        """Select some of the ``B`` slices."""
        high_res = None if self.high_res is None else tuple(level[index] for level in self.high_res)
        return replace(
            self,
            top=self.top[index],
            valid=self.valid[index],
            high_res=high_res,
            depth=None if self.depth is None else self.depth[index],
            seen=None if self.seen is None else self.seen[index],
        )

    @staticmethod
    def concatenate(parts: list[ImageFeatures]) -> ImageFeatures:
        """Join the slices of several embeddings of one backbone."""
        high_res = None
        if parts[0].high_res is not None:
            levels = zip(*(part.high_res for part in parts if part.high_res is not None), strict=True)
            high_res = tuple(torch.cat(level) for level in levels)
        return ImageFeatures(
            top=torch.cat([part.top for part in parts]),
            positions=parts[0].positions,
            valid=torch.cat([part.valid for part in parts]),
            high_res=high_res,
            depth=_joined([part.depth for part in parts]),
            seen=_joined([part.seen for part in parts]),
        )


@dataclass(kw_only=True)
class Prompt:
    """The prompt of ``B`` targets and ``N`` objects for a decoder; a field that is None is not used.

    Attributes:
        sparse: Prompt tokens of SAM's decoder, ``(B, N, T, C)``.
        dense: Added to the image embedding in the decoder, ``(B, N, C, g, g)``.
        memory: Tokens for SAM 2's memory attention, ``(B, N, T, C)``.
        presence: Logit that the object is in the slice at all, ``(B, N)``.
        prior: Probability read straight from the supports' masks, ``(B, N, g, g)``; shown, and trained.
        mask: Logits of a mask to start from, ``(B, N, 4g, 4g)``: SAM's own mask prompt.
        names: The ``N`` objects.
    """

    sparse: torch.Tensor | None = None
    dense: torch.Tensor | None = None
    memory: torch.Tensor | None = None
    presence: torch.Tensor | None = None
    prior: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    names: tuple[str, ...] = ()

    def with_points(self, tokens: torch.Tensor) -> Prompt:
        """Add SAM's own prompt tokens ``(B, N, t, C)``, a click that corrects a proxy prompt."""
        return replace(self, sparse=tokens if self.sparse is None else torch.cat([self.sparse, tokens], dim=2))

    def of_object(self, number: int) -> Prompt:
        """Return the prompt of one of the ``N`` objects."""
        one = slice(number, number + 1)
        fields = ("sparse", "dense", "memory", "presence", "prior", "mask")
        values = {name: getattr(self, name) for name in fields}
        chosen = {name: None if value is None else value[:, one] for name, value in values.items()}
        return Prompt(**chosen, names=self.names[one])


@dataclass(kw_only=True)
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
        """Return the same values, detached from the graph."""
        return Decoded(
            logits=self.logits.detach(),
            quality=self.quality.detach(),
            presence=None if self.presence is None else self.presence.detach(),
            pointer=None if self.pointer is None else self.pointer.detach(),
        )


@dataclass(frozen=True, kw_only=True)
class FrameMemory:
    """SAM 2's memory of one frame, for ``B * N`` tracks.

    Attributes:
        frame: Number of the frame in the order of tracking, which may run backwards through a volume.
        spatial: Features and mask together, ``(B * N, M, g, g)``, or at half of the grid.
        pointer: Summary of the object, ``(B * N, C)``.
        conditioning: Whether the mask was given and not predicted; such a memory is read from any distance.
    """

    frame: int
    spatial: torch.Tensor
    pointer: torch.Tensor
    conditioning: bool = False


def presence_of(decoded: Decoded, prompt: Prompt) -> torch.Tensor | None:
    """Return the presence logit ``(B, N)``: the decoder's if it has one, else the prompt's."""
    return prompt.presence if decoded.presence is None else decoded.presence


@dataclass(frozen=True, kw_only=True)
class PreparedSupport:
    """All that a prompt needs from the supports; computed once, kept, and independent of the target.

    Attributes:
        features: F_sup, ``(K, C, P)``; ``P`` is smaller where the generator pools its keys.
        aggregated: A_agg, ``(K, N, C, P)``.
        occupancy: Share of each position that the object fills, ``(K, N, P)``.
        valid: Positions that are not padding, bool ``(K, P)``.
        depth: Position of each support along its volume, -1 to 1, ``(K,)``; None where one is not known.
        names: The ``N`` objects.
        one_piece: For each object whether the supports show it in one piece; empty where nobody looked.
    """

    features: torch.Tensor
    aggregated: torch.Tensor
    occupancy: torch.Tensor
    valid: torch.Tensor
    depth: torch.Tensor | None = None
    names: tuple[str, ...] = ()
    one_piece: tuple[bool, ...] = ()

    def objects(self, index: list[int]) -> PreparedSupport:
        """Select some objects."""
        return replace(
            self,
            aggregated=self.aggregated[:, index],
            occupancy=self.occupancy[:, index],
            names=tuple(self.names[i] for i in index) if self.names else (),
            one_piece=tuple(self.one_piece[i] for i in index) if self.one_piece else (),
        )

    def supports(self, index: list[int]) -> PreparedSupport:
        """Select some supports, in the order of the indices."""
        return replace(
            self,
            features=self.features[index],
            aggregated=self.aggregated[index],
            occupancy=self.occupancy[index],
            valid=self.valid[index],
            depth=None if self.depth is None else self.depth[index],
        )

    @staticmethod
    def concatenate(parts: list[PreparedSupport]) -> PreparedSupport:
        """Join the supports of several preparations of the same objects."""
        return PreparedSupport(
            features=torch.cat([part.features for part in parts]),
            aggregated=torch.cat([part.aggregated for part in parts]),
            occupancy=torch.cat([part.occupancy for part in parts]),
            valid=torch.cat([part.valid for part in parts]),
            depth=_joined([part.depth for part in parts]),
            names=parts[0].names,
        )


@dataclass(frozen=True, kw_only=True)
class PreparedClasses:
    """All that a prompt needs where there are no supports: which classes of the generator's vocabulary are asked for.

    Attributes:
        classes: Indices into the vocabulary, int64 ``(N,)``.
        names: The ``N`` objects.
        one_piece: For each object whether it is a single connected structure; empty where that is not known.
    """

    classes: torch.Tensor
    names: tuple[str, ...] = ()
    one_piece: tuple[bool, ...] = ()

    def objects(self, index: list[int]) -> PreparedClasses:
        """Select some objects."""
        return PreparedClasses(
            classes=self.classes[index],
            names=tuple(self.names[i] for i in index) if self.names else (),
            one_piece=tuple(self.one_piece[i] for i in index) if self.one_piece else (),
        )


Prepared: TypeAlias = PreparedSupport | PreparedClasses
"""The state of a prompt generator that does not depend on the target."""


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
