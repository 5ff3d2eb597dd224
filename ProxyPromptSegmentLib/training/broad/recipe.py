"""The recipe of a broad training: data with the resulting weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.typed_json import JsonError, read_object


@dataclass(frozen=True, kw_only=True)
class BroadRecipe:
    """All settings of a broad training.

    Attributes:
        training: ``broad``: tells these recipes from those of `training.recipe`; ``memory`` is for SAM 2 on clips.
        name: Name of the resulting model.
        seed: Seed of initial weights, episodes and augmentation.
        minutes: Training time, which the schedule of the learning rate spans.
        steps: Steps of the training, which count instead of its time; 0 for the time.
        groups: Groups of images of different patients in each step; every image is a target and a support.
        group_size: Images of such a group.
        region_groups: Groups of views of one image whose masks are random regions of it.
        region_views: Views of such a group.
        drawn_groups: Groups of drawn images.
        drawn_images: Images of such a group.
        leave_out: Data sets that are not trained on.
        weights: How often a data set is drawn, relative to the others; by default the square root of its objects.
        empty: Share of images without the object, by data set.
        other_empty: The same for the other data sets.
        whole: Data sets whose objects have no sides: vessels, cells.
        unions: Share of draws that ask for several objects as one.
        second_label: Share of groups whose second object is another label; else it is a part of the first.
        unrelated: Share of targets whose supports are from a group of another kind; nothing is to be drawn then.
        alike: Data sets whose images may show each other's objects, which are never unrelated to each other.
        emptied: Share of objects of a group whose support masks are emptied; nothing is to be drawn then.
        most_supports: Largest number of supports of a target.
        zoom: Smallest and largest magnification of an image.
        intensity: Factor of the changes of intensity of images of patients.
        depth: Share of groups of volumes in which the position of the slices is known.
        dense_dropout: Share of targets without the dense prompt, so that the tokens learn to carry the task.
        learning_rate: Peak learning rate.
        trunk_rate: Factor of the rate for the pretrained trunk.
        weight_decay: Weight decay; not applied to norms, biases, positions, A_log and D.
        warmup_steps: Steps of the linear warm-up.
        begin: Share of the peak rate at the start, for a training in several runs.
        end: Share of the peak rate at the end.
        gradient_norm: Largest gradient norm.
        ema: Decay of the averaged weights, which are the saved ones.
        empty_from_step: Step from which the Dice loss is smoothed on images without the object; shapes come first.
    """

    training: Literal["broad", "memory"] = "broad"
    name: str = "sam-compact"
    seed: int = 1
    minutes: float = 10.0
    steps: int = 0
    groups: int = 9
    group_size: int = 9
    region_groups: int = 5
    region_views: int = 4
    drawn_groups: int = 2
    drawn_images: int = 5
    leave_out: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    empty: dict[str, float] = field(default_factory=dict)
    other_empty: float = 0.05
    whole: tuple[str, ...] = ()
    unions: float = 0.3
    second_label: float = 0.5
    unrelated: float = 0.06
    alike: tuple[tuple[str, ...], ...] = ()
    emptied: float = 0.04
    most_supports: int = 8
    zoom: tuple[float, float] = (0.6, 1.7)
    intensity: float = 1.15
    depth: float = 0.7
    dense_dropout: float = 0.35
    learning_rate: float = 6e-4
    trunk_rate: float = 0.3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    begin: float = 1.0
    end: float = 0.02
    gradient_norm: float = 1.0
    ema: float = 0.999
    empty_from_step: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the values as in a recipe file."""
        return asdict(self)

    def kin(self, one: str, other: str) -> bool:
        """Return whether images of two data sets may show the same."""
        return one == other or any(one in names and other in names for names in self.alike)


AnyRecipe = TypeVar("AnyRecipe", bound=BroadRecipe)


def training_of(path: Path) -> str:
    """Return the kind of training of a recipe file: ``broad``, ``memory``, or "" for another or an unreadable one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(values.get("training", "")) if isinstance(values, dict) else ""


def read_broad_recipe(path: Path) -> BroadRecipe:
    """Read the recipe of a broad training; arguments and errors as of `read_recipe_of`."""
    return read_recipe_of(BroadRecipe, path)


def read_recipe_of(kind: type[AnyRecipe], path: Path) -> AnyRecipe:
    """Read a recipe.

    Args:
        kind: Class of the recipe.
        path: The file.

    Raises:
        UsageError: If the file is missing or not JSON, or has an unknown key, a value of the wrong type or a negative
            number of steps.
    """
    try:
        recipe = read_object(kind, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}") from error
    except JsonError as error:
        raise UsageError(f"the recipe {path} is invalid: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the recipe {path} is not valid JSON: {error}") from error
    if recipe.steps < 0:
        raise UsageError(f"the recipe {path} has steps {recipe.steps}; it must be at least 0")
    return recipe
