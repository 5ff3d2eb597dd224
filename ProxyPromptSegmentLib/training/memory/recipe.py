"""The recipe of a training of SAM 2 on clips: that of a broad training, with what clips need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe, read_recipe_of
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, DEFAULT_TRACKING_MODEL


@dataclass(frozen=True, kw_only=True)
class MemoryRecipe(BroadRecipe):
    """All settings of a training of SAM 2 on clips; a group is one clip and its supports.

    Attributes:
        training: Always ``memory``.
        base: Name of the model whose image encoder is shared, and from whose other weights the training starts.
        shared_rate: Factor of the rate for weights that start from the base; 0 leaves them as they are there.
        own_generator: Whether the prompt generator is trained too; else the base's is used as it is.
        frames: Frames of a clip.
        volumes: Share of clips of consecutive slices where a data set has volumes; the others are moving pictures.
        covered: Share of clips in which something crosses the object.
        shadow: Share of clips in which a shadow crosses it.
        leaving: Share of clips in which it leaves the picture and returns.
        twin: Share of clips in which a copy of it appears.
        given: Share of steps whose tracks begin with a given mask.
        given_first: The same in the first half of the time: where a mask is known from the memory alone, the memory
            learns soonest to be read.
        unprompted: Share of these without a proxy prompt, as SAM 2 is used.
        clicks: Share of tracks and frames with a click as well.
    """

    training: Literal["memory"] = "memory"
    name: str = DEFAULT_TRACKING_MODEL
    groups: int = 4
    group_size: int = 5
    region_groups: int = 1
    region_views: int = 4
    drawn_groups: int = 1
    drawn_images: int = 4
    most_supports: int = 4
    dense_dropout: float = 0.5
    learning_rate: float = 4e-4
    base: str = DEFAULT_MODEL
    shared_rate: float = 0.3
    own_generator: bool = True
    frames: int = 6
    volumes: float = 0.6
    covered: float = 0.2
    shadow: float = 0.15
    leaving: float = 0.15
    twin: float = 0.25
    given: float = 0.25
    given_first: float = 0.25
    unprompted: float = 0.5
    clicks: float = 0.05


def read_memory_recipe(path: Path) -> MemoryRecipe:
    """Read a recipe.

    Raises:
        UsageError: As `read_recipe_of`, or if clips would be too short, without supports, or with too many events.
    """
    recipe = read_recipe_of(MemoryRecipe, path)
    events = recipe.covered + recipe.shadow + recipe.leaving + recipe.twin
    if recipe.frames < 2:
        raise UsageError(f"the recipe {path} has clips of {recipe.frames} frames; a memory needs 2 at least")
    if events > 1:
        raise UsageError(
            f"in the recipe {path} covered, shadow, leaving and twin sum to {events:g}; allowed is up to 1"
        )
    kinds = ("groups", "group_size"), ("region_groups", "region_views"), ("drawn_groups", "drawn_images")
    for groups, size in kinds:
        if getattr(recipe, groups) and getattr(recipe, size) < 2:
            raise UsageError(
                f"in the recipe {path} {size} is {getattr(recipe, size)}; 2 are needed, the clip's image and a support"
            )
    if not recipe.groups + recipe.region_groups + recipe.drawn_groups:
        raise UsageError(f"the recipe {path} has no clips; give groups, region_groups or drawn_groups")
    return recipe
