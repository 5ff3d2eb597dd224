"""Recipes: all settings of a training, stored as data with the resulting weights."""

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
        dataset: Name of the data set: one that the program knows, or one that a file in the data folder describes.
        per_step: Number of images drawn per step; it has no effect where targets are drawn (``draw``).
        empty_share: Share of draws of a slice without any object.
        flip: Whether a left-right mirrored image is plausible.
        unions: Whether the union of all objects is a task as well.
        union_share: Share of draws that ask for the union.
        clips: Number of clips per step on clips; 0 excludes the data set there.
    """

    dataset: str
    per_step: int = 4
    empty_share: float = 0.0
    flip: bool = False
    unions: bool = False
    union_share: float = 1 / 3
    clips: int = 0


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """Settings of the optimiser.

    Attributes:
        algorithm: AdamW, or SGD with momentum.
        learning_rate: Peak learning rate.
        momentum: Momentum of SGD.
        weight_decay: Weight decay; not applied to norms, biases, positions, A_log and D.
        warmup_steps: Number of steps of the linear warm-up.
        gradient_norm: Largest gradient norm (in a file: ``clip``).
        ema: Decay of the averaged weights, which are the saved ones.
        schedule: How the rate falls after the warm-up: as a cosine to 3 %, as a power of 0.9 of what is left, or not.
    """

    algorithm: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.02
    warmup_steps: int = 100
    gradient_norm: float = 1.0
    ema: float = 0.998
    schedule: Literal["cosine", "poly", "constant"] = "cosine"


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the parts of the loss, relative to Dice.

    Attributes:
        bce: Weight of the binary cross-entropy.
        prior: Weight of the loss of the mask prior.
        presence: Weight of the loss of the presence logit.
        quality: Weight of the loss of the estimated IoU.
        empty_smooth: Smoothing of the Dice loss on slices without the object, as a share of the image; 0 is 1 pixel.
        empty_from_step: Step from which it replaces 1 pixel, so that shapes are learned first.
    """

    bce: float = 2.0
    prior: float = 0.3
    presence: float = 0.3
    quality: float = 0.1
    empty_smooth: float = 0.01
    empty_from_step: int = 300


@dataclass(frozen=True, kw_only=True)
class EpisodeRecipe:
    """Settings of the episodes, i.e. steps on single images.

    Attributes:
        unrelated: Share of targets whose supports are from another data set; the truth is then empty.
        emptied: Share of tasks in which all support masks are empty; the truth is then empty.
        max_supports: Largest number of supports per target; at least 1.
        draw: ``groups``: the images of a step support each other. ``targets``: a step has targets of one data set, and
            supports of other patients; each image is a target once per epoch and a support of the others.
        targets: Number of targets per step, if targets are drawn.
        all_supports: Whether each target has as many supports as there are, up to ``max_supports``, which is then
            M - 1 for M images; otherwise a random number of them.
        objects: ``one`` object per step, or ``several``: all objects of the data set in half of the steps, and some of
            them in the others; only if targets are drawn.
    """

    unrelated: float = 0.12
    emptied: float = 0.1
    max_supports: int = 4
    draw: Literal["groups", "targets"] = "groups"
    targets: int = 1
    all_supports: bool = False
    objects: Literal["one", "several"] = "one"


