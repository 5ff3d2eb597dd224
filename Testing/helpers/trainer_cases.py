"""Recipes and made data for tests of the trainer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, TINY
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.training.recipe import (
    EpisodeRecipe,
    OptimizerRecipe,
    Recipe,
    TaskRecipe,
)


def made_cases(count=5, side=64):
    """Noisy slices with one bright disc each; the truth is the disc."""
    rng, cases = np.random.default_rng(0), []
    rows, columns = np.mgrid[:side, :side]
    for number in range(count):
        center = rng.uniform(0.35 * side, 0.65 * side, 2)
        disc = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < (0.2 * side) ** 2
        image = (rng.normal(60, 8, (side, side)) + 90 * disc).astype(np.float32)
        cases.append(
            Case(
                dataset="made",
                patient=f"patient {number}",
                images=image[None],
                masks=disc[None, None].astype(np.uint8),
                objects=("disc",),
                spacing_mm=None,
            )
        )
    return cases


def recipe(steps=4, **changes):
    """With the fixture ``clock`` it takes this many steps."""
    made = Recipe(
        name="tiny",
        changes={**TINY, **EVERYTHING},
        tasks=(TaskRecipe(dataset="made", per_step=3),),
        minutes=steps / 60,
        optimizer=OptimizerRecipe(warmup_steps=5),
        episodes=EpisodeRecipe(emptied=0.0),
    )
    for group in ("optimizer", "losses"):
        mine = {item.name for item in dataclasses.fields(getattr(made, group))} & changes.keys()
        changed = dataclasses.replace(getattr(made, group), **{name: changes.pop(name) for name in mine})
        made = dataclasses.replace(made, **{group: changed})
    return dataclasses.replace(made, **changes)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
