"""A complete training run of a recipe, validated by the protocol of the report."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports, marked_cases, segment_case
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.devices import memory_may_end
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.memory_estimate import MemoryEstimate, estimate
from ProxyPromptSegmentLib.training.processes import processes_of_environment
from ProxyPromptSegmentLib.training.recipe import Recipe
from ProxyPromptSegmentLib.training.trainer import Trainer, TrainState, tasks_of

logger = logging.getLogger(__name__)

VALIDATION_CASES = 40
SUPPORTS = 4
NO_MEMORY = (
    "a step of the training does not fit into the memory of {device}; draw fewer images (per_step, targets) or "
    "supports (max_supports) in it, or set recompute, frozen_supports or a half precision in the recipe"
)


def validator(
    recipe: Recipe, data: Path, device: str, read: Callable[[Path, str], Split] | None = None
) -> Callable[[ProxyPromptModel], dict[str, float]] | None:
    """Return a function that scores a model on the validation cases of every task, with supports from training.

    Args:
        recipe: The recipe.
        data: Folder of the data sets.
        device: Device to compute on.
        read: Reads a data set by folder and name; by default `load_parts`.

    Returns:
        None if no task has cases for validation that its training cases can support.
    """
    sets: dict[str, tuple[list[Case], list[Case]]] = {}
    for task in tasks_of(recipe, data):
        parts = (read or load_parts)(data, task.dataset)
        if not parts.validation or not marked_cases(parts.train, parts.validation[0]):
            logger.warning("%s has no cases for validation; it is trained without", task.dataset)
            continue
        stride = max(1, len(parts.validation) // VALIDATION_CASES)
        sets[task.dataset] = (parts.train, parts.validation[::stride])

    def score(model: ProxyPromptModel) -> dict[str, float]:
        segmenter = Segmenter(model, device)
        scores: dict[str, float] = {}
        for name, (pool, cases) in sets.items():
            rows = []
            for case in cases:
                # Some data sets have fewer patients, which must not end the training.
                count = min(SUPPORTS, len(marked_cases(pool, case)))
                masks = segment_case(segmenter, case, draw_supports(pool, case, count, seed=0)[0])
                rows.append([dice(case.masks[:, n], masks[:, n]) for n in range(len(case.objects))])
            for number, score_of in enumerate(np.mean(rows, axis=0)):
                scores[f"{name} {cases[0].objects[number]}"] = round(float(score_of), 4)
        return scores

    return score if sets else None


def train_recipe(
    recipe: Recipe,
    data: Path,
    out: Path,
    device: str = "cpu",
    threads: int = 1,
    cancel: CancelToken | None = None,
    on_step: Callable[[TrainState, dict[str, float]], None] | None = None,
    initial: dict[str, torch.Tensor] | None = None,
    base: Path | None = None,
    on_start: Callable[[str, int], None] | None = None,
) -> Path:
    """Train a recipe, or resume its training, and return the checkpoint.

    Args:
        recipe: The recipe.
        data: Folder of the data sets.
        out: Folder for the state and the checkpoint.
        device: Device to compute on.
        threads: CPU threads; small convolutions gain little from more than one.
        cancel: Stops after the current step; the state is saved.
        on_step: Called with the state and the losses after each step, in the first process.
        initial: Weights to start from.
        base: File of the official weights of the backbone; by default those of the registry.
        on_start: Called with a sentence about what is trained, and the number of steps, 0 if the time counts.

    Raises:
        DeviceError: If memory runs out.
    """
    torch.set_num_threads(threads)
    processes = processes_of_environment(torch.device(device))
    place = processes.device(torch.device(device))
    with memory_may_end(place, NO_MEMORY.format(device=place)):
        read = functools.cache(load_parts)  # large sets take minutes; training and validation share them
        trainer = Trainer(recipe, data, out, str(place), initial, base, processes, read)
        if on_start is not None and processes.first:
            on_start(described(trainer), trainer.steps)
        check = validator(recipe, data, str(place), read)
        read.cache_clear()
        return trainer.run(cancel, check, on_step=on_step if processes.first else None)


def described(trainer: Trainer) -> str:
    """Return a sentence about what is trained on what."""
    learned = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in trainer.model.parameters() if not p.requires_grad)
    on = f", on {frozen / 1e6:.1f} M frozen ones of '{trainer.base.name}'" if trainer.base else ""
    length = f"{trainer.steps} steps" if trainer.steps else f"{trainer.recipe.minutes:g} min"
    several = f" by {trainer.processes.count} processes" if trainer.processes.count > 1 else ""
    memory = f"; about {estimated(trainer).total / 1e9:.1f} GB of memory" if trainer.base else ""
    return f"{learned / 1e6:.1f} M parameters are trained{on}, for {length}{several}{memory}"


def estimated(trainer: Trainer) -> MemoryEstimate:
    """Estimate the memory of a training, by the largest episode that it can draw."""
    images, objects = trainer.sampler.largest
    return estimate(trainer.recipe, trainer.config, objects, images, trainer.model.lora_rank)
