"""Validation during a training: by the report's protocol, with the supports that the data set has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EchoModel, tiny_model
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.training import run as module
from ProxyPromptSegmentLib.training.recipe import EpisodeRecipe, Recipe, TaskRecipe
from trainer_cases import recipe as made_recipe


def made_case(patient):
    images = np.random.default_rng(len(patient)).random((2, 48, 40)).astype(np.float32)
    masks = np.zeros((2, 1, 48, 40), np.uint8)
    masks[0, 0, 10:30, 10:30] = 1
    return Case(
        dataset="made", patient=patient, images=images, masks=masks, objects=("square",), spacing_mm=None, name=patient
    )


@pytest.mark.parametrize(("patients", "supports"), [(3, 3), (6, 4)])
def test_a_data_set_with_few_patients_is_validated_with_as_many_supports_as_it_has(monkeypatch, patients, supports):
    cases = [made_case(f"patient {n}") for n in range(patients + 1)]
    parts = Split(train=cases[1:], validation=cases[:1], test=[])
    monkeypatch.setattr(module, "load_parts", lambda root, name: parts)
    asked = []
    draw = module.draw_supports
    monkeypatch.setattr(module, "draw_supports", lambda *words, **more: asked.append(words[2]) or draw(*words, **more))
    score = module.validator(Recipe(name="test", tasks=(TaskRecipe(dataset="made", per_step=2),)), None, "cpu")
    scores = score(tiny_model())
    assert asked == [supports]
    assert list(scores) == ["made square"]


def test_training_and_validation_read_a_data_set_once(monkeypatch, tmp_path, tiny, clock):
    cases = [made_case(f"patient {n}") for n in range(5)]
    asked = []
    parts = Split(train=cases[1:], validation=cases[:1], test=[])
    monkeypatch.setattr(module, "load_parts", lambda root, name: asked.append(name) or parts)
    seen, train = [], module.Trainer.run
    monkeypatch.setattr(
        module.Trainer, "run", lambda self, *more, **words: seen.append(more) or train(self, *more, **words)
    )
    module.train_recipe(made_recipe(steps=1), tmp_path, tmp_path / "out")
    assert asked == ["made"] and seen[0][1] is not None  # with validation


def test_memory_is_estimated_by_the_largest_episode_and_not_by_the_first(monkeypatch, tmp_path, tiny):
    cases = [made_case(f"patient {n}") for n in range(5)]
    monkeypatch.setattr(module, "estimate", lambda recipe, config, objects, images, ranks: (objects, images))
    firsts = set()
    for seed in range(5):
        recipe = replace(made_recipe(), seed=seed, episodes=EpisodeRecipe(draw="targets", max_supports=3))
        trainer = module.Trainer(
            recipe, tmp_path, tmp_path / str(seed), read=lambda *_: Split(train=cases, validation=[], test=[])
        )
        assert module.estimated(trainer) == (1, 4)
        firsts.add(len(trainer.sampler.draw(0).images))
    assert len(firsts) > 1
    groups = module.Trainer(
        made_recipe(), tmp_path, tmp_path / "other", read=lambda *_: Split(train=cases, validation=[], test=[])
    )
    assert module.estimated(groups) == (1, len(groups.sampler.draw(0).images)) == (1, 3)


def seen_case(patient, bright_rows):
    """A square of 20 by 20 pixels, of which only the upper rows are bright."""
    images, masks = np.zeros((2, 64, 64), np.float32), np.zeros((2, 1, 64, 64), np.uint8)
    masks[0, 0, 10:30, 10:30] = 1
    images[0, 10 : 10 + bright_rows, 10:30] = 100
    return replace(made_case(patient), images=images, masks=masks)


def test_the_score_is_the_mean_dice_of_the_validation_cases(monkeypatch):
    """The model finds what is bright: all of the square in one case, half of it in the other."""
    train = [seen_case(f"patient {n}", 20) for n in range(3)]
    seen = [seen_case("whole", 20), seen_case("half", 10)]
    parts = Split(train=train, validation=seen, test=[seen_case("test", 1)])
    monkeypatch.setattr(module, "load_parts", lambda root, name: parts)
    score = module.validator(Recipe(name="test", tasks=(TaskRecipe(dataset="made", per_step=2),)), None, "cpu")
    assert score(EchoModel()) == {"made square": pytest.approx((1 + 2 * 200 / (400 + 200)) / 2, abs=1e-4)}


def test_a_data_set_without_cases_for_validation_is_trained_without_and_says_so(monkeypatch, caplog):
    recipe = Recipe(name="test", tasks=(TaskRecipe(dataset="made", per_step=2),))
    for parts in (
        Split(train=[made_case("a"), made_case("b")], validation=[], test=[]),
        Split(train=[made_case("a")], validation=[made_case("a")], test=[]),  # nobody else could be a support
    ):
        monkeypatch.setattr(module, "load_parts", lambda root, name, parts=parts: parts)
        caplog.clear()
        assert module.validator(recipe, None, "cpu") is None
        assert "made has no cases for validation; it is trained without" in caplog.text
