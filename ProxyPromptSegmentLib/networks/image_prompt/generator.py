"""AutoSAM's prompt generator: the image alone becomes a dense prompt for a SAM that stays as it is."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from ProxyPromptSegmentLib.networks.image_prompt.config import ImagePromptConfig
from ProxyPromptSegmentLib.networks.image_prompt.encoder import ImagePromptEncoder, begin_as
from ProxyPromptSegmentLib.networks.image_prompt.surrogate import SurrogateDecoder
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, PreparedClasses, Prompt
from ProxyPromptSegmentLib.networks.vocabulary import VocabularyModule

_LEAST = 1e-4  # of a scaled logit, so that its log odds are finite


class ImagePromptGenerator(VocabularyModule):
    """g and h side by side; g runs once per image for all classes, with the image's embedding.

    Attributes:
        encoder: g.
        surrogate: h, which reads g's prompt and never changes it; None if the model has none.
    """

    embeds = True

    def __init__(self, config: ImagePromptConfig) -> None:
        """Create the networks with random weights."""
        super().__init__(config)
        self.encoder = ImagePromptEncoder(config)
        self.surrogate = SurrogateDecoder(config.channels) if config.surrogate else None

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the prompts and presence logits of all classes, ``(B, classes, C + 1, g, g)``."""
        return self.encoder(images)

    def keep(self, images: torch.Tensor) -> torch.Tensor:
        """Return what a frozen trunk makes of images, to be kept through a training: ``(B, F)``, half precision."""
        return self.encoder.pack(images)

    def embed_kept(self, kept: torch.Tensor) -> torch.Tensor:
        """Return what `embed` returns, of what `keep` returned."""
        return self.encoder.prompt_of(self.encoder.unpack(kept))

    def begin(self, no_mask: torch.Tensor) -> None:
        """Let random weights begin as SAM's own prompt without a mask, ``(C,)``."""
        begin_as(self.encoder, no_mask)

    def shift_presence(self, state: dict[str, torch.Tensor], prefix: str, by: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return weights whose presence logits are larger by a number for each class, ``(N,)``.

        Args:
            state: Weights of a model.
            prefix: What stands before this generator's names in them.
            by: What is added.
        """
        name = f"{prefix}encoder.presence.2.bias"
        return {**state, name: state[name] + by.to(state[name])}

    def prompt(self, features: ImageFeatures, prepared: PreparedClasses) -> Prompt:
        """Return the dense prompts of some classes, without sparse tokens; see `VocabularyGenerator.prompt`."""
        assert features.seen is not None  # `ProxyPromptModel.encode` computes it
        chosen = features.seen[:, prepared.classes]
        return Prompt(
            dense=chosen[:, :, :-1],
            presence=chosen[:, :, -1, 0, 0] if self.config.presence else None,
            names=prepared.names,
        )

    def finish(self, decoded: Decoded, features: ImageFeatures) -> Decoded:
        """Scale logits between their extremes in each image, as the paper's code does; otherwise keep them."""
        if not self.config.min_max:
            return decoded
        return replace(decoded, logits=min_max_logits(decoded.logits, features.valid))


def min_max_logits(logits: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return logits whose probability is the given ones scaled to 0..1 between their extremes in the image.

    Args:
        logits: ``(B, N, h, w)``.
        valid: Positions that are not padding, bool ``(B, g, g)``; the extremes are looked for there.
    """
    inside = functional.interpolate(valid.unsqueeze(1).float(), size=logits.shape[-2:], mode="nearest") > 0
    low = logits.masked_fill(~inside, float("inf")).amin((2, 3), keepdim=True)
    high = logits.masked_fill(~inside, float("-inf")).amax((2, 3), keepdim=True)
    scaled = (logits - low) / (high - low).clamp(min=1e-6)
    return torch.logit(scaled.clamp(_LEAST, 1 - _LEAST))
