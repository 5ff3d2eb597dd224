"""The trainer: time-limited and resumable, independent of the prompt generator that it trains."""

from __future__ import annotations

import ast
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

from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.networks.checkpoints import load_base, save_checkpoint, save_generator
from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES, ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.protocols import has_memory
from ProxyPromptSegmentLib.networks.proxy_prompt.config import PRESETS, ProxyPromptConfig
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.clips import ClipEpisode, ClipSampler, click_tokens, clip_loss
from ProxyPromptSegmentLib.training.episodes import Episode, EpisodeSampler, build_pool
from ProxyPromptSegmentLib.training.losses import prediction_loss
from ProxyPromptSegmentLib.training.recipe import Recipe
from ProxyPromptSegmentLib.typed_json import JsonError, read_object

logger = logging.getLogger(__name__)

NO_DECAY = ("A_log", "A_b_log", ".D", "pos_embed", "bias", "norm")
LOWEST_RATE = 0.03
AnyEpisode = TypeVar("AnyEpisode", Episode, ClipEpisode)


def episode_loss(
    model: ProxyPromptModel, episode: Episode, recipe: Recipe, step: int = 0
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of one episode and its parts; ``step`` enables the parts of the recipe that start later.

    Every image is encoded once; it is a target, and a support of the targets that chose it.
    """
    features = model.backbone.encode(episode.images)
    support = model.generator.prepare(features, episode.images, episode.masks)
    prompt = model.generator.prompt(features, support, episode.chosen)
    rng = np.random.default_rng((recipe.seed, step, 1))
    if rng.random() < recipe.prompts.dense_dropout:
        prompt = dataclasses.replace(prompt, dense=None)
    if rng.random() < recipe.prompts.clicks:
        prompt = prompt.with_points(click_tokens(model, episode.truth, rng))
    decoded = model.backbone.decode(features, prompt)
    return prediction_loss(decoded, prompt, episode.truth, episode.related, recipe.losses, step)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the trainable parameters in two groups, with and without weight decay."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim < 2 or any(key in name for key in NO_DECAY) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


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


def _without_time(saved: str) -> dict[str, Any] | None:
    """Return what `Recipe.identity` was when a state was saved; None if that cannot be known any more."""
    try:
        values = ast.literal_eval(saved)
    except (ValueError, SyntaxError):
        return None
    return {key: value for key, value in values.items() if key != "minutes"} if isinstance(values, dict) else None


@dataclass
class TrainState:
    """The progress of a training."""

    step: int = 0
    seconds: float = 0.0


class Trainer:
    """A trainer of one recipe in one folder; a new trainer in the same folder resumes where it stopped."""

    def __init__(
        self, recipe: Recipe, data: Path, out: Path, device: str = "cpu", initial: dict[str, torch.Tensor] | None = None
    ) -> None:
        """Load the data, and the state if there is one.

        Args:
            recipe: The recipe to train.
            data: Folder of the data sets.
            out: Folder for ``state.pt`` and the checkpoint.
            device: Device to compute on.
            initial: Weights to start from, for ablations and tuning; weights that do not fit stay random.

        Raises:
            UsageError: If the folder contains the state of another recipe.
            CheckpointError: If the backbone is an official one, whose weights are not on this machine.
        """
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        self.config = generator_config(recipe)
        # Adapters learn nothing of use on a frozen encoder with random weights: without the official ones it ends here.
        self.base = None if recipe.backbone in COMPACT_NAMES else load_base(recipe.backbone)
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        tensors = None if self.base is None else self.base.tensors
        self.model = build_model(recipe.backbone, self.config, base=tensors).to(self.device)
        if initial:
            own = self.model.state_dict()
            fitting = {name: value for name, value in initial.items() if name in own and own[name].shape == value.shape}
            self.model.load_state_dict(fitting, strict=False)
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.optimizer = self._new_optimizer()
        self.state = TrainState()
        size = self.model.backbone.image_size
        pools = []
        for task in recipe.tasks:
            parts = split(load_dataset(data, task.dataset), task.dataset)
            cases = [case for part in recipe.parts for case in getattr(parts, part)]
            pools.append(build_pool(task, cases, size))
        self.sampler = EpisodeSampler(pools, recipe.seed, recipe.episodes, recipe.zoom)
        self.clips: ClipSampler | None = None
        if recipe.clips.share:
            if not has_memory(self.model.backbone):
                raise UsageError(
                    f"the recipe tracks clips (clip_share), but {recipe.backbone} has no memory; choose a SAM 2"
                )
            self.clips = ClipSampler(pools, recipe.seed, recipe.clips, recipe.zoom)
        if (out / "state.pt").is_file():
            self._resume()

    def _new_optimizer(self) -> torch.optim.AdamW:
        settings = self.recipe.optimizer

        def make(fused: bool) -> torch.optim.AdamW:
            groups = parameter_groups(self.model, settings.weight_decay)  # anew: the optimizer writes into them
            return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=fused)

        try:
            return make(True)
        except RuntimeError:  # before PyTorch 2.4 the fused kernel is for GPUs alone
            return make(False)

    def _resume(self) -> None:
        saved = torch.load(self.out / "state.pt", weights_only=True, map_location=self.device)
        if _without_time(saved["recipe"]) != self.recipe.identity():
            raise UsageError(f"{self.out} contains the state of another recipe; choose an empty folder")
        self.model.load_state_dict(saved["model"])
        self.average = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.state = TrainState(saved["step"], saved["seconds"])

    def _save(self) -> None:
        temporary = self.out / "state.pt.part"
        torch.save(
            {
                "recipe": repr(self.recipe.to_dict()),
                "model": self.model.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
                "step": self.state.step,
                "seconds": self.state.seconds,
            },
            temporary,
        )
        temporary.replace(self.out / "state.pt")

    def _rate(self) -> float:
        """Return the learning rate: warm-up by steps, then cosine by the elapsed share of the time."""
        warm = min(1.0, (self.state.step + 1) / self.recipe.optimizer.warmup_steps)
        done = min(1.0, self.state.seconds / (60 * self.recipe.minutes))
        cosine = LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * done))
        return self.recipe.optimizer.learning_rate * warm * cosine

    def step(self) -> dict[str, float]:
        """Make one optimiser step and return the parts of the loss."""
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, parts = self._loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.gradient_norm)
        self.optimizer.step()
        decay = min(self.recipe.optimizer.ema, (1 + self.state.step) / (10 + self.state.step))
        with torch.no_grad():
            current = {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}
            torch._foreach_lerp_([self.average[name] for name in current], list(current.values()), 1 - decay)
        self.state.step += 1
        return {"loss": float(loss.detach()), **parts}

    def _loss(self) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of this step's episode, of single images or of clips."""
        step = self.state.step
        chance = np.random.default_rng((self.recipe.seed, step, 4)).random()
        if self.clips is not None and chance < self.recipe.clips.share:
            return clip_loss(self.model, self._moved(self.clips.draw(step)), self.recipe, step)
        return episode_loss(self.model, self._moved(self.sampler.draw(step)), self.recipe, step)

    def _moved(self, episode: AnyEpisode) -> AnyEpisode:
        """Return the episode with its tensors on the device."""
        values = {item.name: getattr(episode, item.name) for item in dataclasses.fields(episode)}
        moved = {name: value.to(self.device) for name, value in values.items() if isinstance(value, torch.Tensor)}
        return dataclasses.replace(episode, **moved)

    def averaged_model(self) -> ProxyPromptModel:
        """Return a copy of the model with the averaged weights, in evaluation mode."""
        copy = build_model(self.recipe.backbone, self.config, self.model.lora_rank)
        copy.load_state_dict(self.average)
        return copy.eval()

    def run(
        self,
        cancel: CancelToken | None = None,
        validate: Callable[[ProxyPromptModel], dict[str, float]] | None = None,
        validate_every: float = 600.0,
        on_step: Callable[[TrainState, dict[str, float]], None] | None = None,
    ) -> Path:
        """Train until the time is used up or the training is cancelled; save the state every minute.

        Args:
            cancel: Stops after the current step and saves the state.
            validate: Called with the averaged model; its time does not count.
            validate_every: Seconds of training between validations.
            on_step: Called with the state and the losses after each step.

        Returns:
            The checkpoint of the averaged weights.
        """
        limit, saved, validated = 60 * self.recipe.minutes, time.monotonic(), self.state.seconds
        self.model.train()
        while self.state.seconds < limit and not (cancel and cancel.cancelled):
            start = training_clock(self.device)
            parts = self.step()
            self.state.seconds += training_clock(self.device) - start
            if on_step:
                on_step(self.state, parts)
            if time.monotonic() - saved > 60:
                self._save()
                saved = time.monotonic()
            if validate and self.state.seconds - validated > validate_every:
                validated = self.state.seconds
                logger.info("step %d: %s", self.state.step, validate(self.averaged_model()))
        self._save()
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
        return path
