"""The trainer of the model that reads the support: time-limited, resumable, the same on a processor and a GPU."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ProxyPromptSegmentLib.errors import ProxyPromptError, UsageError
from ProxyPromptSegmentLib.networks.backbones.pyramid_encoder import PyramidImageEncoder
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.checkpoints import save_checkpoint
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.broad.episodes import BroadEpisode, EpisodeSampler, TrainingEpisode
from ProxyPromptSegmentLib.training.broad.graph import StepRunner
from ProxyPromptSegmentLib.training.broad.precision import keep_norms_in_full_precision, plain_attention
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe
from ProxyPromptSegmentLib.training.broad.step import PARTS, Switches, step_loss
from ProxyPromptSegmentLib.training.state_files import reading_state, writing_state
from ProxyPromptSegmentLib.training.trainer import parameter_groups

logger = logging.getLogger(__name__)

STATE = "state.safetensors"
AVERAGE_EVERY = 4  # steps between updates of the averaged weights
SAVE_SECONDS, REPORT_SECONDS = 60.0, 30.0
MANY_SKIPPED = 0.3  # of the steps between two reports: then the last good state is restored
SLOWER = 0.6  # factor of the learning rate after that


class TrainingError(ProxyPromptError):
    """A training that learns nothing."""


class BroadTrainer:
    """Trains a model in one folder; a new trainer in the same folder resumes where the last one stopped.

    Attributes:
        model: The model in training.
        average: Its averaged weights by name, which are the result.
        parts: Names of the numbers that the loss is made of.
        step_count: Steps so far.
        seconds: Training time so far.
        targets: Targets so far, each an image and an object.
    """

    parts: tuple[str, ...] = PARTS

    def __init__(
        self,
        model: ProxyPromptModel,
        sampler: EpisodeSampler,
        recipe: BroadRecipe,
        out: Path,
        half: bool = True,
        graph: bool = True,
    ) -> None:
        """Prepare the training, or resume it.

        Args:
            model: The model with the weights to start from; moved to the sampler's device.
            sampler: Source of episodes.
            recipe: The settings.
            out: Folder of the state and the result.
            half: Compute in bfloat16 where that is safe.
            graph: Capture a step as a CUDA graph where there is CUDA.

        Raises:
            UsageError: If the folder holds the state of another recipe, or the model has no pretrained trunk.
        """
        out.mkdir(parents=True, exist_ok=True)
        self.sampler, self.recipe, self.out, self.half = sampler, recipe, out, half
        self.device = sampler.device
        self.cuda = self.device.type == "cuda"
        self.model = model.to(self.device).train()
        self._encoder = self._prepare()
        keep_norms_in_full_precision(self.model)
        self._encoder.to(memory_format=torch.channels_last)
        self.numbers = (*self.parts, "skipped", "norm")
        self.trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self._new_optimizer()
        self.average = {name: value.detach().clone() for name, value in self._changing().items()}
        self.step_count, self.seconds, self.targets, self.rate_factor = 0, 0.0, 0, 1.0
        zero = torch.zeros((), device=self.device)
        self.switches = Switches(late=zero.clone(), dense_dropout=zero + recipe.dense_dropout, others=zero + 1)
        # What a skipped step reports; made here, because a captured step cannot take numbers from the host.
        self._skipped = torch.tensor([float(name == "skipped") for name in self.numbers], device=self.device)
        self._good: dict[str, torch.Tensor] | None = None
        self._graph = graph and self.cuda
        if (out / STATE).is_file():
            with reading_state(out / STATE):
                self._resume()

    def _prepare(self) -> nn.Module:
        """Prepare the model; return its image encoder, or whatever has convolutions to be computed channels last.

        Raises:
            UsageError: If the model is another.
        """
        backbone = self.model.backbone
        if not isinstance(backbone, SamBackbone) or not isinstance(backbone.sam.image_encoder, PyramidImageEncoder):
            raise UsageError(
                f"a broad training is for the compact model with a pretrained trunk; this one is {backbone.name} for "
                f"{backbone.image_size} pixels. Start from another checkpoint, or from none."
            )
        return backbone.sam.image_encoder

    def _slower(self) -> tuple[Iterable[nn.Parameter], float]:
        """Return the pretrained parameters, and the factor of their learning rate."""
        assert isinstance(self._encoder, PyramidImageEncoder)
        return self._encoder.trunk.parameters(), self.recipe.trunk_rate

    def _loss(self, episode: TrainingEpisode) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of an episode and its `parts`, as one vector without gradient."""
        assert isinstance(episode, BroadEpisode)
        return step_loss(self.model, episode, self.switches)

    def _changing(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a training changes, by name; by default all."""
        found: dict[str, torch.Tensor] = self.model.state_dict()
        return found

    def _load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Load what `_changing` returned when a state was saved."""
        self.model.load_state_dict(tensors)

    def _identity(self) -> dict[str, object]:
        """Return the settings that must be equal to resume: all but the time and the steps."""
        values = json.loads(json.dumps(self.recipe.to_dict()))
        return {key: value for key, value in values.items() if key not in ("minutes", "steps")}

    def _write(self, path: Path, metadata: dict[str, object]) -> None:
        """Write the averaged weights."""
        half = {n: (v.half() if v.is_floating_point() else v).cpu() for n, v in self.average.items()}
        save_checkpoint(path, half, {**metadata, "model": self.model.describe()})

    def _new_optimizer(self) -> torch.optim.Optimizer:
        """Build AdamW with a lower rate for what is pretrained."""
        pretrained, factor = self._slower()
        slower = {id(p) for p in pretrained}
        groups = []
        for group in parameter_groups(self.model, self.recipe.weight_decay):
            for scale, mine in ((factor, True), (1.0, False)):
                chosen = [p for p in group["params"] if (id(p) in slower) == mine]  # type: ignore[attr-defined]
                groups.append({"params": chosen, "weight_decay": group["weight_decay"], "scale": scale})
        optimizer = torch.optim.AdamW(
            groups, lr=self.recipe.learning_rate, betas=(0.9, 0.99), fused=self.cuda, capturable=self.cuda
        )
        if self.cuda:  # a tensor, so that a captured step reads the rate of the moment
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(1e-6, device=self.device)
        return optimizer

    @property
    def done(self) -> float:
        """The share of the training that is done, by steps where these count, else by time; complete from 1 on."""
        if self.recipe.steps:
            return self.step_count / self.recipe.steps
        limit = 60 * self.recipe.minutes
        return self.seconds / limit if limit else 1.0

    def _set_rate(self, done: float) -> None:
        """Set the learning rate for a share of the training."""
        recipe = self.recipe
        warm = min(1.0, (self.step_count + 1) / max(1, recipe.warmup_steps))
        cosine = recipe.end + (recipe.begin - recipe.end) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        rate = recipe.learning_rate * self.rate_factor * warm * cosine
        for group in self.optimizer.param_groups:
            if self.cuda:
                group["lr"].fill_(rate * group["scale"])
            else:
                group["lr"] = rate * group["scale"]

    def _step(self, episode: TrainingEpisode) -> torch.Tensor:
        """Update the weights on one episode; return its numbers. A gradient that is not finite changes nothing."""
        self.optimizer.zero_grad(set_to_none=True)
        with plain_attention():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half, cache_enabled=not self.cuda):
                loss, parts = self._loss(episode)
            loss.backward()
        norm = nn.utils.clip_grad_norm_(self.trainable, self.recipe.gradient_norm)
        fine = torch.isfinite(norm) & torch.isfinite(loss.detach())
        if self.cuda:  # the fused kernel leaves weights and moments alone, without asking the host
            self.optimizer.found_inf = (~fine).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif bool(fine):  # also with gradients of zero, moments and weight decay would move the weights
            self.optimizer.step()
        numbers = torch.cat([parts.float(), (~fine).float().view(1), norm.float().view(1)])
        return torch.where(fine, numbers, self._skipped)

    def run(
        self,
        cancel: CancelToken | None = None,
        report: Callable[[dict[str, float]], None] | None = None,
        every: int = 50,
    ) -> Path:
        """Train until the time or the steps are used up or the training is cancelled.

        Args:
            cancel: Stops after the current step; the state is saved.
            report: Called with the mean numbers since the last report.
            every: Steps between reports; on a slow machine `REPORT_SECONDS` pass sooner.

        Returns:
            The checkpoint of the averaged weights.
        """
        rng = np.random.default_rng((self.recipe.seed, self.step_count))
        torch.manual_seed(self.recipe.seed + self.step_count)
        with torch.no_grad():
            first = self.sampler.draw(rng)
        per_step = first.targets
        self._set_rate(0.0)
        runner = StepRunner(self._step, first, self._graph)
        floats = [name for name, value in self.average.items() if value.is_floating_point()]
        live = self._changing()
        averaged, current = [self.average[name] for name in floats], [live[name] for name in floats]
        total, count = None, 0
        saved = reported = time.monotonic()
        drawn = _Drawer(self.sampler, rng, self.device)
        begin, before = time.monotonic(), self.seconds
        while self.done < 1 and not (cancel and cancel.cancelled):
            self._set_rate(self.done)
            self.switches.late.fill_(float(self.step_count >= self.recipe.empty_from_step))
            numbers = runner(drawn())
            self.step_count += 1
            self.targets += per_step
            total = numbers.clone() if total is None else total + numbers
            count += 1
            if self.step_count % AVERAGE_EVERY == 0:
                decay = min(self.recipe.ema, (1 + self.step_count) / (10 + self.step_count)) ** AVERAGE_EVERY
                with torch.no_grad():
                    torch._foreach_lerp_(averaged, current, 1 - decay)
            if count == every or time.monotonic() - reported > REPORT_SECONDS:
                self._report((total / count).tolist(), report)
                total, count, reported = None, 0, time.monotonic()
            self.seconds = before + time.monotonic() - begin
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        return self.save()

    def _report(self, values: list[float], report: Callable[[dict[str, float]], None] | None) -> None:
        """Report mean numbers, and restore the last good state where too many steps had no finite gradient."""
        numbers = dict(zip(self.numbers, values, strict=True))
        tensors = {f"model.{name}": value for name, value in self._changing().items()}
        tensors |= self._optimizer_tensors()
        if numbers["skipped"] > MANY_SKIPPED and self._good is not None:
            with torch.no_grad():
                for name, mine in tensors.items():
                    # Moments that came later begin at zero again.
                    mine.copy_(self._good[name]) if name in self._good else mine.zero_()
            self.rate_factor *= SLOWER
            logger.warning(
                "gradients were not finite; back to the last good state at %.2f of the rate", self.rate_factor
            )
        elif numbers["skipped"] > MANY_SKIPPED:
            raise TrainingError(
                f"{numbers['skipped']:.0%} of the first steps had gradients that are not finite; try without half "
                "precision or without a graph, or a lower learning rate."
            )
        elif numbers["skipped"] == 0:
            self._good = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        if report:
            report({"step": self.step_count, "targets": self.targets, "seconds": round(self.seconds, 1), **numbers})

    def save(self) -> Path:
        """Write the state and the averaged weights, each in one piece or not at all; return the latter."""
        tensors = {f"model.{name}": value for name, value in self._changing().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= self._optimizer_tensors()
        about = {
            "step": self.step_count,
            "seconds": self.seconds,
            "targets": self.targets,
            "rate": self.rate_factor,
            "recipe": self._identity(),
        }
        with writing_state(self.out / STATE) as part:
            save_file(
                {n: t.detach().cpu().contiguous() for n, t in tensors.items()}, part, {"about": json.dumps(about)}
            )
        metadata: dict[str, object] = {
            "name": self.recipe.name,
            "recipe": self.recipe.to_dict(),
            "steps": self.step_count,
            "targets": self.targets,
            "training_seconds": round(self.seconds),
        }
        path = self.out / f"{self.recipe.name}.safetensors"
        self._write(path, metadata)
        return path

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors of the optimiser's state by name."""
        return {
            f"optimizer.{number}.{key}": value
            for number, parameter in enumerate(self.trainable)
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, torch.Tensor)
        }

    def _resume(self) -> None:
        """Load the state.

        Raises:
            UsageError: If it is of another recipe.
        """
        with safe_open(self.out / STATE, "pt", device=str(self.device)) as file:
            about = json.loads(file.metadata()["about"])
            if about["recipe"] != self._identity():
                raise UsageError(
                    f"{self.out} holds the state of another recipe; give an empty folder, or the recipe that it is of."
                )
            names = set(file.keys())
            self._load({n[6:]: file.get_tensor(n) for n in names if n.startswith("model.")})
            self.average = {n[8:]: file.get_tensor(n) for n in names if n.startswith("average.")}
            for number, parameter in enumerate(self.trainable):
                prefix = f"optimizer.{number}."
                state = {n[len(prefix) :]: file.get_tensor(n) for n in names if n.startswith(prefix)}
                if state:
                    if not self.cuda:
                        state["step"] = state["step"].cpu()
                    self.optimizer.state[parameter] = state
        self.step_count, self.seconds = int(about["step"]), float(about["seconds"])
        self.targets, self.rate_factor = int(about["targets"]), float(about["rate"])


class _Drawer:
    """Draws the next episode while a GPU computes the last."""

    def __init__(self, sampler: EpisodeSampler, rng: np.random.Generator, device: torch.device) -> None:
        self.sampler, self.rng = sampler, rng
        self.stream = torch.cuda.Stream() if device.type == "cuda" else None

    def __call__(self) -> TrainingEpisode:
        """Return an episode that the current stream may read."""
        with torch.no_grad():
            if self.stream is None:
                return self.sampler.draw(self.rng)
            with torch.cuda.stream(self.stream):
                episode = self.sampler.draw(self.rng)
            torch.cuda.current_stream().wait_stream(self.stream)
            for tensor in episode.tensors():
                tensor.record_stream(torch.cuda.current_stream())
            return episode
