"""The estimated memory of a step against what an allocator was asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.networks.proxy_prompt import selective_scan
from ProxyPromptSegmentLib.networks.proxy_prompt.config import PRESETS
from ProxyPromptSegmentLib.networks.proxy_prompt.scan_recurrence import ScanFunction
from ProxyPromptSegmentLib.networks.proxy_prompt.scan_sizes import ScanSizes
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.memory_estimate import LiveBytes, blank_episode, estimate, step_bytes
from ProxyPromptSegmentLib.training.recipe import ComputingRecipe, EpisodeRecipe, Recipe, read_recipe
from ProxyPromptSegmentLib.training.step import episode_loss
from small_official import small_vit_model

TARGETS = EpisodeRecipe(draw="targets", max_supports=15, all_supports=True)


def measured(model, episode, recipe):
    """The most bytes of the allocator at a time, as PyTorch's own profiler hears of them."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        loss, _ = episode_loss(model, episode, recipe)
        loss.backward()
    model.zero_grad(set_to_none=True)
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


@pytest.mark.parametrize(("supports", "recompute"), [(2, False), (2, True), (6, True)])
def test_the_estimate_of_a_step_is_what_the_allocator_is_asked_for(supports, recompute, monkeypatch):
    monkeypatch.setattr(selective_scan, "_default_chunk", lambda u, n: 64)  # as on a graphics card
    recipe = Recipe(name="x", episodes=TARGETS, computing=ComputingRecipe(recompute=recompute, frozen_supports=True))
    model = small_vit_model()
    episode = blank_episode(recipe, model, 2, 1 + supports)
    episode = dataclasses.replace(episode, images=torch.rand(episode.images.shape))
    found = measured(model, episode, recipe)
    counted = step_bytes(model, episode, recipe)
    assert counted == pytest.approx(found, rel=0.1)
    with torch.device("meta"):
        blank = small_vit_model()
        expected = step_bytes(blank, blank_episode(recipe, blank, 2, 1 + supports), recipe)
    assert 0.95 * found < expected < 1.25 * found  # rather too much than too little


@pytest.mark.parametrize("grad", [False, True])
def test_the_scans_sizes_are_those_of_the_scan(grad):
    peaks = []
    for function in (ScanFunction, ScanSizes):
        u, delta = (torch.rand(1024, 2, 2, 24).requires_grad_(grad) for _ in range(2))
        inner, outer = (torch.rand(1024, 2, 2, 8) for _ in range(2))
        with LiveBytes() as found:
            y = function.apply(u, delta, -torch.rand(2, 8, 24), inner, outer, 64, grad)
            if grad:
                y.sum().backward()
        peaks.append(found.peak)
    assert peaks[1] == pytest.approx(peaks[0], rel=0.2)


@pytest.mark.slow
def test_more_supports_objects_and_kept_activations_take_more_and_sgd_less():
    recipe = Recipe(name="x", backbone="sam-compact", episodes=TARGETS)
    config = dataclasses.replace(PRESETS["compact"], vim_depth=1)
    base = estimate(recipe, config, 1, 3)
    assert estimate(recipe, config, 1, 5).step > base.step < estimate(recipe, config, 2, 3).step
    saving = dataclasses.replace(recipe, computing=ComputingRecipe(recompute=True, frozen_supports=True))
    assert estimate(saving, config, 1, 3).step < 0.8 * base.step
    sgd = dataclasses.replace(saving, optimizer=dataclasses.replace(recipe.optimizer, algorithm="sgd"))
    assert estimate(sgd, config, 1, 2).training == base.training * 2 / 3
    assert base.total == base.weights + base.training + base.step


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "gigabytes"), [("sam-vit-b", 24), ("sam-vit-h", 80)])
def test_the_papers_recipe_with_fifteen_supports_and_two_objects_fits(backbone, gigabytes):
    """In single precision, with a quarter of the card left for its libraries and the allocator's reserve."""
    recipe = dataclasses.replace(read_recipe(Path(resource_path("recipes/paper.json"))), backbone=backbone)
    assert recipe.episodes.max_supports == 15
    found = estimate(recipe, PRESETS[recipe.generator], objects=2, images=16)
    assert found.total < 0.75 * gigabytes * 1e9
