"""One training of an adaptation, of a fold or of all cases: a number of steps that is fixed, resumable after any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import torch
from torch import nn

from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.training.adapting.episodes import EpisodeSource
from ProxyPromptSegmentLib.training.adapting.objective import adapting_loss
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.weights import freeze_but, is_official, of_encoder, put, trained_names
from ProxyPromptSegmentLib.training.broad.precision import plain_attention
from ProxyPromptSegmentLib.training.broad.step import Switches
from ProxyPromptSegmentLib.training.recomputing import encoder_blocks, recomputed

BETAS = (0.9, 0.99)
LEAST_RATE = 0.02  # share of the peak rate at the end


@dataclass(frozen=True, eq=False)
class StageState:
    """Everything that a stopped training needs to continue as if it had not stopped.

    Attributes:
        step: Steps so far.
        tensors: Weights, averages and moments by name.
    """

    step: int
    tensors: dict[str, torch.Tensor]


class Stage:
    """Trains a model on some cases from the first weights on.

    Attributes:
        step: Steps so far.
        average: Averaged weights by name.
    """

    def __init__(
        self,
        model: ProxyPromptModel,
        start: dict[str, torch.Tensor],
        sources: Sequence[EpisodeSource],
        cases: Sequence[int],
        number: int,
        steps: int,
        settings: AdaptSettings,
    ) -> None:
        """Begin a training.

        Args:
            model: The model, whose trained weights are replaced by the first ones.
            start: The first weights by name, see `trained_names`.
            sources: Sources of episodes, which take turns.
            cases: Numbers of the cases that are learned from.
            number: Number of the stage, from which everything that is drawn follows.
            steps: Number of steps.
            settings: The settings.
        """
        self.model, self.start, self.sources, self.cases = model, start, list(sources), list(cases)
        self.number, self.steps, self.settings = number, steps, settings
        self._names = trained_names(model, settings.trained)
        put(model, start)
        self._parameters = freeze_but(model, self._names)
        self._first = [start[name] for name in self._names]
        self.average = {name: value.detach().clone() for name, value in start.items()}
        self._averaged = [self.average[name] for name in self._names]
        encoder = set(of_encoder(self._names))
        self._encoder = model.backbone if encoder else None
        # SAM's transformers keep gigabytes for an image of 1024 pixels, the compact encoder does not.
        self._blocks = encoder_blocks(model.backbone) if encoder and is_official(model) else []
        shares = (
            (1.0, [name not in encoder for name in self._names]),
            (settings.encoder_rate, [name in encoder for name in self._names]),
        )
        groups = [
            {"params": list(compress(self._parameters, mine)), "share": share} for share, mine in shares if any(mine)
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=1e-6, betas=BETAS, weight_decay=0.0)
        device = self._parameters[0].device
        one = torch.ones((), device=device)
        self._switches = Switches(late=one, dense_dropout=one * 0, others=one)
        self.step = 0

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.steps

    def advance(self) -> float:
        """Do one step; return its loss. A gradient that is not finite changes nothing."""
        seed = (self.settings.seed, self.number, self.step)
        self.model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate() * group["share"]
        self._optimizer.zero_grad(set_to_none=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_of(seed))
            loss = self._backward(seed)
        norm = nn.utils.clip_grad_norm_(self._parameters, self.settings.gradient_norm)
        if bool(torch.isfinite(norm)):
            self._optimizer.step()
            self._return()
        self.step += 1
        decay = min(self.settings.ema, self.step / (self.step + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, list(self._parameters), 1 - decay)
        return loss

    def _backward(self, seed: Sequence[int]) -> float:
        others = self.step % self.settings.others_every == 0
        source = self.sources[self.step % len(self.sources)]
        with plain_attention(), recomputed(self._blocks):
            drawn = source.draw(self.cases, seed, self._encoder)
            loss = adapting_loss(self.model, drawn, self._switches, others)
            loss.backward()
        return float(loss.detach())

    def _rate(self) -> float:
        """Return the learning rate of this step: a rise, then a cosine."""
        settings, done = self.settings, (self.step + 0.5) / self.steps
        rise = min(1.0, done / settings.warmup) if settings.warmup else 1.0
        cosine = LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))
        return settings.learning_rate * rise * cosine

    def _return(self) -> None:
        """Let the weights return a little to the first ones, as weight decay would let them return to 0."""
        share = self.settings.anchor * self._rate() / self.settings.learning_rate
        with torch.no_grad():
            torch._foreach_lerp_(list(self._parameters), self._first, share)

    def state(self) -> StageState:
        """Return a copy of everything that is needed to continue."""
        tensors = {f"average.{name}": value.clone() for name, value in self.average.items()}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            tensors[f"weights.{name}"] = parameter.detach().clone()
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = value.detach().clone()
        return StageState(self.step, tensors)

    def resume(self, state: StageState) -> None:
        """Continue from a state of this very stage."""
        self.step = state.step
        put(self.model, {name: state.tensors[f"weights.{name}"] for name in self._names})
        with torch.no_grad():
            for name, value in self.average.items():
                value.copy_(state.tensors[f"average.{name}"])
        for name, parameter in zip(self._names, self._parameters, strict=True):
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"step.{name}" in state.tensors:
                moments = {key: state.tensors[f"{key}.{name}"].clone() for key in keys}
                moments |= {key: moments[key].to(parameter.device) for key in keys[1:]}
                self._optimizer.state[parameter] = moments


def hash_of(seed: Sequence[int]) -> int:
    """Return one number for several, the same in every process."""
    mixed = 0
    for number in seed:
        mixed = (mixed * 1_000_003 + number + 1) % (1 << 62)
    return mixed
