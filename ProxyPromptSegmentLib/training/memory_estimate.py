"""How much memory a step of a training takes, known before it begins.

The step is gone through on a device without storage: every tensor has its shape, its type and its lifetime, and nothing
is computed. What it counts is what an allocator would be asked for, without its own reserve and without what a graphics
card's libraries take for themselves.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ProxyPromptSegmentLib.networks.model import ProxyPromptModel, build_model
from ProxyPromptSegmentLib.training.episodes import Episode
from ProxyPromptSegmentLib.training.losses import dice_loss
from ProxyPromptSegmentLib.training.recipe import Recipe
from ProxyPromptSegmentLib.training.step import encoded


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """The memory of a training, in bytes.

    Attributes:
        weights: All weights of the model.
        training: Gradients, the optimiser's numbers and the averaged weights of what is trained.
        step: The most that a step needs beside these: activations, and what is computed again.
    """

    weights: int
    training: int
    step: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.training + self.step


class LiveBytes(TorchDispatchMode):
    """A count of the bytes of all tensors that are made while it is active, each storage once.

    Attributes:
        live: Bytes of those that still exist.
        peak: The most that existed at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known: set[int] = set()

    def ignore(self, tensors: Iterator[torch.Tensor]) -> None:
        """Leave out storages that existed before."""
        self._known |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Run an operation and count the storages of its results."""
        answer = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return answer

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@contextmanager
def counted(model: torch.nn.Module) -> Iterator[LiveBytes]:
    """Count the bytes of what is made beside a model's own tensors."""
    with LiveBytes() as found:
        found.ignore(iter([*model.parameters(), *model.buffers()]))
        yield found


def estimate(recipe: Recipe, config: Any, objects: int, images: int, ranks: Any = None) -> MemoryEstimate:
    """Estimate the memory of a recipe's training, as on a graphics card in single precision; half takes less.

    Args:
        recipe: The recipe.
        config: Its generator's configuration.
        objects: Number of objects at once.
        images: Number of images of a step, targets included.
        ranks: Ranks of the adapters, see `build_model`.
    """
    with torch.device("meta"):
        model = build_model(recipe.backbone, config, ranks).train()
        episode = blank_episode(recipe, model, objects, images)
    everything = sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])
    learned = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    moments = 1 if recipe.optimizer.algorithm == "sgd" else 2
    single = dataclasses.replace(recipe, computing=dataclasses.replace(recipe.computing, precision="single"))
    # The gradients are made during the step, and counted there.
    return MemoryEstimate(weights=everything, training=(moments + 1) * learned, step=step_bytes(model, episode, single))


def blank_episode(recipe: Recipe, model: ProxyPromptModel, objects: int, images: int) -> Episode:
    """Return an episode of so many images without content, on the default device."""
    size = model.backbone.image_size
    apart = recipe.episodes.draw == "targets"
    targets = min(recipe.episodes.targets, images - 1) if apart else images
    first = targets if apart else 0
    chosen = torch.arange(first, images).expand(targets, -1)
    if not apart:
        chosen = chosen[:, : min(recipe.episodes.max_supports, images - 1)]
    return Episode(
        images=torch.zeros(images, 3, size, size),
        masks=torch.zeros(images, objects, size, size),
        truth=torch.zeros(targets, objects, size, size),
        chosen=chosen,
        related=torch.ones(targets, dtype=torch.bool),
        apart=apart,
    )


def step_bytes(model: ProxyPromptModel, episode: Episode, recipe: Recipe) -> int:
    """Return the most bytes that forward and backward pass of an episode hold, gradients included.

    Args:
        model: The model, on any device; on ``meta`` nothing is computed.
        episode: An episode on the same device.
        recipe: What is kept and what is computed again.
    """
    with counted(model) as found:
        found.ignore(iter([episode.images, episode.masks, episode.truth, episode.chosen]))
        features, support = encoded(model, episode, recipe.computing)
        count = len(episode.truth)
        prompt = model.generator.prompt(features, support, episode.chosen - count if episode.apart else episode.chosen)
        decoded = model.backbone.decode(features, prompt)
        size = list(episode.truth.shape[-2:])
        logits = functional.interpolate(decoded.logits, size=size, mode="bilinear", align_corners=False)
        dice_loss(logits, episode.truth).mean().backward()
    model.zero_grad(set_to_none=True)
    return found.peak
