"""The trainer: limited by time or steps and resumable, independent of the prompt generator that it trains."""

from __future__ import annotations

import ast
import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from ProxyPromptSegmentLib.data.described import described_names
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.networks.checkpoints import own_tensors, save_checkpoint, save_generator
from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES, LORA_RANK, ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.official import OfficialWeights, load_base
from ProxyPromptSegmentLib.networks.protocols import Backbone, has_memory
from ProxyPromptSegmentLib.networks.proxy_prompt.config import PRESETS, ProxyPromptConfig
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.clips import ClipEpisode, ClipSampler, clip_loss
from ProxyPromptSegmentLib.training.episodes import Episode, EpisodeSampler
from ProxyPromptSegmentLib.training.optimising import learning_rate, new_optimizer, parameter_groups
from ProxyPromptSegmentLib.training.pools import TaskPool, build_pool
from ProxyPromptSegmentLib.training.processes import Processes
from ProxyPromptSegmentLib.training.recipe import LENGTH, Recipe, TaskRecipe
from ProxyPromptSegmentLib.training.state_files import reading_state, writing_state
from ProxyPromptSegmentLib.training.step import episode_loss, half_precision
from ProxyPromptSegmentLib.training.target_episodes import TargetSampler
from ProxyPromptSegmentLib.typed_json import JsonError, read_object

__all__ = ["TrainState", "Trainer", "episode_loss", "generator_config", "parameter_groups"]

logger = logging.getLogger(__name__)

AnyEpisode = TypeVar("AnyEpisode", Episode, ClipEpisode)


def generator_config(recipe: Recipe) -> ProxyPromptConfig:
    """Return the configuration of a recipe's prompt generator: its preset with the recipe's changes.

    Raises:
        UsageError: If there is no such preset, or a change does not fit.
    """
    if recipe.generator not in PRESETS:
        raise UsageError(f"there is no preset '{recipe.generator}' of a generator; choose one of {', '.join(PRESETS)}")
    try:
        return read_object(ProxyPromptConfig, {**PRESETS[recipe.generator].to_dict(), **recipe.changes}, "changes")
    except JsonError as error:
        raise UsageError(f"the recipe {recipe.name} does not fit: {error}") from error


def _settings_of(saved: str) -> dict[str, Any] | None:
    """Return what `Recipe.identity` was when a state was saved; None if that cannot be known any more.

    Keys that the version which saved it did not have are those of a recipe that does not mention them.
    """
    try:
        values = ast.literal_eval(saved)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(values, dict):
        return None
    whole = {**Recipe(name="").to_dict(), **values}
    return {key: value for key, value in whole.items() if key not in LENGTH}


@dataclass
class TrainState:
    """The progress of a training.

    Attributes:
        step: Number of steps.
        seconds: Time of these.
    """

    step: int = 0
    seconds: float = 0.0


