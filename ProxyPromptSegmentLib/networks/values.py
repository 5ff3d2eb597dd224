"""What backbones and prompt generators exchange: embeddings, prompts, answers, memories and prepared supports.

Axes: ``B`` targets, ``K`` supports, ``N`` objects, ``C`` channels of the backbone, ``g`` the side of its
feature grid, ``P = g * g`` positions in row-major order, ``T`` prompt tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch


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
        kept: What a generator has computed from these very supports and reads again for every target; not copied.
    """

    features: torch.Tensor
    aggregated: torch.Tensor
    occupancy: torch.Tensor
    valid: torch.Tensor
    depth: torch.Tensor | None = None
    names: tuple[str, ...] = ()
    one_piece: tuple[bool, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
