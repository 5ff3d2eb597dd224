"""The benchmark of PROMISE12 with 58 slices: what it learns from, and trainings that continue where they ended."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.training.recipe import read_recipe


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import promise_table

    yield promise_table
    for name in ("promise_table", "promise_training", "adapt_trials"):
        sys.modules.pop(name, None)


def case(number, first, last, slices=32, side=24):
    rng = np.random.default_rng(number)
    masks = np.zeros((slices, 1, side, side), np.uint8)
    masks[first:last, 0, 6:18, 6:18] = 1
    images = rng.normal(50, 5, (slices, side, side)) + 60 * masks[:, 0]
    name = f"case{number}"
    return Case(
        dataset="promise12",
        patient=name,
        images=images.astype(np.float32),
        masks=masks,
        objects=("prostate",),
        spacing_mm=None,
        name=name,
    )


def test_the_slices_are_those_with_the_gland_and_their_neighbours_on_both_sides(table):
    cases = [case(0, 8, 25), case(1, 0, 13), case(2, 7, 25)]
    chosen = table.chosen_slices(cases, 58)
    assert sum(len(one.images) for one in chosen) == 58
    assert [int(one.masks.any((1, 2, 3)).sum()) for one in chosen] == [17, 13, 18]
    assert not chosen[0].masks[0].any() and not chosen[0].masks[-1].any()
    sheets = table.sheets_of(chosen)
    pairs = table.support_of(sheets, 15).pairs
    assert len(pairs) == 15 and all(pair.masks.any() for pair in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "robust"])
def test_a_training_that_was_stopped_continues_to_the_same_weights_and_leaves_the_encoder(
    table, tmp_path, monkeypatch, name
):
    ticks = itertools.count()
    import promise_training

    monkeypatch.setattr(promise_training.time, "process_time", lambda: float(next(ticks)))
    monkeypatch.setattr(promise_training, "TARGETS", 2)
    leftout = build_model("sam-compact", "robust").eval()
    sheets = table.sheets_of([case(n, 1, 3, slices=4) for n in range(3)])
    recipe = read_recipe(resource_path(f"recipes/{name}.json"))
    recipe = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, warmup_steps=1))
    store = FeatureStore(leftout.backbone, sheets, torch.device("cpu"), 1)
    assert store.embed_sheets(CancelToken()) and store.embed_variants(2, True, CancelToken())

    def trained(stop):
        path = tmp_path / f"{stop}.safetensors"
        for _ in range(2 if stop else 1):
            training = table.PromptTraining(recipe, leftout, store, 2)
            training.resume(path)
            while not training.done and not (stop and training.step == 1 and not path.is_file()):
                training.advance()
            training.save(path)
        return training.result().state_dict()

    whole, stopped, before = trained(False), trained(True), leftout.state_dict()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    frozen = [key for key in before if key.startswith("backbone.sam.image_encoder.")]
    assert frozen and all(torch.equal(before[key], whole[key]) for key in frozen)
    decoder = [key for key in before if key.startswith("backbone.sam.mask_decoder.") and before[key].ndim > 1]
    assert any(not torch.equal(before[key], whole[key]) for key in decoder)