class Trainer:
    """A trainer of one recipe in one folder; a new trainer in the same folder resumes where it stopped."""

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        out: Path,
        device: str = "cpu",
        initial: dict[str, torch.Tensor] | None = None,
        base: Path | None = None,
        processes: Processes | None = None,
        read: Callable[[Path, str], Split] | None = None,
    ) -> None:
        """Load the data, and the state if there is one.

        Args:
            recipe: The recipe to train.
            data: Folder of the data sets.
            out: Folder for ``state.pt`` and the checkpoint.
            device: Device to compute on.
            initial: Weights to start from, for ablations and tuning; weights that do not fit stay random.
            base: File of the official weights of the backbone; by default those of the registry.
            processes: This process among those of the training; by default it is alone.
            read: Reads a data set by folder and name; by default `load_parts`.

        Raises:
            UsageError: If the folder contains the state of another recipe, or the recipe contradicts itself.
            CheckpointError: If the backbone is an official one, whose weights are not on this machine.
        """
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        self.processes = processes or Processes()
        self.config = generator_config(recipe)
        _check(recipe, self.config)
        # Adapters learn nothing of use on a frozen encoder with random weights: without the official ones it ends here.
        self.base: OfficialWeights | None = None
        if recipe.backbone not in COMPACT_NAMES:
            self.base = load_base(base or recipe.base or recipe.backbone, recipe.backbone)
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.model = self._built(initial)
        self.average = {name: value.detach().clone() for name, value in self._own(self.model.state_dict()).items()}
        self.optimizer = new_optimizer(self.model, recipe.optimizer)
        self._scaler = torch.amp.GradScaler(self.device.type) if recipe.computing.precision == "float16" else None
        self.state = TrainState()
        pools = build_pools(recipe, data, self.model.backbone, read)
        self.sampler: EpisodeSampler | TargetSampler
        if recipe.episodes.draw == "targets":
            self.sampler = TargetSampler(pools, recipe.seed, recipe.episodes, recipe.zoom)
        else:
            self.sampler = EpisodeSampler(pools, recipe.seed, recipe.episodes, recipe.zoom)
        self.clips: ClipSampler | None = None
        if recipe.clips.share:
            if not has_memory(self.model.backbone):
                raise UsageError(
                    f"the recipe tracks clips (clip_share), but {recipe.backbone} has no memory; choose a SAM 2"
                )
            self.clips = ClipSampler(pools, recipe.seed, recipe.clips, recipe.zoom)
        if (out / "state.pt").is_file():
            with reading_state(out / "state.pt"):
                self._resume()

    @property
    def steps(self) -> int:
        """Number of steps of the whole training; 0 if the time counts."""
        if self.recipe.epochs and isinstance(self.sampler, TargetSampler):
            per_step = self.recipe.computing.accumulate * self.processes.count
            return max(1, math.ceil(self.recipe.epochs * self.sampler.per_epoch / per_step))
        return self.recipe.steps

    @property
    def done(self) -> float:
        """Share of the training that is over, 0 to 1."""
        if self.steps:
            return min(1.0, self.state.step / self.steps)
        return min(1.0, self.state.seconds / (60 * self.recipe.minutes))

    def _built(self, initial: dict[str, torch.Tensor] | None) -> ProxyPromptModel:
        """Build the model on its base, with the weights to start from."""
        recipe, options = self.recipe, {}
        if (ranks := lora_ranks(recipe)) is not None:
            options["lora_rank"] = ranks
        tensors = None if self.base is None else self.base.tensors
        model = build_model(recipe.backbone, self.config, base=tensors, **options).to(self.device)
        if self.base is not None:
            self.base = dataclasses.replace(self.base, tensors={})  # they are in the model now
        if initial:
            own = self._own(model.state_dict())
            fitting = {name: value for name, value in initial.items() if name in own and own[name].shape == value.shape}
            model.load_state_dict(fitting, strict=False)
        return model

    def _own(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what a training changes: everything, or what is not of the frozen official weights."""
        return state if self.base is None else own_tensors(state)

    def _resume(self) -> None:
        saved = torch.load(self.out / "state.pt", weights_only=True, map_location=self.device)
        if _settings_of(saved["recipe"]) != self.recipe.identity():
            raise UsageError(f"{self.out} contains the state of another recipe; choose an empty folder")
        if self.base is not None and saved.get("base", self.base.sha256) != self.base.sha256:
            raise UsageError(f"{self.out} contains a training on other base weights; give those, or an empty folder")
        self.model.load_state_dict(saved["model"], strict=self.base is None)
        self.average = {name: saved["average"][name] for name in self.average}
        self.optimizer.load_state_dict(saved["optimizer"])
        if self._scaler is not None and "scaler" in saved:
            self._scaler.load_state_dict(saved["scaler"])
        self.state = TrainState(saved["step"], saved["seconds"])

    def _save(self) -> None:
        if not self.processes.first:
            return
        kept: dict[str, Any] = {
            "recipe": repr(self.recipe.to_dict()),
            "model": self._own(self.model.state_dict()),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.state.step,
            "seconds": self.state.seconds,
        }
        if self.base is not None:
            kept["base"] = self.base.sha256
        if self._scaler is not None:
            kept["scaler"] = self._scaler.state_dict()
        with writing_state(self.out / "state.pt") as partial:
            torch.save(kept, partial)

    def _rate(self) -> float:
        """Return the learning rate of the next step."""
        return learning_rate(self.recipe.optimizer, self.state.step, self.done)

    def step(self) -> dict[str, float]:
        """Make one optimiser step, of one or several episodes, and return the means of the parts of the loss."""
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        episodes = self.recipe.computing.accumulate
        start = (self.state.step * self.processes.count + self.processes.rank) * episodes
        sums: dict[str, float] = {}
        for number in range(start, start + episodes):
            loss, parts = self._loss(number)
            scaled = loss / episodes if self._scaler is None else self._scaler.scale(loss / episodes)
            scaled.backward()
            for name, value in {"loss": float(loss.detach()), **parts}.items():
                sums[name] = sums.get(name, 0.0) + value / episodes
        self._follow_gradients()
        decay = min(self.recipe.optimizer.ema, (1 + self.state.step) / (10 + self.state.step))
        with torch.no_grad():
            state = self._own(self.model.state_dict())
            current = {name: value for name, value in state.items() if value.is_floating_point()}
            torch._foreach_lerp_([self.average[name] for name in current], list(current.values()), 1 - decay)
        self.state.step += 1
        return sums

    def _follow_gradients(self) -> None:
        """Change the weights; in float16 a step whose gradients are too large for it is left out."""
        self.processes.average_gradients(self.model.parameters())  # before, so that all processes leave out the same
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.gradient_norm)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()

    def _loss(self, number: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of an episode, of single images or of clips, by its number."""
        chance = np.random.default_rng((self.recipe.seed, number, 4)).random()
        if self.clips is not None and chance < self.recipe.clips.share:
            with half_precision(self.recipe.computing, self.device):
                clips = self._moved(self.clips.draw(number))
                return clip_loss(self.model, clips, self.recipe, self.state.step, number)
        episode = self._moved(self.sampler.draw(number))
        return episode_loss(self.model, episode, self.recipe, self.state.step, number)

    def _moved(self, episode: AnyEpisode) -> AnyEpisode:
        """Return the episode with its tensors on the device."""
        values = {item.name: getattr(episode, item.name) for item in dataclasses.fields(episode)}
        moved = {name: value.to(self.device) for name, value in values.items() if isinstance(value, torch.Tensor)}
        return dataclasses.replace(episode, **moved)

    def averaged_model(self) -> ProxyPromptModel:
        """Return a copy of the model with the averaged weights, in evaluation mode; what is frozen is shared."""
        frozen = {id(p): p for p in self.model.parameters() if not p.requires_grad}
        copied = copy.deepcopy(self.model, frozen if self.base is not None else {})
        copied.load_state_dict(self.average, strict=self.base is None)
        return copied.eval()

    def run(
        self,
        cancel: CancelToken | None = None,
        validate: Callable[[ProxyPromptModel], dict[str, float]] | None = None,
        validate_every: float = 600.0,
        on_step: Callable[[TrainState, dict[str, float]], None] | None = None,
    ) -> Path:
        """Train until the steps or the time are used up, or until cancelled; save the state every minute.

        Args:
            cancel: Stops after the current step and saves the state.
            validate: Called with the averaged model; its time does not count.
            validate_every: Seconds of training between validations.
            on_step: Called with the state and the losses after each step.

        Returns:
            The checkpoint of the averaged weights.
        """
        saved, validated = time.monotonic(), self.state.seconds
        stopped = bool(cancel and cancel.cancelled)
        self.model.train()
        while self.done < 1 and not stopped:
            start = training_clock(self.device)
            parts = self.step()
            self.state.seconds += training_clock(self.device) - start
            if on_step:
                on_step(self.state, parts)
            wanted = bool(cancel and cancel.cancelled)
            stopped, self.state.seconds = self.processes.agree(wanted, self.state.seconds, self.device)
            if time.monotonic() - saved > 60:
                self._save()
                saved = time.monotonic()
            if validate and self.state.seconds - validated > validate_every:
                validated = self.state.seconds
                if self.processes.first:
                    logger.info("step %d: %s", self.state.step, validate(self.averaged_model()))
                self.processes.wait()
        self._save()
        if self.processes.first:
            self._write()
        self.processes.wait()
        return self.out / f"{self.recipe.name}.safetensors"

    def _write(self) -> None:
        """Write the checkpoint of the averaged weights, in half precision."""
        metadata: dict[str, Any] = {
            "name": self.recipe.name,
            "recipe": self.recipe.to_dict(),
            "steps": self.state.step,
            "training_seconds": round(self.state.seconds),
            "threads": torch.get_num_threads(),
        }
        path = self.out / f"{self.recipe.name}.safetensors"
        half = {key: value.half() if value.is_floating_point() else value for key, value in self.average.items()}
        if self.base is None:
            save_checkpoint(path, half, {**metadata, "model": self.model.describe()})
        else:
            save_generator(path, self.model, self.base, metadata, half)


def build_pools(
    recipe: Recipe, data: Path, backbone: Backbone, read: Callable[[Path, str], Split] | None = None
) -> list[TaskPool]:
    """Build the pools of a recipe's tasks, with images as the backbone sees them in use.

    Raises:
        UsageError: If the recipe names no data set, and the folder describes none.
    """
    pools = []
    for task in tasks_of(recipe, data):
        parts = (read or load_parts)(data, task.dataset)
        cases = [case for part in recipe.parts for case in getattr(parts, part)]
        pools.append(build_pool(task, cases, backbone.image_size, backbone.keeps_aspect))
    return pools


def tasks_of(recipe: Recipe, data: Path) -> tuple[TaskRecipe, ...]:
    """Return the tasks of a recipe: its own, or one for each data set that the folder describes."""
    return recipe.tasks or tuple(TaskRecipe(dataset=name) for name in described_names(data))


def lora_ranks(recipe: Recipe) -> tuple[int, int] | None:
    """Return the ranks of the adapters in encoder and decoder; None for those of `build_model`.

    Raises:
        UsageError: If a compact backbone, which is trained as a whole, is to have some.
    """
    if recipe.lora_encoder is None and recipe.lora_decoder is None:
        return None
    if recipe.backbone in COMPACT_NAMES:
        raise UsageError(
            f"lora_encoder and lora_decoder are for official backbones; {recipe.backbone} is trained as a whole. Leave "
            "them out."
        )
    return (
        LORA_RANK if recipe.lora_encoder is None else recipe.lora_encoder,
        LORA_RANK if recipe.lora_decoder is None else recipe.lora_decoder,
    )


def _check(recipe: Recipe, config: ProxyPromptConfig) -> None:
    """Reject a recipe that would train something else than what is used.

    Raises:
        UsageError: In this case.
    """
    if config.inter_object == "pooled" and recipe.episodes.objects != "several":
        raise UsageError(
            "the generator's objects communicate (inter_object is pooled), which one object at a time does not train; "
            'set objects to "several", or inter_object to "none".'
        )
    if recipe.base and recipe.backbone in COMPACT_NAMES:
        raise UsageError(f"base is for official backbones; {recipe.backbone} needs none. Leave it out.")
