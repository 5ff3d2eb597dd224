"""Optimisers of recipes, and how their learning rates change."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ProxyPromptSegmentLib.training.recipe import OptimizerRecipe

NO_DECAY = ("A_log", "A_b_log", ".D", "pos_embed", "bias", "norm")
LOWEST_RATE = 0.03
POWER = 0.9  # of the schedule "poly", as in SAMed


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the trainable parameters in two groups, with and without weight decay."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim < 2 or any(key in name for key in NO_DECAY) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def new_optimizer(model: nn.Module, settings: OptimizerRecipe) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe for the trainable parameters of a model."""

    def make(fused: bool) -> torch.optim.Optimizer:
        groups: Any = parameter_groups(model, settings.weight_decay)  # each time: the optimiser writes into them
        if settings.algorithm == "sgd":
            return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=fused)

    try:
        return make(True)
    except RuntimeError:  # before PyTorch 2.4 the fused kernel is for GPUs alone
        return make(False)


def learning_rate(settings: OptimizerRecipe, step: int, done: float) -> float:
    """Return the learning rate of a step: warm-up by steps, then the schedule of the recipe.

    Args:
        settings: The settings of the optimiser.
        step: Number of the step, from 0.
        done: Share of the training that is over, 0 to 1.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    left = 1 - min(1.0, done)
    falling = {
        "cosine": LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * (1 - left))),
        "poly": left**POWER,
        "constant": 1.0,
    }
    return settings.learning_rate * warm * falling[settings.schedule]
