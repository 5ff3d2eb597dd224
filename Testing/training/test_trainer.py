"""The trainer: it learns, stops in time, and resumes as if it had never stopped."""

from __future__ import annotations

import ast
import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import TINY
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint
from ProxyPromptSegmentLib.networks.proxy_prompt.config import PRESETS
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training import trainer as module
from ProxyPromptSegmentLib.training.trainer import Trainer, parameter_groups
from trainer_cases import recipe, same


def test_it_overfits_one_episode(data, tiny, tmp_path):
    trainer = Trainer(recipe(steps=600, learning_rate=3e-3, warmup_steps=1), data, tmp_path / "out")
    episode = trainer.sampler.draw(0)
    trainer.sampler.draw = lambda step: episode
    losses = [trainer.step() for _ in range(30)]
    assert np.mean([p["loss"] for p in losses[-3:]]) < 0.5 * losses[0]["loss"]
    assert losses[-1]["dice"] < losses[0]["dice"] - 0.15
    assert losses[-1]["bce"] < 0.6 * losses[0]["bce"]


def test_every_part_of_the_loss_is_reported_and_they_add_up(data, tiny, tmp_path):
    trainer = Trainer(recipe(), data, tmp_path)
    r, parts = trainer.recipe.losses, trainer.step()
    assert parts.keys() == {"loss", "dice", "bce", "prior", "presence", "quality"}
    expected = parts["dice"] + r.bce * parts["bce"] + r.prior * parts["prior"]
    expected += r.presence * parts["presence"] + r.quality * parts["quality"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_part_with_weight_zero_is_left_out(data, tiny, tmp_path):
    trainer = Trainer(recipe(prior=0.0, presence=0.0, quality=0.0, bce=0.0), data, tmp_path)
    parts = trainer.step()
    assert parts["loss"] == pytest.approx(parts["dice"], rel=1e-6)


def test_a_training_that_was_stopped_resumes_as_if_it_had_not(data, tiny, clock, tmp_path):
    through = Trainer(recipe(steps=6), data, tmp_path / "through")
    through.run()
    cancel = CancelToken()
    stopped = Trainer(recipe(steps=6), data, tmp_path / "stopped")
    stopped.run(cancel, on_step=lambda state, parts: cancel.cancel() if state.step == 3 else None)
    assert stopped.state.step == 3
    torch.manual_seed(99)
    resumed = Trainer(recipe(steps=6), data, tmp_path / "stopped")
    assert (resumed.state.step, resumed.state.seconds) == (3, 3.0)
    assert same(resumed.model.state_dict(), stopped.model.state_dict())
    assert same(resumed.average, stopped.average)
    resumed.run()
    assert resumed.state == through.state
    assert same(resumed.model.state_dict(), through.model.state_dict())
    assert same(resumed.average, through.average)
    for ours, theirs in zip(resumed.optimizer.state.values(), through.optimizer.state.values(), strict=True):
        assert torch.equal(ours["exp_avg_sq"], theirs["exp_avg_sq"])
    assert not same(resumed.model.state_dict(), stopped.model.state_dict())


def test_the_state_of_another_recipe_is_refused(data, tiny, clock, tmp_path):
    Trainer(recipe(steps=1), data, tmp_path).run()
    for other in (recipe(steps=1, bce=1.0), recipe(steps=1, changes={**TINY, "temperature": 2.0})):
        with pytest.raises(UsageError, match="state of another recipe; choose an empty folder"):
            Trainer(other, data, tmp_path)
    assert Trainer(recipe(steps=1), data, tmp_path).state.step == 1


def test_more_minutes_resume_what_fewer_had_begun(data, tiny, clock, tmp_path):
    Trainer(recipe(steps=2), data, tmp_path).run()
    longer = Trainer(recipe(steps=5), data, tmp_path)
    assert longer.state.step == 2
    longer.run()
    assert (longer.state.step, longer.state.seconds) == (5, 5.0)
    assert read_checkpoint(tmp_path / "tiny.safetensors")[1]["steps"] == 5


def test_a_state_of_an_older_version_is_known_by_what_its_recipe_said(data, tiny, clock, tmp_path):
    Trainer(recipe(steps=1), data, tmp_path).run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    flat = ast.literal_eval(state["recipe"])
    assert {"learning_rate", "bce", "unrelated", "clip", "clip_share", "clicks"} <= flat.keys()
    torch.save({**state, "recipe": repr(dict(sorted(flat.items())))}, tmp_path / "state.pt")
    assert Trainer(recipe(steps=1), data, tmp_path).state.step == 1
    torch.save({**state, "recipe": "no recipe"}, tmp_path / "state.pt")
    with pytest.raises(UsageError, match="state of another recipe"):
        Trainer(recipe(steps=1), data, tmp_path)


def test_it_stops_when_its_minutes_are_used(data, tiny, clock, tmp_path):
    trainer, seen = Trainer(recipe(steps=3), data, tmp_path), []
    trainer.run(on_step=lambda state, parts: seen.append((state.step, state.seconds)))
    assert seen == [(1, 1.0), (2, 2.0), (3, 3.0)]
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()  # nothing is left to do
    assert trainer.state.step == 3
    assert same(before, trainer.model.state_dict())


def test_the_real_clock_ends_it_too(data, tiny, tmp_path):
    trainer = Trainer(dataclasses.replace(recipe(), minutes=0.005), data, tmp_path)
    ends = []
    trainer.run(on_step=lambda state, parts: ends.append(state.seconds))
    assert len(ends) == trainer.state.step >= 1
    assert ends == sorted(ends) and all(end < 0.3 for end in ends[:-1]) and ends[-1] >= 0.3


def test_the_time_of_validation_does_not_count(data, tiny, clock, tmp_path, caplog):
    trainer, models = Trainer(recipe(steps=5), data, tmp_path), []

    def validate(model):
        module.training_clock(None)
        models.append(model)
        return {"dice": 0.5}

    with caplog.at_level("INFO"):
        trainer.run(validate=validate, validate_every=1.5)
    assert trainer.state.step == 5
    assert len(models) == 2
    assert not models[0].training
    assert trainer.model.training
    assert "step 2: {'dice': 0.5}" in caplog.text


def test_it_is_silent_unless_asked(data, tiny, clock, tmp_path, capfd, caplog):
    Trainer(recipe(steps=1), data, tmp_path).run()
    assert capfd.readouterr().out == ""
    assert caplog.text == ""


def test_the_learning_rate_warms_up_and_falls_with_the_time(data, tiny, tmp_path):
    trainer = Trainer(recipe(minutes=1.0, warmup_steps=10, learning_rate=1.0), data, tmp_path)
    rates = []
    for step, seconds in ((0, 0), (4, 0), (9, 0), (50, 30), (99, 60), (100, 90)):
        trainer.state.step, trainer.state.seconds = step, seconds
        rates.append(trainer._rate())
    assert rates == pytest.approx([0.1, 0.5, 1.0, 0.515, 0.03, 0.03])
    trainer.state.step, trainer.state.seconds = 0, 0.0
    trainer.step()
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.1}


