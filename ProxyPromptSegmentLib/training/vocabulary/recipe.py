"""The recipe of a training of a generator that needs no support."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ProxyPromptSegmentLib.data.described import described_names, load_described
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe, read_recipe_of
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


@dataclass(frozen=True, kw_only=True)
class TaughtClass:
    """A class of the vocabulary, and where it is marked.

    Attributes:
        about: The class, as it is kept in the checkpoint.
        sets: Objects of each data set whose union is the class.
        weight: How often it is drawn, relative to the others.
    """

    about: PromptClass
    sets: dict[str, tuple[str, ...]]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LossSwitches:
    """The losses of AutoMedSAM, each of which can be left out (its ablations).

    Attributes:
        bce: Cross-entropy of the pixels.
        dice: Dice of the region, with squares in the denominator.
        distribution: Divergence of softened masks (``kl``), distance to the border (``sdf``), or none.
        transfer: Distance of the sparse tokens to the backbone's own embedding of a box around the object.
        mask_transfer: Distance of the dense embedding to the backbone's own of a soft mask, as a part of ``transfer``.
        weighting: ``uncertainty``: each loss has a learned weight; ``equal``: all count alike.
        presence: Weight of the loss of presence.
    """

    bce: bool = True
    dice: bool = True
    distribution: Literal["kl", "sdf", "none"] = "kl"
    transfer: bool = True
    mask_transfer: bool = False
    weighting: Literal["uncertainty", "equal"] = "uncertainty"
    presence: float = 0.5


@dataclass(frozen=True, kw_only=True)
class VocabularyRecipe(BroadRecipe):
    """All settings of a training without supports; those of groups and supports of a `BroadRecipe` are not read.

    ``trunk_rate`` is that of a trunk that the generator has for itself (AutoSAM); 0 leaves it as it is in the base.

    Attributes:
        training: Always ``vocabulary``.
        base: Name of the model or of the official weights whose encoder and decoder are used as they are.
        backbone: Backbone of official weights; by default the base's own.
        kind: Kind of the generator, see `networks.generators`.
        generator: Its settings that differ from those for the backbone.
        classes: The classes; none means each object of every data set that the folder describes.
        images: Images of a step.
        asked: Classes whose masks are decoded on each image.
        strangers: Classes asked for on each image of which it surely shows nothing, for presence alone.
        absent: Share of images that do not show the class that was drawn.
        variants: Changed images beside each image itself; each is embedded once.
        most_slices: Most images of a data set, evenly spread.
        empty_slices: Images that show no object, as a share of the others.
        sided: Data sets whose images are never mirrored.
        others: Data sets whose images surely show none of the classes; kinds of images that a user may confuse.
        foreign: Share of images that are of these.
        only_better: Whether a class whose correction is not better on validation images keeps its reading as it was.
        most_others: Most images of each of them.
        bare: Share of images of which a square that shows no object is learned from as well, as an image without it.
        kept_empty: Share of validation images without a class that must stay empty, from which the threshold of its
            presence is fitted after the training; 0 leaves it as it was learned.
        losses: The losses.
        decode_from: Share of the time from which the mask decoder runs. Before it only ``transfer`` and presence are
            learned, which takes half of the computation of a step.
    """

    training: Literal["vocabulary"] = "vocabulary"  # type: ignore[assignment]
    name: str = "automedsam"
    base: str = DEFAULT_MODEL
    backbone: str = ""
    kind: str = "class"
    generator: dict[str, Any] = field(default_factory=dict)
    classes: tuple[TaughtClass, ...] = ()
    images: int = 20
    asked: int = 1
    strangers: int = 1
    absent: float = 0.15
    variants: int = 3
    most_slices: int = 400
    empty_slices: float = 0.3
    sided: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    foreign: float = 0.2
    most_others: int = 24
    bare: float = 0.0
    kept_empty: float = 0.0
    only_better: bool = True
    trunk_rate: float = 0.0
    losses: LossSwitches = LossSwitches()
    decode_from: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    ema: float = 0.998

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that mark a class, in the order in which they come."""
        return tuple(dict.fromkeys(name for one in self.classes for name in one.sets))

    @property
    def embedded(self) -> tuple[str, ...]:
        """The data sets whose images are embedded."""
        return (*self.datasets, *(name for name in self.others if name not in self.datasets))

    def marked(self, dataset: str) -> tuple[int, ...]:
        """Return the numbers of the classes that a data set marks."""
        return tuple(number for number, one in enumerate(self.classes) if dataset in one.sets)

    def strangers_of(self, dataset: str) -> tuple[int, ...]:
        """Return the numbers of the classes of which an image of a data set surely shows nothing."""
        return tuple(
            number for number, one in enumerate(self.classes) if not any(self.kin(dataset, other) for other in one.sets)
        )


def read_vocabulary_recipe(path: Path) -> VocabularyRecipe:
    """Read a recipe.

    Raises:
        UsageError: As `read_recipe_of`, or if a number is not possible or two classes have one name.
    """
    recipe = read_recipe_of(VocabularyRecipe, path)
    least_of = {"images": 1, "asked": 1, "strangers": 0, "variants": 0, "most_slices": 1}
    for key, least in least_of.items():
        if getattr(recipe, key) < least:
            raise UsageError(f"the recipe {path} has {key} {getattr(recipe, key)}; it must be at least {least}")
    names = [one.about.name.casefold() for one in recipe.classes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"the recipe {path} has the class '{twice[0]}' twice; give each a name of its own")
    losses = recipe.losses
    if not (losses.bce or losses.dice or losses.distribution != "none"):
        raise UsageError(f"the recipe {path} leaves out every loss of the mask; keep bce, dice or distribution")
    if not 0 <= recipe.decode_from < 1 or (recipe.decode_from and not losses.transfer):
        raise UsageError(
            f"the recipe {path} has decode_from {recipe.decode_from:g}; it must be at least 0 and below 1, and above 0 "
            "it needs the loss transfer"
        )
    return recipe


def classes_of(recipe: VocabularyRecipe, data: Path) -> tuple[TaughtClass, ...]:
    """Return the classes of a recipe; without any, each object of the described data sets is one.

    Raises:
        UsageError: If there are none.
    """
    if recipe.classes:
        return recipe.classes
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in described_names(data):
        parts = load_described(data, name)
        for case in [*parts.train, *parts.validation, *parts.test][:1]:
            for one in case.objects:
                found.setdefault(one, {})[name] = (one,)
    if not found:
        raise UsageError(
            f"the recipe {recipe.name} names no classes, and no file dataset.json in {data} describes any; describe "
            "your data, see Docs/data.md, or name classes."
        )
    return tuple(TaughtClass(about=PromptClass(name), sets=sets) for name, sets in found.items())
