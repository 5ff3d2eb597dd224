"""A complete training run of a recipe, validated by the protocol of the report."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports, marked_cases, segment_case
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.recipe import Recipe, read_recipe
from ProxyPromptSegmentLib.training.trainer import Trainer, TrainState

logger = logging.getLogger(__name__)

VALIDATION_CASES = 40
SUPPORTS = 4


def validator(recipe: Recipe, data: Path, device: str) -> Callable[[ProxyPromptModel], dict[str, float]]:
    """Return a function that scores a model on the validation cases of every task, with supports from training."""
    sets: dict[str, tuple[list[Case], list[Case]]] = {}
    for task in recipe.tasks:
        parts = split(load_dataset(data, task.dataset), task.dataset)
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

    return score


def train_recipe(
    recipe_file: Path,
    data: Path,
    out: Path,
    device: str = "cpu",
    threads: int = 1,
    minutes: float | None = None,
    cancel: CancelToken | None = None,
    on_step: Callable[[TrainState, dict[str, float]], None] | None = None,
    initial: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Train a recipe, or resume its training, and return the checkpoint.

    Args:
        recipe_file: JSON, see `Recipe`.
        data: Folder of the data sets.
        out: Folder for the state and the checkpoint.
        device: Device to compute on.
        threads: CPU threads; small convolutions gain little from more than one.
        minutes: Training time that replaces the recipe's.
        cancel: Stops after the current step; the state is saved.
        on_step: Called with the state and the losses after each step.
        initial: Weights to start from.
    """
    torch.set_num_threads(threads)
    recipe = read_recipe(recipe_file)
    if minutes is not None:
        recipe = dataclasses.replace(recipe, minutes=minutes)
    trainer = Trainer(recipe, data, out, device, initial)
    return trainer.run(cancel, validator(recipe, data, device), on_step=on_step)
