"""What prompt generators that know classes by name have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from ProxyPromptSegmentLib.networks.protocols import GeneratorConfig
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, PreparedClasses
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass, chosen_classes


class VocabularyConfig(GeneratorConfig, Protocol):
    """The configuration of a generator that knows classes."""

    @property
    def classes(self) -> tuple[PromptClass, ...]:
        """The classes that it knows, at least one."""


class VocabularyModule(nn.Module):
    """A base of generators that need no support; a subclass defines `prompt`, and `embed` if it reads the image.

    Attributes:
        config: The choices; kept in the checkpoint.
        embeds: Whether `embed` computes something.
    """

    embeds = False

    def __init__(self, config: Any) -> None:
        """Keep the configuration, a `VocabularyConfig`."""
        super().__init__()
        self.config = config
        # Tells the device of a generator without weights; not stored.
        self.register_buffer("_place", torch.zeros(0), persistent=False)

    @property
    def vocabulary(self) -> tuple[PromptClass, ...]:
        """The classes that it knows."""
        return tuple(self.config.classes)

    def prepare_classes(self, names: Sequence[str]) -> PreparedClasses:
        """Look up classes by name, synonym or code; all of them if no name is given.

        Raises:
            UsageError: If one is unknown.
        """
        chosen = chosen_classes(self.vocabulary, names)
        return PreparedClasses(
            classes=torch.tensor([self.vocabulary.index(one) for one in chosen], device=self._place.device),
            names=tuple(one.name for one in chosen),
            one_piece=tuple(one.one_piece for one in chosen),
        )

    def embed(self, images: torch.Tensor) -> torch.Tensor | None:  # noqa: ARG002 - the protocol's signature
        """Return nothing: the backbone's embedding is all that is read."""
        return None

    def finish(self, decoded: Decoded, features: ImageFeatures) -> Decoded:  # noqa: ARG002 - the protocol's signature
        """Return the decoder's answer as it is."""
        return decoded