@pytest.mark.parametrize("clip", [0.01, 0.1])
def test_a_gradient_is_shortened_to_the_recipes_length_and_keeps_its_direction(data, tiny, tmp_path, clip):
    free, clipped = (Trainer(recipe(gradient_norm=most), data, tmp_path / str(most)) for most in (1e9, clip))
    for trainer in (free, clipped):
        trainer.step()
    whole, short = (
        torch.cat([state["exp_avg"].ravel() for state in trainer.optimizer.state.values()])
        for trainer in (free, clipped)
    )  # of the first step: 0.1 of the gradient, as beta is 0.9
    assert 10 * float(whole.norm()) > 2 * clip
    assert 10 * float(short.norm()) == pytest.approx(clip, rel=1e-3)
    torch.testing.assert_close(short / short.norm(), whole / whole.norm(), atol=1e-5, rtol=1e-3)


def test_norms_biases_positions_and_the_scans_own_parameters_are_not_decayed(data, tiny, tmp_path):
    model = Trainer(recipe(), data, tmp_path).model
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, free = ({names[id(p)] for p in group["params"]} for group in parameter_groups(model, 0.1))
    assert not decayed & free
    assert decayed | free == set(names.values())
    assert all(p.ndim >= 2 for p in model.parameters() if names[id(p)] in decayed)
    for part in ("A_log", "A_b_log", "mixer.D", "mixer.D_b", "pos_embed", "bias", "norm"):
        mine = {name for name in names.values() if part in name}
        assert mine
        assert mine <= free, part
    assert "generator.bridge.block1.conv1.weight" in decayed
    assert parameter_groups(model, 0.1)[0]["weight_decay"] == 0.1
    assert parameter_groups(model, 0.1)[1]["weight_decay"] == 0.0


