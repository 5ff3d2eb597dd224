"""The trainer of generators that need no support: the broad trainer on embedded images, with a frozen backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.additions import BaseModel
from ProxyPromptSegmentLib.networks.checkpoints import save_addition, save_generator
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.official import OfficialWeights
from ProxyPromptSegmentLib.training.broad.episodes import TrainingEpisode
from ProxyPromptSegmentLib.training.broad.trainer import BroadTrainer
from ProxyPromptSegmentLib.training.vocabulary.losses import UncertaintyWeighting
from ProxyPromptSegmentLib.training.vocabulary.presence_fit import PresenceFit
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe
from ProxyPromptSegmentLib.training.vocabulary.sampler import ClassEpisode, ClassSampler
from ProxyPromptSegmentLib.training.vocabulary.step import PARTS, class_loss, weighted_losses

WEIGHTING = "weighting."
WEIGHTING_RATE = 10.0  # factor of the rate for the uncertainties, which are a few numbers


class VocabularyTrainer(BroadTrainer):
    """Trains the generator of a model, and nothing else; see `BroadTrainer`.

    Attributes:
        presence: Thresholds of presence, by which the written weights are shifted; none before they are fitted.
    """

    parts = PARTS
    presence: tuple[PresenceFit, ...]
    recipe: VocabularyRecipe
    sampler: ClassSampler

    def __init__(
        self,
        model: ProxyPromptModel,
        base: BaseModel | OfficialWeights,
        sampler: ClassSampler,
        recipe: VocabularyRecipe,
        out: Path,
        half: bool = True,
    ) -> None:
        """Prepare the training, or resume it.

        Args:
            model: The model on its frozen backbone.
            base: The model whose encoder and decoder are used, or the official weights; kept by name and hash.
            sampler: Source of embedded images.
            recipe: The settings.
            out: Folder of the state and the result.
            half: Compute in bfloat16 where that is safe.

        Raises:
            UsageError: If the folder holds the state of another recipe or base.
        """
        self.base = base
        self._decoding = True
        self.presence: tuple[PresenceFit, ...] = ()
        # How many classes an image has, and so the shape of a step, depends on the data.
        super().__init__(model, sampler, recipe, out, half, graph=False)

    def _prepare(self) -> nn.Module:
        """Freeze everything but the generator, and add the weights of the losses.

        Raises:
            UsageError: If the generator reads supports.
        """
        generator = self.model.generator
        if not hasattr(generator, "prepare_classes"):
            raise UsageError("this training is for generators that need no support; the model's generator reads some.")
        self.model.requires_grad_(False)
        assert isinstance(generator, nn.Module)
        generator.requires_grad_(True)
        trunk = getattr(getattr(generator, "encoder", None), "trunk", None)
        if trunk is not None and not self.recipe.trunk_rate:
            trunk.requires_grad_(False)
        readout = getattr(getattr(generator, "class_encoder", None), "readout", None)
        if readout is not None:
            readout.hidden.requires_grad_(False)  # its weights are random, and the fit of the maps is on them
        self.weighting = UncertaintyWeighting(weighted_losses(self.recipe.losses)).to(self.device)
        self.weighting.requires_grad_(self.recipe.losses.weighting == "uncertainty")
        self.model.add_module(WEIGHTING.rstrip("."), self.weighting)
        return generator

    def _slower(self) -> tuple[Iterable[nn.Parameter], float]:
        """Return the uncertainties, and the factor of their rate, which is above 1."""
        return self.weighting.parameters(), WEIGHTING_RATE

    def _changing(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the generator and of the weighting."""
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if name.startswith(("generator.", WEIGHTING))}

    def _load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Load generator and weighting."""
        self.model.load_state_dict({**self.model.state_dict(), **tensors})

    def _loss(self, episode: TrainingEpisode) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of an episode and its `parts`, as one vector without gradient."""
        assert isinstance(episode, ClassEpisode)
        return class_loss(self.model, self.weighting, episode, self.recipe.losses, self._decoding)

    def _set_rate(self, done: float) -> None:
        """Set the learning rate, and whether the decoder runs, for a share of the training time."""
        super()._set_rate(done)
        self._decoding = done >= self.recipe.decode_from

    def _identity(self) -> dict[str, object]:
        """Return what must be equal to resume: the settings but the length and the variants, and the base."""
        said = {key: value for key, value in super()._identity().items() if key != "variants"}
        return {**said, "base_sha256": self.base.sha256}

    def _write(self, path: Path, metadata: dict[str, object]) -> None:
        """Write the averaged generator, and which weights it was trained on."""
        state = {**self.model.state_dict(), **self.average}
        state = {name: value for name, value in state.items() if not name.startswith(WEIGHTING)}
        metadata = {**metadata, "uncertainty": self._uncertainties()}
        if self.presence:
            by = torch.tensor([-one.threshold for one in self.presence])
            state = self.model.generator.shift_presence(state, "generator.", by)
            metadata["presence"] = [dataclasses.asdict(one) for one in self.presence]
        if isinstance(self.base, OfficialWeights):
            save_generator(path, self.model, self.base, metadata, state)
        else:
            # The readings were fitted on their random combinations as they are; 8 bits would change both.
            read = any(".readout." in name for name in state)
            save_addition(path, self.model, self.base, metadata, state, eight_bit=not read)

    def averaged(self) -> ProxyPromptModel:
        """Return the model with the averaged weights, which are those that are written, in evaluation mode."""
        self._load(self.average)
        return self.model.eval()

    def averaged_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of what is trained, after `averaged` was changed."""
        return self._changing()

    def _uncertainties(self) -> dict[str, float]:
        values = self.average[f"{WEIGHTING}uncertainty"].tolist()
        return {name: round(value, 4) for name, value in zip(self.weighting.names, values, strict=True)}
