"""A recipe: everything that decides a training, as data beside the weights that came of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import UsageError


@dataclass(frozen=True)
class TaskRecipe:
    """One data set of a recipe; see `TaskPool`. ``clips`` is how many clips of it a step of clips has."""

    dataset: str
    per_step: int
    empty_share: float = 0.0
    flip: bool = False
    unions: bool = False
    union_share: float = 1 / 3
    clips: int = 0


@dataclass(frozen=True)
class Recipe:
    """Settings of a training.

    Attributes:
        name: Name of the resulting model.
        backbone: See `build_model`.
        generator: Preset of the prompt generator.
        changes: Keys of `ProxyPromptConfig` that differ from the preset.
        tasks: Data sets.
        parts: Parts of the split that are trained on; ``validation`` as well once nothing is chosen any more.
        zoom: Smallest and largest magnification of the augmentation.
        seed: Seed of initial weights, episodes and augmentation.
        minutes: Training time, validation apart; the learning rate follows it.
        learning_rate: Peak.
        weight_decay: Not on norms, biases, positions, A_log and D.
        warmup_steps: Linear warm-up.
        clip: Largest gradient norm.
        ema: Decay of the averaged weights, which are the ones saved.
        bce: Weight of the binary cross-entropy beside Dice.
        prior: Weight of the loss of the mask prior.
        presence: Weight of the loss of the presence logit.
        quality: Weight of the loss of the estimated IoU.
        empty_smooth: Smoothing of the Dice loss on slices without the object, as a share of the image.
        empty_from_step: Step from which it is used instead of 1 pixel: shapes are learned first.
        unrelated: See `EpisodeSampler`.
        emptied: See `EpisodeSampler`.
        max_supports: See `EpisodeSampler`.
        clip_frames: Frames of a clip.
        clip_share: Share of steps that follow clips with SAM 2's memory instead of segmenting single images.
        clip_given: Share of those in which a given mask starts the track and no proxy prompt, as SAM 2 was trained.
        clip_made: Share of those whose frames are made of one picture and whose mask may be any region of it, or empty:
            only who reads the given mask knows what to follow.
        clicks: Share of frames on which a click is added to the prompt.
        dense_dropout: Share of steps without the dense prompt, so that the tokens learn to carry the task as well.
    """

    name: str
    backbone: str = "sam-compact"
    generator: str = "compact"
    changes: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[TaskRecipe, ...] = ()
    parts: tuple[str, ...] = ("train",)
    zoom: tuple[float, float] = (0.75, 1.5)
    seed: int = 1
    minutes: float = 50.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    clip: float = 1.0
    ema: float = 0.998
    bce: float = 2.0
    prior: float = 0.3
    presence: float = 0.3
    quality: float = 0.1
    empty_smooth: float = 0.01
    empty_from_step: int = 300
    unrelated: float = 0.12
    emptied: float = 0.1
    max_supports: int = 4
    dense_dropout: float = 0.0
    clip_frames: int = 4
    clip_share: float = 0.0
    clip_given: float = 0.25
    clip_made: float = 0.0
    clicks: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe.

    Raises:
        UsageError: If the file is missing, no JSON, or has a key that no recipe has.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}") from error
    except ValueError as error:
        raise UsageError(f"the recipe {path} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"the recipe {path} is no JSON object; it needs keys such as name and tasks")
    known = {item.name for item in dataclasses.fields(Recipe)}
    if unknown := values.keys() - known:
        raise UsageError(
            f"the recipe {path} has unknown keys: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}"
        )
    try:
        tasks = tuple(TaskRecipe(**task) for task in values.pop("tasks", []))
        for key in ("parts", "zoom"):
            if key in values:
                values[key] = tuple(values[key])
        if wrong := set(values.get("parts", ())) - {"train", "validation"}:
            raise UsageError(f"the recipe {path} trains on {', '.join(sorted(wrong))}; allowed are train, validation")
        return Recipe(tasks=tasks, **values)
    except TypeError as error:
        raise UsageError(f"the recipe {path} does not fit: {error}") from error