def test_frozen_parameters_are_left_out(data, tiny, tmp_path):
    model = Trainer(recipe(), data, tmp_path).model
    model.backbone.requires_grad_(False)
    kept = {id(p) for group in parameter_groups(model, 0.1) for p in group["params"]}
    assert kept == {id(p) for p in model.generator.parameters()}


def test_the_checkpoint_is_the_average_in_half_precision_with_its_whole_recipe(data, tiny, clock, tmp_path):
    trainer = Trainer(recipe(steps=3), data, tmp_path)
    path = trainer.run()
    assert path == tmp_path / "tiny.safetensors"
    tensors, metadata = read_checkpoint(path)
    assert tensors.keys() == trainer.model.state_dict().keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, trainer.average[name].half()), name
    assert metadata["steps"] == 3
    assert metadata["training_seconds"] == 3
    assert metadata["recipe"] == json.loads(json.dumps(trainer.recipe.to_dict()))
    assert metadata["model"] == trainer.model.describe()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.pt", "tiny.safetensors"]


def test_the_average_follows_the_weights(data, tiny, tmp_path):
    trainer = Trainer(recipe(ema=0.5), data, tmp_path)
    name = "generator.bridge.block1.conv1.weight"
    old = trainer.average[name].clone()
    trainer.step()  # early on the average follows faster than `ema`: (1 + 0) / (10 + 0)
    now = trainer.model.state_dict()[name]
    torch.testing.assert_close(trainer.average[name], 0.1 * old + 0.9 * now)
    assert not torch.equal(trainer.averaged_model().state_dict()[name], now)
    assert torch.equal(trainer.averaged_model().state_dict()[name], trainer.average[name])


def test_a_trained_compact_model_is_loaded_again(data, tmp_path):
    small = {key: value for key, value in TINY.items() if key not in ("image_size", "grid", "channels")}
    trainer = Trainer(dataclasses.replace(recipe(changes=small), minutes=1e-6), data, tmp_path)
    model, metadata = load_model(trainer.run())
    assert trainer.state.step == 1
    assert metadata["name"] == "tiny"
    assert model.generator.config == dataclasses.replace(PRESETS["compact"], **small)


def test_given_weights_are_the_start_and_those_that_do_not_fit_are_left_out(data, tiny, tmp_path):
    first = Trainer(recipe(), data, tmp_path / "first")
    given = {name: tensor + 1 for name, tensor in first.model.state_dict().items()}
    other = "generator.bridge.block1.conv1.weight"
    given[other], given["generator.gone"] = torch.zeros(1), torch.zeros(1)
    second = Trainer(recipe(), data, tmp_path / "second", initial=given)
    for name, tensor in second.model.state_dict().items():
        assert torch.equal(tensor, first.model.state_dict()[name] if name == other else given[name]), name
    assert same(second.average, second.model.state_dict())


def test_the_same_seed_gives_the_same_training_and_another_seed_another(data, tiny, clock, tmp_path):
    models = []
    for number, seed in enumerate((1, 1, 2)):
        trainer = Trainer(recipe(steps=2, seed=seed), data, tmp_path / str(number))
        trainer.run()
        models.append(trainer.model.state_dict())
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
