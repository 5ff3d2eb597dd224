"""The training of a new prompt generator and the mask decoder on cached features, resumable after any step.

The image encoder stays as it is, so each slice is embedded once, with a few changed variants. Targets and supports are
slices of one data set; a target reads slices of other patients.

References:
    Proxy Prompt, section 7.1: each image is a target and a support of the others; section 11.6: K = M - 1 in training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore, Variant
from ProxyPromptSegmentLib.training.adapting.variants import may_be_mirrored
from ProxyPromptSegmentLib.training.few_images.sheets import Learned
from ProxyPromptSegmentLib.training.losses import prediction_loss
from ProxyPromptSegmentLib.training.optimising import learning_rate, new_optimizer
from ProxyPromptSegmentLib.training.recipe import Recipe

TARGETS = 4  # of a step
LEARNING = 4  # supports of a step through which the contextual encoder and the Bridge Unit are trained
MOST_VARIANTS, EMBEDDING_SHARE = 6, 0.25  # of each slice, beside itself; of the time
WARMUP_SHARE = 0.05  # of the time
LARGEST_DECAY = 0.98
STATES = ("momentum_buffer", "step", "exp_avg", "exp_avg_sq")


@dataclass(eq=False)
class _Group:
    store: FeatureStore
    patients: np.ndarray
    marked: np.ndarray
    mirror: bool


class PromptTraining:
    """One training; after `resume` it continues where it was saved.

    Attributes:
        model: The model, whose backbone is a copy that belongs to the training.
        step: Number of steps.
        seconds: Processor seconds so far, embedding included.
    """

    def __init__(self, recipe: Recipe, model: ProxyPromptModel, learned: Sequence[Learned], seconds: float) -> None:
        """Choose what is trained.

        Args:
            recipe: Its optimiser, losses, supports and seed.
            model: A prompt generator with random weights on a backbone; what has a gradient is trained.
            learned: What is learned from.
            seconds: Processor seconds that the training may take.
        """
        self.recipe, self.model, self.limit = recipe, model, seconds
        self._clock = next(model.parameters()).device
        self.trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.average = {name: one.detach().clone() for name, one in self.trained.items()}
        # The statistics of batch norms have no gradient and change with each step all the same.
        self._buffers = {name: one for name, one in model.state_dict().items() if name in dict(model.named_buffers())}
        self.optimizer = new_optimizer(model, recipe.optimizer)
        self.step, self.seconds, self._variants = 0, 0.0, -1
        self._groups = [
            _Group(
                FeatureStore(model.backbone, part.sheets, self._clock, recipe.seed + number),
                part.patients,
                np.array([bool(sheet.shown.any()) for sheet in part.sheets]),
                may_be_mirrored(("object",) * len(part.sheets[0].masks), part.sheets),
            )
            for number, part in enumerate(learned)
        ]

    @property
    def done(self) -> bool:
        """Whether the time is used up; at least one step is made."""
        return self.seconds >= self.limit and self.step > 0

    def embed(self, cancel: CancelToken) -> bool:
        """Embed all slices, and as many variants as a quarter of the time allows; return False if cancelled."""
        self.model.eval()
        began = training_clock(self._clock)
        if not all(group.store.embed_sheets(cancel) for group in self._groups):
            return False
        once = max(1e-6, training_clock(self._clock) - began)
        if self._variants < 0:
            self._variants = int(np.clip(EMBEDDING_SHARE * self.limit / once, 1, MOST_VARIANTS))
        if not all(group.store.embed_variants(self._variants, group.mirror, cancel) for group in self._groups):
            return False
        if not self.step:
            self.seconds += training_clock(self._clock) - began
        return True

    def advance(self) -> float:
        """Do one step; return its loss."""
        began, settings = training_clock(self._clock), self.recipe.optimizer
        done = self.seconds / max(1e-9, self.limit)
        # The steps of a recipe's warm-up may be more than the time allows.
        warm = min(1.0, (done + 1e-3) / WARMUP_SHARE)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = warm * learning_rate(replace(settings, warmup_steps=1), self.step, done)
        rng = np.random.default_rng((self.recipe.seed, self.step))
        torch.manual_seed(self.recipe.seed + self.step)
        group = self._groups[self.step % len(self._groups)]
        targets, supports, chosen = self._drawn(group, rng)
        features = group.store.features(targets)
        _, truth, content = group.store.pictures(targets)
        self.model.train()
        prompt = self.model.generator.prompt(features, self._prepared(group, supports), chosen)
        decoded = self.model.backbone.decode(features, prompt)
        related = torch.ones(len(targets), dtype=torch.bool, device=self._clock)
        loss, _ = prediction_loss(decoded, prompt, truth, related, self.recipe.losses, self.step, content.unsqueeze(1))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), settings.gradient_norm)
        self.optimizer.step()
        decay = min(LARGEST_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.trained.items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        self.seconds += training_clock(self._clock) - began
        return float(loss.detach())

    def _drawn(self, group: _Group, rng: np.random.Generator) -> tuple[list[Variant], list[Variant], torch.Tensor]:
        """Draw targets, the supports of all of them, and the numbers of those that each target reads, ``(B, k)``."""
        order, episodes = rng.permutation(len(group.patients)), self.recipe.episodes
        if episodes.all_supports:
            targets, picked = all_others(group.patients, group.marked, order[:TARGETS], episodes.max_supports, rng)
        else:
            targets, supports = apart(group.patients, group.marked, order, episodes.max_supports)
            picked = [supports[: int(rng.integers(1, len(supports) + 1))]] * len(targets)
        union = rng.permutation(np.unique(np.concatenate(picked)))
        place = {int(n): number for number, n in enumerate(union)}
        chosen = torch.tensor([[place[int(n)] for n in mine] for mine in picked], device=self._clock)
        mirrored = group.mirror and bool(rng.integers(2))

        def one(n: int) -> Variant:
            own = [variant for variant in group.store.variants[n] if variant.mirrored == mirrored]
            own = own or group.store.variants[n]
            return own[int(rng.integers(len(own)))]

        return [one(n) for n in targets], [one(n) for n in union], chosen

    def _prepared(self, group: _Group, supports: Sequence[Variant]) -> PreparedSupport:
        """Prepare the supports; only the first few have a gradient."""
        features, generator = group.store.features(supports), self.model.generator
        images, masks, _ = group.store.pictures(supports)
        parts = [generator.prepare(features.select(slice(0, LEARNING)), images[:LEARNING], masks[:LEARNING])]
        if len(supports) > LEARNING:
            rest = slice(LEARNING, None)
            with torch.no_grad():
                parts.append(generator.prepare(features.select(rest), images[rest], masks[rest]))
        return PreparedSupport.concatenate(parts)

    def save(self, path: Path) -> None:
        """Write everything that is needed to continue.

        Raises:
            OutputError: If it cannot be written.
        """
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        for name, value in self.trained.items():
            tensors[f"weights.{name}"] = value.detach()
            for key, state in self.optimizer.state.get(value, {}).items():
                if isinstance(state, torch.Tensor):
                    tensors[f"{key}.{name}"] = state
        tensors |= {f"buffers.{name}": value for name, value in self._buffers.items()}
        about = {"step": self.step, "seconds": self.seconds, "variants": self._variants}
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(kept, partial, {"about": json.dumps(about)})
            partial.replace(path)
        except OSError as error:
            raise OutputError(
                f"the training cannot be saved in {path.parent}: {error}; choose another folder."
            ) from None

    def resume(self, path: Path) -> None:
        """Continue from what was saved, if there is anything; what is damaged is trained again."""
        if not path.is_file():
            return
        try:
            with safe_open(str(path), framework="pt") as file:
                about = json.loads(file.metadata()["about"])
                stored = {name: file.get_tensor(name).to(self._clock) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, LookupError, TypeError):
            return
        self.step, self.seconds, self._variants = about["step"], about["seconds"], about["variants"]
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(stored[f"weights.{name}"])
                self.average[name].copy_(stored[f"average.{name}"])
                keys = [key for key in STATES if f"{key}.{name}" in stored]
                if keys:
                    self.optimizer.state[value] = {key: stored[f"{key}.{name}"].clone() for key in keys}
            for name, value in self._buffers.items():
                value.copy_(stored[f"buffers.{name}"])

    def result(self) -> ProxyPromptModel:
        """Return the model with averaged weights."""
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(self.average[name])
        return self.model.eval()


def all_others(
    patients: np.ndarray, marked: np.ndarray, targets: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Let each target read as many slices of other patients as all of them have, the paper's K = M - 1.

    Args:
        patients: Number of the patient of each slice, ``(n,)``.
        marked: Whether a slice shows an object, ``(n,)``.
        targets: Slices to segment.
        most: Largest number of supports.
        rng: Draws them where they are fewer than there are.

    Returns:
        The targets that have supports, and those of each.
    """
    others = [np.flatnonzero(marked & (patients != patients[n])) for n in targets]
    kept = np.array([n for n, mine in zip(targets, others, strict=True) if len(mine)])
    others = [mine for mine in others if len(mine)]
    read = min(most, *(len(mine) for mine in others))
    return kept, [rng.choice(mine, read, replace=False) for mine in others]


def apart(patients: np.ndarray, marked: np.ndarray, order: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return targets, and supports of other patients than all of theirs, which all of them read.

    So a step prepares few supports, and more steps are made in the same time.

    Args:
        patients: Number of the patient of each slice, ``(n,)``; marked slices are of two at least.
        marked: Whether a slice shows an object, ``(n,)``.
        order: All slices, in the order in which they are taken.
        most: Largest number of supports.
    """
    supports = [next(int(n) for n in order if marked[n])]
    targets: list[int] = []
    for n in order:
        if n == supports[0]:
            continue
        if len(targets) < TARGETS and patients[n] not in patients[supports]:
            targets.append(int(n))
        elif len(supports) < most and marked[n] and patients[n] not in patients[targets]:
            supports.append(int(n))
    return np.array(targets), np.array(supports)
