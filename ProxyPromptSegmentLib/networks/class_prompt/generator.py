"""AutoMedSAM's generator: a class of the vocabulary and the image's embedding give tokens and a dense embedding.

The image embedding is computed once and shared by all classes, which are asked for together.

References:
    Huang et al., Diffusion-empowered AutoPrompt MedSAM, arXiv:2502.06817.
"""

from __future__ import annotations

import torch
from torch import nn

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.class_prompt.config import ClassPromptConfig
from ProxyPromptSegmentLib.networks.class_prompt.diffusion import ClassPrompts, DiffusionClassEncoder
from ProxyPromptSegmentLib.networks.class_prompt.legacy import LegacyClassEncoder
from ProxyPromptSegmentLib.networks.class_prompt.reading import ReadingClassEncoder
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedClasses, Prompt
from ProxyPromptSegmentLib.networks.vocabulary import VocabularyModule

SMALL = 0.1  # factor of random weights beside an embedding that is known


class ClassPromptGenerator(VocabularyModule):
    """Prompts for classes on a slice, without a support.

    Attributes:
        config: The choices; kept in the checkpoint with the vocabulary.
        class_encoder: The class prompt encoder.
    """

    config: ClassPromptConfig

    def __init__(self, config: ClassPromptConfig) -> None:
        """Create the generator with random weights.

        Raises:
            UsageError: If there is no class.
        """
        super().__init__(config)
        if not config.classes:
            raise UsageError("a class prompt generator needs at least one class; its vocabulary is empty")
        self.class_encoder: nn.Module
        if config.legacy:
            self.class_encoder = LegacyClassEncoder(config)
        else:
            self.class_encoder = DiffusionClassEncoder(config) if config.diffusion else ReadingClassEncoder(config)

    def prompt(self, features: ImageFeatures, prepared: PreparedClasses) -> Prompt:
        """Compute the prompt of ``B`` targets and ``N`` classes; the same image and class give the same prompt."""
        classes = prepared.classes.unsqueeze(0).expand(len(features.top), -1)
        return self.prompt_each(features, classes, prepared.names)

    def prompt_each(
        self, features: ImageFeatures, classes: torch.Tensor, names: tuple[str, ...] = (), drawn: int | None = None
    ) -> Prompt:
        """Compute the prompt of ``B`` targets, each for classes of its own.

        Args:
            features: ``B`` embedded targets.
            classes: Indices into the vocabulary, int64 ``(B, N)``.
            names: Names of the ``N`` objects.
            drawn: How many of the classes are drawn, the first ones; of the others presence is known. None means all.
        """
        found: ClassPrompts = self.class_encoder(features.top, features.positions, classes, drawn)
        branches = self.config.branches
        return Prompt(
            sparse=None if branches == "dense" else found.sparse,
            dense=None if branches == "sparse" else found.dense,
            mask=None if branches == "sparse" else found.mask,
            presence=found.presence,
            names=names,
        )

    def begin(self, kinds: torch.Tensor, no_mask: torch.Tensor) -> None:
        """Let random weights begin as SAM's own prompts: tokens as a click or a box, and a dense one that says nothing.

        The decoder understands these tokens from the first step; only where they point remains to be learned.

        Args:
            kinds: SAM's embeddings of the kinds of its prompt points: none, outside, inside, and both corners of a
                box, ``(5, C)``.
            no_mask: SAM's dense embedding where there is no mask, ``(C,)``.
        """
        encoder = self.class_encoder
        if (corners := getattr(encoder, "corners", None)) is not None:
            with torch.no_grad():
                corners.copy_(kinds[3:5])
        if corners is not None or not isinstance(encoder, DiffusionClassEncoder):
            return  # the rest begins as the reading does
        with torch.no_grad():
            encoder.token_out.weight.mul_(SMALL)
            encoder.dense_out.weight.mul_(SMALL)
            if self.config.tokens == 2:
                # The reading of the classes draws the tokens into the object: clicks. Without it they learn corners.
                first = kinds[[2, 2]] if self.config.readout else kinds[[3, 4]]
                encoder.token_out.bias.copy_(first.flatten())
            nothing = torch.zeros_like(no_mask) if self.config.readout else no_mask
            encoder.dense_out.bias.copy_(nothing.flatten())
