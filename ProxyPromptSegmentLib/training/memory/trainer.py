"""The trainer of SAM 2 on clips: the broad trainer with a frozen encoder, whose result names the base by hash."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.additions import BaseModel
from ProxyPromptSegmentLib.networks.backbones.pyramid_encoder import PyramidImageEncoder
from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.checkpoints import save_addition
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.training.broad.episodes import TrainingEpisode
from ProxyPromptSegmentLib.training.broad.trainer import BroadTrainer
from ProxyPromptSegmentLib.training.memory.episodes import ClipEpisode, ClipSampler
from ProxyPromptSegmentLib.training.memory.recipe import MemoryRecipe
from ProxyPromptSegmentLib.training.memory.step import PARTS, clip_loss

HALF = 0.5  # of the time; see `MemoryRecipe.given_first`


class MemoryTrainer(BroadTrainer):
    """Trains what SAM 2 adds to the compact SAM; see `BroadTrainer`."""

    parts = PARTS
    recipe: MemoryRecipe
    sampler: ClipSampler

    def __init__(
        self,
        model: ProxyPromptModel,
        base: BaseModel,
        sampler: ClipSampler,
        recipe: MemoryRecipe,
        out: Path,
        half: bool = True,
    ) -> None:
        """Prepare the training, or resume it.

        Args:
            model: The model with the weights to start from, those of the base among them.
            base: The model whose encoder is shared.
            sampler: Source of clips.
            recipe: The settings.
            out: Folder of the state and the result.
            half: Compute in bfloat16 where that is safe.

        Raises:
            UsageError: If the folder holds the state of another recipe or base, or the model shares no encoder.
        """
        self.base = base
        # How a clip begins differs from step to step, so that no graph fits them all.
        super().__init__(model, sampler, recipe, out, half, graph=False)

    def _prepare(self) -> PyramidImageEncoder:
        """Freeze the encoder, and what else the recipe leaves as it is in the base; return the encoder.

        Raises:
            UsageError: If the model is another.
        """
        backbone = self.model.backbone
        encoder = backbone.sam2.image_encoder if isinstance(backbone, Sam2Backbone) else None
        pyramid = getattr(encoder, "pyramid", None)
        if not isinstance(pyramid, PyramidImageEncoder):
            raise UsageError(
                f"clips are trained on the compact SAM's encoder, which {backbone.name} for {backbone.image_size} "
                "pixels does not have; start from a compact SAM of 256 pixels."
            )
        pyramid.requires_grad_(False)
        if not self.recipe.own_generator:
            self.model.generator.requires_grad_(False)
        if not self.recipe.shared_rate:
            for parameter in self._of_base():
                parameter.requires_grad_(False)
        return pyramid

    def _set_rate(self, done: float) -> None:
        """Set the learning rate, and how many steps begin with a given mask, for a share of the training time."""
        super()._set_rate(done)
        given = self.recipe.given_first if done < HALF else self.recipe.given
        self.sampler.recipe = dataclasses.replace(self.recipe, given=given)

    def _of_base(self) -> list[nn.Parameter]:
        """Return the parameters that the base has too."""
        return [parameter for name, parameter in self.model.named_parameters() if self.base.get(name) is not None]

    def _slower(self) -> tuple[Iterable[nn.Parameter], float]:
        """Return the parameters that start from the base, and the factor of their learning rate."""
        return self._of_base(), self.recipe.shared_rate

    def _loss(self, episode: TrainingEpisode) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of an episode and its `parts`, as one vector without gradient."""
        assert isinstance(episode, ClipEpisode)
        return clip_loss(self.model, episode, self.switches, self.recipe.clicks)

    def _identity(self) -> dict[str, object]:
        """Return what must be equal to resume: the settings but the time, and the base."""
        return {**super()._identity(), "base_sha256": self.base.sha256}

    def _write(self, path: Path, metadata: dict[str, object]) -> None:
        """Write what the averaged weights add to the base."""
        save_addition(path, self.model, self.base, metadata, self.average)
