"""The keys of a recipe that say how the trainer computes: optimiser, unit, precision, epochs, accumulation."""

from __future__ import annotations

import ast
import dataclasses

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, TINY
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.optimising import new_optimizer
from ProxyPromptSegmentLib.training.recipe import (
    ComputingRecipe,
    EpisodeRecipe,
    read_recipe,
)
from ProxyPromptSegmentLib.training.trainer import Trainer
from trainer_cases import recipe, same


def test_the_papers_optimiser_is_sgd_with_its_three_numbers():
    read = read_recipe(resource_path("recipes/paper.json"))
    made = new_optimizer(torch.nn.Linear(2, 2), read.optimizer)
    assert isinstance(made, torch.optim.SGD)
    assert {group["momentum"] for group in made.param_groups} == {0.9}
    assert {group["lr"] for group in made.param_groups} == {0.01}
    assert [group["weight_decay"] for group in made.param_groups] == [0.0005, 0.0]
    losses = read.losses
    assert (losses.bce, losses.prior, losses.presence, losses.quality) == (0, 0, 0, 0)
    assert (read.episodes.draw, read.episodes.max_supports, read.episodes.all_supports) == ("targets", 15, True)
    robust = new_optimizer(torch.nn.Linear(2, 2), read_recipe(resource_path("recipes/robust.json")).optimizer)
    assert isinstance(robust, torch.optim.AdamW)


@pytest.mark.parametrize(("schedule", "wanted"), [("poly", 0.5**0.9), ("constant", 1.0), ("cosine", 0.515)])
def test_steps_are_the_unit_of_the_schedule_where_they_count(data, tiny, clock, tmp_path, schedule, wanted):
    counted = recipe(steps=4, learning_rate=1.0, warmup_steps=1, schedule=schedule)
    trainer = Trainer(dataclasses.replace(counted, steps=4, minutes=0.001), data, tmp_path)
    trainer.state.step = 2
    assert trainer._rate() == pytest.approx(wanted)
    trainer.state.step = 0
    trainer.run()
    assert trainer.state.step == trainer.steps == 4


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision_trains_weights_in_single_precision_and_resumes(data, tiny, clock, tmp_path, precision):
    half = recipe(steps=2, computing=ComputingRecipe(precision=precision))
    trainer = Trainer(half, data, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    assert all(value.isfinite().all() and value.dtype == before[name].dtype for name, value in after.items())
    assert not same(before, after)
    resumed = Trainer(dataclasses.replace(half, minutes=1), data, tmp_path)
    assert resumed.state.step == 2
    if precision == "float16":
        assert resumed._scaler.get_scale() == trainer._scaler.get_scale()


def test_an_epoch_has_every_image_as_a_target_once(data, tiny, tmp_path):
    drawn = EpisodeRecipe(draw="targets", all_supports=True, emptied=0.0)
    made = recipe(epochs=3, episodes=drawn, computing=ComputingRecipe(accumulate=2))
    trainer = Trainer(made, data, tmp_path)
    assert trainer.sampler.per_epoch == 4 and trainer.steps == 6
    seen = []
    draw = trainer.sampler.draw
    trainer.sampler.draw = lambda number: seen.append(number) or draw(number)
    trainer.run()
    assert seen == list(range(12)) and trainer.state.step == 6


def test_accumulated_episodes_are_averaged(data, tiny, tmp_path):
    drawn = EpisodeRecipe(draw="targets", all_supports=True, emptied=0.0)
    plain = recipe(steps=9, gradient_norm=1e9, algorithm="sgd", momentum=0.0, weight_decay=0.0, warmup_steps=1,
                   learning_rate=1.0, schedule="constant", episodes=drawn)  # fmt: skip
    moved = []
    for number, accumulate in enumerate((1, 2)):
        trainer = Trainer(dataclasses.replace(plain, computing=ComputingRecipe(accumulate=accumulate)), data,
                          tmp_path / str(number))  # fmt: skip
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        starts = [trainer.state.step]
        if accumulate == 1:  # both episodes from the same weights
            steps = []
            for episode in (0, 1):
                trainer.model.load_state_dict(before, strict=False)
                trainer.state.step = episode
                trainer.step()
                steps.append({name: p.detach() - before[name] for name, p in trainer.model.named_parameters()})
            moved.append({name: (steps[0][name] + steps[1][name]) / 2 for name in before})
        else:
            trainer.step()
            moved.append({name: p.detach() - before[name] for name, p in trainer.model.named_parameters()})
        assert starts == [0]
    for name, value in moved[0].items():
        torch.testing.assert_close(moved[1][name], value, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"changes": {**TINY, **EVERYTHING, "inter_object": "pooled"}}, 'set objects to "several"'),
        ({"lora_encoder": 8}, "lora_encoder and lora_decoder are for official backbones"),
        ({"base": "mine"}, "base is for official backbones"),
    ],
)
def test_a_recipe_that_would_train_something_else_than_what_is_used_is_refused(data, tiny, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        Trainer(recipe(**changes), data, tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"name": "x", "steps": 5, "epochs": 2}', "steps is 5 and epochs is 2; give one of them"),
        ('{"name": "x", "epochs": 2}', 'epochs only has an effect if draw is "targets"'),
        ('{"name": "x", "objects": "several", "frozen_supports": true}', "objects, frozen_supports only has an effect"),
        ('{"name": "x", "accumulate": 0}', "accumulate is 0; it must be at least 1"),
        ('{"name": "x", "lora_decoder": -1}', "lora_decoder is -1; it must be at least 0"),
        ('{"name": "x", "algorithm": "adam"}', 'algorithm is "adam"; it must be "adamw" or "sgd"'),
    ],
)
def test_keys_that_contradict_each_other_are_named(tmp_path, text, sentence):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        read_recipe(tmp_path / "recipe.json")


def test_a_state_from_before_a_key_existed_resumes(data, tiny, clock, tmp_path):
    Trainer(recipe(steps=1), data, tmp_path).run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    old = ast.literal_eval(state["recipe"])
    for key in ("steps", "epochs", "algorithm", "draw", "recompute", "lora_encoder", "base"):
        del old[key]
    torch.save({**state, "recipe": repr(old)}, tmp_path / "state.pt")
    assert Trainer(recipe(steps=2), data, tmp_path).state.step == 1
