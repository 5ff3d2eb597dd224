"""A recipe is read from JSON; a key or a value that does not fit is named in a sentence."""

from __future__ import annotations

import json

import pytest

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.recipe import (
    ClipRecipe,
    EpisodeRecipe,
    LossWeights,
    OptimizerRecipe,
    PromptRecipe,
    Recipe,
    TaskRecipe,
    read_recipe,
)


def test_a_recipe_is_read_from_json_and_mistakes_in_it_are_named(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"name": "x", "tasks": [{"dataset": "made", "per_step": 3}], "minutes": 2}))
    assert read_recipe(path) == Recipe(name="x", tasks=(TaskRecipe(dataset="made", per_step=3),), minutes=2)
    for text, sentence in (
        ('{"name": "x", "speed": 1}', "unknown keys: speed; known are accumulate"),
        ('{"minutes": 1}', "is invalid: name is missing"),
        ('{"name": "x", "tasks": [{"set": "made"}]}', "is invalid.*set"),
        ('{"name": "x", "minutes": "50"}', 'minutes is "50"; it must be a number'),
        ('{"name": "x", "minutes": 0}', "minutes is 0; it must be above 0"),
        ('{"name": "x", "minutes": true}', "minutes is true; it must be a number"),
        ('{"name": "x", "seed": 1.5}', "seed is 1.5; it must be a whole number"),
        ('{"name": "x", "zoom": [1, 2, 3]}', "zoom is .* a list of 2 values"),
        ('{"name": "x", "parts": ["train", "test"]}', r'parts\[1\] is "test"; it must be "train" or "validation"'),
        (
            '{"name": "x", "tasks": [{"dataset": "made", "per_step": 3, "flip": 1}]}',
            r"tasks\[0\].flip is 1; it must be",
        ),
        ("{", "is not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=sentence):
            read_recipe(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "gone.json")


@pytest.mark.parametrize("text", ["[1]", '"x"', '{"name": "x", "tasks": 3}', '{"name": "x", "tasks": ["made"]}'])
def test_json_that_is_no_recipe_is_refused(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_recipe(path)


def test_the_keys_of_a_file_stand_side_by_side_and_are_read_into_groups(tmp_path):
    recipe = Recipe(
        name="all",
        optimizer=OptimizerRecipe(learning_rate=1, weight_decay=2, warmup_steps=3, gradient_norm=4, ema=5),
        losses=LossWeights(bce=6, prior=7, presence=8, quality=9, empty_smooth=10, empty_from_step=11),
        episodes=EpisodeRecipe(unrelated=12, emptied=13, max_supports=14),
        prompts=PromptRecipe(clicks=15, dense_dropout=16),
        clips=ClipRecipe(frames=17, share=18, given=19, made=20),
    )
    flat = recipe.to_dict()
    names = "learning_rate weight_decay warmup_steps clip ema bce prior presence quality empty_smooth empty_from_step "
    names += "unrelated emptied max_supports clicks dense_dropout clip_frames clip_share clip_given clip_made"
    assert [flat[name] for name in names.split()] == list(range(1, 21))
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(flat))
    assert read_recipe(path) == recipe


@pytest.mark.parametrize("path", sorted(resource_path("recipes").glob("sam*.json")), ids=lambda path: path.stem)
def test_the_recipes_of_the_program_say_what_they_said(path):
    written, read = json.loads(path.read_text()), json.loads(json.dumps(read_recipe(path).to_dict()))
    for key, value in written.items():
        if key == "tasks":
            assert [{**task, **given} for task, given in zip(read[key], value, strict=True)] == read[key]
        else:
            assert read[key] == value, key