@dataclass(frozen=True, kw_only=True)
class PromptRecipe:
    """Settings of the variation of prompts.

    Attributes:
        clicks: Share of images and frames on which a click is added to the prompt.
        dense_dropout: Share of steps without the dense prompt, so that the tokens learn to carry the task as well.
    """

    clicks: float = 0.0
    dense_dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """Settings of the clips, which are tracked with SAM 2's memory (in a file each key begins with ``clip_``).

    Attributes:
        frames: Number of frames of a clip.
        share: Share of steps that track clips instead of segmenting single images.
        given: Share of these in which a given mask starts the track, not a proxy prompt, as in SAM 2's training.
        made: Share of these whose frames are synthesised from one picture and whose mask may be any region of it, or
            empty, so that only the given mask shows what to track.
    """

    frames: int = 4
    share: float = 0.0
    given: float = 0.25
    made: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ComputingRecipe:
    """Settings that save memory.

    Attributes:
        precision: ``single``, or half precision in bfloat16 or float16; the weights stay in single precision.
        recompute: Whether the activations of the image encoder's blocks and of each support are computed again in the
            backward pass instead of being kept.
        accumulate: Number of episodes whose gradients are averaged for a step.
        frozen_supports: Whether the image features of supports have no gradient; only if targets are drawn.
        learning_supports: Number of supports of a step through which the contextual encoder and the Bridge Unit are
            trained; 0 means all.
    """

    precision: Literal["single", "bfloat16", "float16"] = "single"
    recompute: bool = False
    accumulate: int = 1
    frozen_supports: bool = False
    learning_supports: int = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a training; a recipe file has the keys of all groups on one level.

    Attributes:
        name: Name of the resulting model.
        backbone: See `build_model`.
        base: Name of the registry entry with the backbone's official weights; by default that of the backbone.
        lora_encoder: Rank of the adapters in an official backbone's image encoder; by default that of `build_model`.
        lora_decoder: The same in its mask decoder.
        generator: Preset of the prompt generator.
        changes: Keys of `ProxyPromptConfig` that differ from the preset.
        tasks: Data sets; none means all that the data folder describes.
        parts: Parts of the split to train on; ``validation`` may be included once all settings are fixed.
        zoom: Smallest and largest magnification of the augmentation.
        seed: Seed of initial weights, episodes and augmentation.
        minutes: Training time without validation; the learning rate schedule spans it.
        steps: Number of steps, which then count instead of the time; 0 counts the time.
        epochs: The same in epochs, in each of which every image is a target once; only if targets are drawn.
        optimizer: Settings of the optimiser.
        losses: Weights of the parts of the loss.
        episodes: Settings of steps on single images.
        prompts: Settings of the variation of prompts.
        clips: Settings of steps on clips.
        computing: Settings that save memory.
    """

    name: str
    backbone: str = DEFAULT_MODEL
    base: str = ""
    lora_encoder: int | None = None
    lora_decoder: int | None = None
    generator: str = "compact"
    changes: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[TaskRecipe, ...] = ()
    parts: tuple[Literal["train", "validation"], ...] = ("train",)
    zoom: tuple[float, float] = (0.75, 1.5)
    seed: int = 1
    minutes: float = 50.0
    steps: int = 0
    epochs: float = 0.0
    optimizer: OptimizerRecipe = OptimizerRecipe()
    losses: LossWeights = LossWeights()
    episodes: EpisodeRecipe = EpisodeRecipe()
    prompts: PromptRecipe = PromptRecipe()
    clips: ClipRecipe = ClipRecipe()
    computing: ComputingRecipe = ComputingRecipe()

    def to_dict(self) -> dict[str, Any]:
        """Return the values as in a recipe file and in checkpoints."""
        values = dataclasses.asdict(self)
        for group in GROUPS:
            mine = values.pop(group)
            values |= {key: mine[name] for name, key in _keys_of(group).items()}
        return values

    def identity(self) -> dict[str, Any]:
        """Return the settings that must be equal to resume a state: all except its length."""
        return {key: value for key, value in self.to_dict().items() if key not in LENGTH}


LENGTH = ("minutes", "steps", "epochs")
GROUPS: dict[str, type] = {
    "optimizer": OptimizerRecipe,
    "losses": LossWeights,
    "episodes": EpisodeRecipe,
    "prompts": PromptRecipe,
    "clips": ClipRecipe,
    "computing": ComputingRecipe,
}


def _keys_of(group: str) -> dict[str, str]:
    """Return the key in a recipe file for each field of a group."""
    names = [item.name for item in dataclasses.fields(GROUPS[group])]
    if group == "clips":
        return {name: f"clip_{name}" for name in names}
    return {name: "clip" if name == "gradient_norm" else name for name in names}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: If the file is missing or not JSON, or has an unknown key or a value of the wrong type.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the recipe {path} is not valid JSON: {error}") from error
    try:
        return _recipe_of(values)
    except JsonError as error:
        raise UsageError(f"the recipe {path} is invalid: {error}") from error


def _recipe_of(values: Any) -> Recipe:
    """Build the recipe from parsed JSON.

    Raises:
        JsonError: If a value is not valid.
    """
    own = {item.name for item in dataclasses.fields(Recipe)} - GROUPS.keys()
    known = own.union(*(_keys_of(group).values() for group in GROUPS))
    read = read_object(Recipe, values, known=known)
    recipe = dataclasses.replace(
        read, **{group: read_object(kind, values, keys=_keys_of(group), known=known) for group, kind in GROUPS.items()}
    )
    _check_numbers(recipe)
    return recipe


def _check_numbers(recipe: Recipe) -> None:
    """Reject numbers that no training can have, and keys that contradict each other.

    Raises:
        JsonError: Naming the key.
    """
    if recipe.minutes <= 0:
        raise JsonError(f"minutes is {recipe.minutes:g}; it must be above 0")
    for key, value, least in (
        ("steps", recipe.steps, 0),
        ("epochs", recipe.epochs, 0),
        ("targets", recipe.episodes.targets, 1),
        ("accumulate", recipe.computing.accumulate, 1),
        ("learning_supports", recipe.computing.learning_supports, 0),
        ("lora_encoder", recipe.lora_encoder or 0, 0),
        ("lora_decoder", recipe.lora_decoder or 0, 0),
    ):
        if value < least:
            raise JsonError(f"{key} is {value:g}; it must be at least {least}")
    if recipe.steps and recipe.epochs:
        raise JsonError(f"steps is {recipe.steps} and epochs is {recipe.epochs:g}; give one of them")
    if recipe.episodes.draw == "groups":
        only = {
            "epochs": recipe.epochs > 0,
            "all_supports": recipe.episodes.all_supports,
            "objects": recipe.episodes.objects != "one",
            "frozen_supports": recipe.computing.frozen_supports,
            "learning_supports": recipe.computing.learning_supports > 0,
        }
        if wrong := [key for key, given in only.items() if given]:
            raise JsonError(f'{", ".join(wrong)} only has an effect if draw is "targets"; set that too')
