"""The training of a new prompt generator on a frozen image encoder from a few slices, for `promise_table.py`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ProxyPromptSegmentLib.networks.model import ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore, Variant
from ProxyPromptSegmentLib.training.losses import prediction_loss
from ProxyPromptSegmentLib.training.optimising import learning_rate, new_optimizer
from ProxyPromptSegmentLib.training.recipe import Recipe

TARGETS = 4  # of a step, of one patient; their supports are of the two others
LEARNING = 4  # supports of a step through which the contextual encoder and the Bridge Unit are trained


class PromptTraining:
    """The training of a new prompt generator and the mask decoder on cached features, resumable after any step."""

    def __init__(self, recipe: Recipe, leftout: ProxyPromptModel, store: FeatureStore, seconds: float) -> None:
        """Build the model on the backbone of another one."""
        self.recipe, self.store, self.limit = recipe, store, seconds
        torch.manual_seed(recipe.seed)
        self.model = build_model(leftout.backbone.name, recipe.generator)
        self.model.backbone.load_state_dict(leftout.backbone.state_dict())
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(("generator.", "backbone.sam.mask_decoder.")))
        self.trained = {name: one for name, one in self.model.named_parameters() if one.requires_grad}
        self.average = {name: one.detach().clone() for name, one in self.trained.items()}
        self.optimizer = new_optimizer(self.model, recipe.optimizer)
        self.step, self.seconds = 0, 0.0

    @property
    def done(self) -> bool:
        """Whether the time is used up."""
        return self.seconds >= self.limit

    def advance(self) -> float:
        """Do one step; return its loss."""
        began = time.process_time()
        settings = self.recipe.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step, self.seconds / self.limit)
        rng = np.random.default_rng((self.recipe.seed, self.step))
        targets, supports = self._drawn(rng)
        features = self.store.features(targets)
        _, truth, content = self.store.pictures(targets)
        self.model.train()
        prompt = self.model.generator.prompt(features, self._prepared(supports))
        decoded = self.model.backbone.decode(features, prompt)
        related = torch.ones(len(targets), dtype=torch.bool)
        loss, _ = prediction_loss(decoded, prompt, truth, related, self.recipe.losses, self.step, content.unsqueeze(1))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), settings.gradient_norm)
        self.optimizer.step()
        decay = min(0.98, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.trained.items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        self.seconds += time.process_time() - began
        return float(loss.detach())

    def _drawn(self, rng: np.random.Generator) -> tuple[list[Variant], list[Variant]]:
        """Draw targets of one patient and supports of the others, in variants that are all mirrored or none."""
        owners = np.array([sheet.case for sheet in self.store.sheets])
        marked = np.array([bool(sheet.shown.any()) for sheet in self.store.sheets])
        mine = owners == rng.integers(owners.max() + 1)
        targets = rng.choice(np.flatnonzero(mine), TARGETS, replace=False)
        others = np.flatnonzero(~mine & marked)
        episodes = self.recipe.episodes
        most = min(episodes.max_supports, len(others))
        count = most if episodes.all_supports else int(rng.integers(1, most + 1))
        supports = rng.choice(others, count, replace=False)
        mirrored = bool(rng.integers(2))

        def one(place: int) -> Variant:
            own = [variant for variant in self.store.variants[place] if variant.mirrored == mirrored]
            return own[rng.integers(len(own))]

        return [one(n) for n in targets], [one(n) for n in supports]

    def _prepared(self, supports: Sequence[Variant]) -> PreparedSupport:
        features = self.store.features(supports)
        images, masks, _ = self.store.pictures(supports)
        first, rest = slice(0, LEARNING), slice(LEARNING, None)
        parts = [self.model.generator.prepare(features.select(first), images[first], masks[first])]
        if len(supports) > LEARNING:
            with torch.no_grad():
                parts.append(self.model.generator.prepare(features.select(rest), images[rest], masks[rest]))
        return PreparedSupport.concatenate(parts)

    def save(self, path: Path) -> None:
        """Write everything that is needed to continue."""
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        for name, value in self.trained.items():
            tensors[f"weights.{name}"] = value.detach()
            for key, state in self.optimizer.state.get(value, {}).items():
                if isinstance(state, torch.Tensor):
                    tensors[f"{key}.{name}"] = state
        about = {"step": self.step, "seconds": self.seconds, "limit": self.limit}
        partial = path.with_suffix(".partial")
        save_file({key: value.contiguous() for key, value in tensors.items()}, partial, {"about": json.dumps(about)})
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from what is there."""
        if not path.is_file():
            return
        with safe_open(str(path), framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if about["limit"] != self.limit:
            raise SystemExit(f"{path} is of a training of {about['limit']:g} s; give that, or another folder")
        self.step, self.seconds = about["step"], about["seconds"]
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(stored[f"weights.{name}"])
                self.average[name].copy_(stored[f"average.{name}"])
                keys = [
                    key for key in ("momentum_buffer", "step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in stored
                ]
                if keys:
                    self.optimizer.state[value] = {key: stored[f"{key}.{name}"].clone() for key in keys}

    def result(self) -> ProxyPromptModel:
        """Return the model with averaged weights."""
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(self.average[name])
        return self.model.eval()
