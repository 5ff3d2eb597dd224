"""A recipe: everything that decides a training, as data beside the weights that came of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.typed_json import JsonError, read_object
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL

Group = TypeVar("Group")


@dataclass(frozen=True, kw_only=True)
class TaskRecipe:
    """One data set of a recipe.

    Attributes:
        dataset: Its name.
        per_step: Images drawn for a step.
        empty_share: Share of draws of a slice without any object.
        flip: Whether mirroring left to right makes a plausible image.
        unions: Whether the union of all objects is a task too.
        union_share: Share of draws that ask for the union.
        clips: How many clips of it a step of clips has; 0 leaves it out there.
    """

    dataset: str
    per_step: int
    empty_share: float = 0.0
    flip: bool = False
    unions: bool = False
    union_share: float = 1 / 3
    clips: int = 0


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """How weights follow the gradient.

    Attributes:
        learning_rate: Peak.
        weight_decay: Not on norms, biases, positions, A_log and D.
        warmup_steps: Linear warm-up.
        gradient_norm: Largest gradient norm (in a file: ``clip``).
        ema: Decay of the averaged weights, which are the ones saved.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    gradient_norm: float = 1.0
    ema: float = 0.998


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the parts of the loss beside Dice.

    Attributes:
        bce: Of the binary cross-entropy.
        prior: Of the loss of the mask prior.
        presence: Of the loss of the presence logit.
        quality: Of the loss of the estimated IoU.
        empty_smooth: Smoothing of the Dice loss on slices without the object, as a share of the image.
        empty_from_step: Step from which it is used instead of 1 pixel: shapes are learned first.
    """

    bce: float = 2.0
    prior: float = 0.3
    presence: float = 0.3
    quality: float = 0.1
    empty_smooth: float = 0.01
    empty_from_step: int = 300


@dataclass(frozen=True, kw_only=True)
class EpisodeRecipe:
    """What is drawn for a step on single images.

    Attributes:
        unrelated: Share of targets whose supports are of another data set; the answer is then empty.
        emptied: Share of tasks in which no support marks anything; the answer is then empty.
        max_supports: Supports per target are drawn from 1 to this number.
    """

    unrelated: float = 0.12
    emptied: float = 0.1
    max_supports: int = 4


@dataclass(frozen=True, kw_only=True)
class PromptRecipe:
    """How prompts are varied in training.

    Attributes:
        clicks: Share of images and frames on which a click is added to the prompt.
        dense_dropout: Share of steps without the dense prompt, so that the tokens learn to carry the task as well.
    """

    clicks: float = 0.0
    dense_dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """Clips, which are followed with SAM 2's memory (in a file each key begins with ``clip_``).

    Attributes:
        frames: Frames of a clip.
        share: Share of steps that follow clips instead of segmenting single images.
        given: Share of those in which a given mask starts the track and no proxy prompt, as SAM 2 was trained.
        made: Share of those whose frames are made of one picture and whose mask may be any region of it, or empty:
            only who reads the given mask knows what to follow.
    """

    frames: int = 4
    share: float = 0.0
    given: float = 0.25
    made: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training; in a file the keys of all groups stand side by side.

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
        optimizer: How weights follow the gradient.
        losses: Weights of the parts of the loss.
        episodes: What is drawn for a step on single images.
        prompts: How prompts are varied.
        clips: What is drawn for a step on clips.
    """

    name: str
    backbone: str = DEFAULT_MODEL
    generator: str = "compact"
    changes: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[TaskRecipe, ...] = ()
    parts: tuple[Literal["train", "validation"], ...] = ("train",)
    zoom: tuple[float, float] = (0.75, 1.5)
    seed: int = 1
    minutes: float = 50.0
    optimizer: OptimizerRecipe = OptimizerRecipe()
    losses: LossWeights = LossWeights()
    episodes: EpisodeRecipe = EpisodeRecipe()
    prompts: PromptRecipe = PromptRecipe()
    clips: ClipRecipe = ClipRecipe()

    def to_dict(self) -> dict[str, Any]:
        """The keys of a recipe's file, as they are kept in a checkpoint."""
        values = dataclasses.asdict(self)
        for group in GROUPS:
            mine = values.pop(group)
            values |= {key: mine[name] for name, key in _keys_of(group).items()}
        return values

    def identity(self) -> dict[str, Any]:
        """All that decides what a state can be resumed with: everything but the time."""
        return {key: value for key, value in self.to_dict().items() if key != "minutes"}


GROUPS: dict[str, type] = {
    "optimizer": OptimizerRecipe,
    "losses": LossWeights,
    "episodes": EpisodeRecipe,
    "prompts": PromptRecipe,
    "clips": ClipRecipe,
}


def _keys_of(group: str) -> dict[str, str]:
    """The key in a file of each field of a group."""
    names = [item.name for item in dataclasses.fields(GROUPS[group])]
    if group == "clips":
        return {name: f"clip_{name}" for name in names}
    return {name: "clip" if name == "gradient_norm" else name for name in names}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: If the file is missing, no JSON, has a key that no recipe has, or a value of another type.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the recipe {path} is no JSON: {error}") from error
    try:
        return _recipe_of(values)
    except JsonError as error:
        raise UsageError(f"the recipe {path} does not fit: {error}") from error


def _recipe_of(values: Any) -> Recipe:
    """The recipe of parsed JSON.

    Raises:
        JsonError: If it does not fit.
    """
    own = {item.name for item in dataclasses.fields(Recipe)} - GROUPS.keys()
    known = own.union(*(_keys_of(group).values() for group in GROUPS))
    read = read_object(Recipe, values, known=known)
    recipe = dataclasses.replace(
        read, **{group: read_object(kind, values, keys=_keys_of(group), known=known) for group, kind in GROUPS.items()}
    )
    if recipe.minutes <= 0:
        raise JsonError(f"minutes is {recipe.minutes:g}; it must be above 0")
    return recipe
