"""The same model with parts of its prompt removed or replaced by noise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ProxyPromptSegmentLib.networks.model import ProxyPromptModel

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.protocols import PromptGenerator
    from ProxyPromptSegmentLib.networks.values import Prompt

NOISE_SEED = 0


class ChangedGenerator:
    """A prompt generator whose prompt is changed before the backbone is given it."""

    def __init__(self, generator: PromptGenerator, change: Callable[[Prompt], Prompt]) -> None:
        """Wrap a generator; everything but its prompt stays its own."""
        self._generator, self._change = generator, change

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped generator has."""
        return getattr(self._generator, name)

    def prompt(self, *args: Any, **kwargs: Any) -> Prompt:
        """Return the changed prompt; arguments as in `PromptGenerator.prompt`."""
        return self._change(self._generator.prompt(*args, **kwargs))


def with_change(segmenter: Segmenter, change: Callable[[Prompt], Prompt]) -> Segmenter:
    """Return a segmenter with the same weights, whose prompts are changed; embeddings and supports can be shared."""
    model = segmenter.model
    twin = copy.copy(segmenter)
    generator: Any = ChangedGenerator(model.generator, change)
    twin.model = ProxyPromptModel(model.backbone, generator, model.lora_rank).eval()
    return twin


def tokens_alone(prompt: Prompt) -> Prompt:
    """Remove the dense prompt: SAM's embedding of "no mask" takes its place."""
    return replace(prompt, dense=None)


def noise_alone(prompt: Prompt) -> Prompt:
    """Remove the dense prompt and put noise of the same norm in the place of each sparse and memory token."""
    return replace(tokens_alone(prompt), sparse=_noise(prompt.sparse), memory=_noise(prompt.memory))


def dense_alone(prompt: Prompt) -> Prompt:
    """Remove the sparse tokens, and those for SAM 2's memory attention."""
    return replace(prompt, sparse=None, memory=None)


def _noise(tokens: torch.Tensor | None) -> torch.Tensor | None:
    """Return random tokens, each with the norm of the one that it replaces; the same for every slice."""
    if tokens is None:
        return None
    chance = torch.Generator().manual_seed(NOISE_SEED)
    drawn = torch.randn(tokens.shape[1:], generator=chance).to(tokens).expand_as(tokens)
    return drawn * (tokens.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True))
