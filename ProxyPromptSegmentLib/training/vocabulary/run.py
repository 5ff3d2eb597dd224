"""A complete training of a generator that needs no support: base, embeddings, trainer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.additions import TRUNK, BaseModel, taken_from
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.checkpoints import load_base_model
from ProxyPromptSegmentLib.networks.class_prompt.generator import ClassPromptGenerator
from ProxyPromptSegmentLib.networks.generators import read_config
from ProxyPromptSegmentLib.networks.image_prompt.config import COMPACT, OFFICIAL
from ProxyPromptSegmentLib.networks.image_prompt.encoder import take_trunk
from ProxyPromptSegmentLib.networks.image_prompt.generator import ImagePromptGenerator
from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES, ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.official import OfficialWeights, load_base
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.broad.trainer import STATE
from ProxyPromptSegmentLib.training.memory.run import copy_base
from ProxyPromptSegmentLib.training.vocabulary.features import embed
from ProxyPromptSegmentLib.training.vocabulary.presence_fit import fit_presence
from ProxyPromptSegmentLib.training.vocabulary.readout_fit import fit_readout
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe, classes_of
from ProxyPromptSegmentLib.training.vocabulary.sampler import ClassSampler
from ProxyPromptSegmentLib.training.vocabulary.trainer import VocabularyTrainer
from ProxyPromptSegmentLib.training.vocabulary.validation import fit_trust
from ProxyPromptSegmentLib.typed_json import JsonError
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, resolve

FEATURES = "features"
COMPACT_SIZES = {"image_size": 256, "grid": 32, "channels": 128}
SMALL: dict[str, dict[str, Any]] = {
    "class": {"widths": [32, 48, 64]},
    "image": {"width": COMPACT.width, "reach": COMPACT.reach},
}
"""What a generator of a kind has on the compact SAM, beside the sizes of that backbone."""
LARGE: dict[str, dict[str, Any]] = {
    "image": {key: getattr(OFFICIAL, key) for key in ("image_size", "grid", "channels", "read_size", "width")}
}
"""What a generator of a kind has on official backbones, where its defaults are those of the compact SAM."""


def generator_config(recipe: VocabularyRecipe, compact: bool) -> Any:
    """Return the configuration of a recipe's generator on a compact or an official backbone.

    Raises:
        UsageError: If a setting does not fit.
    """
    sizes = {**COMPACT_SIZES, **SMALL.get(recipe.kind, {})} if compact else LARGE.get(recipe.kind, {})
    classes = [dataclasses.asdict(one.about) for one in recipe.classes]
    try:
        return read_config(recipe.kind, {**sizes, **recipe.generator, "classes": classes})
    except (CheckpointError, JsonError) as error:
        raise UsageError(f"the recipe {recipe.name} does not fit: {error}") from error


def model_on(
    recipe: VocabularyRecipe, base: Path | None = None
) -> tuple[ProxyPromptModel, BaseModel | OfficialWeights, Path | None]:
    """Build a generator with random weights on the base of a recipe.

    Args:
        recipe: The settings.
        base: File of the base; by default the registered one.

    Returns:
        The model, the base, and its file if it is a model of this project.

    Raises:
        CheckpointError: If the base is not on this machine, or another.
    """
    backbone = recipe.backbone or (recipe.base if recipe.base != DEFAULT_MODEL else DEFAULT_MODEL)
    torch.manual_seed(recipe.seed)
    if backbone not in COMPACT_NAMES:
        weights = load_base(base or recipe.base, backbone)
        model = build_model(backbone, generator_config(recipe, False), (0, 0), weights.tensors)
        if isinstance(model.generator, ImagePromptGenerator):  # official weights have no trunk for it
            take_trunk(model.generator.encoder, load_base_model(DEFAULT_MODEL)[0].tensors, TRUNK)
        _begin(model)
        return model, dataclasses.replace(weights, tensors={}), None
    path = base or resolve(recipe.base)[0]
    whole, _ = load_base_model(path)
    model = build_model(backbone, generator_config(recipe, True))
    model.load_state_dict(taken_from(whole, model.state_dict()), strict=False)
    _begin(model)
    return model, whole, path


def _begin(model: ProxyPromptModel) -> None:
    """Let a generator begin as the backbone's own prompts."""
    if not isinstance(model.backbone, SamBackbone):
        return
    encoder = model.backbone.sam.prompt_encoder
    if isinstance(model.generator, ImagePromptGenerator):
        model.generator.begin(encoder.no_mask_embed.weight)
    if not isinstance(model.generator, ClassPromptGenerator):
        return
    kinds = torch.cat([encoder.not_a_point_embed.weight, *(kind.weight for kind in encoder.point_embeddings)])
    model.generator.begin(kinds, encoder.no_mask_embed.weight)


def train_vocabulary(
    recipe: VocabularyRecipe,
    data: Path,
    out: Path,
    device: str = "cpu",
    threads: int = 1,
    cancel: CancelToken | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
    initial: dict[str, torch.Tensor] | None = None,
    say: Callable[[str], None] | None = None,
    base: Path | None = None,
    read: Callable[[Path, str], Split] | None = None,
) -> Path:
    """Train a recipe, or resume its training, and return the checkpoint.

    Args:
        recipe: The settings.
        data: Folder of the data sets.
        out: Folder for the embeddings, the state and the checkpoint, and for a copy of a compact base.
        device: Device to compute on.
        threads: CPU threads.
        cancel: Stops after the current step; the state is saved.
        report: Called with the mean numbers of some steps.
        initial: Weights of the generator to start from.
        say: Called with a line about each data set that is embedded.
        base: File of the base; by default the registered one.
        read: Reads a data set by folder and name; by default `load_parts`.

    Raises:
        CheckpointError: If weights to start from do not fit.
        UsageError: If the embedding was stopped before any image was embedded.
    """
    torch.set_num_threads(threads)
    recipe = dataclasses.replace(recipe, classes=classes_of(recipe, data))
    model, whole, path = model_on(recipe, base)
    if initial is not None:
        _start_from(model, initial)
    if path is not None:
        copy_base(path, out / f"{whole.name}.safetensors", whole.sha256, recipe.name)
    model.to(device).eval()
    # What a trunk that is neither trained nor changed makes of an image is kept instead of the image.
    frozen = path is not None and not recipe.trunk_rate and hasattr(model.generator, "keep")
    keep = model.generator.keep if frozen else None
    kept = embed(recipe, data, out / FEATURES, model.backbone, whole.sha256, cancel, say, read, keep)
    if not kept:
        raise UsageError("the training was stopped before its images were embedded; run the same command to resume.")
    readout = getattr(getattr(model.generator, "class_encoder", None), "readout", None)
    new = not (out / STATE).is_file()
    if readout is not None and initial is None and new:
        if say:
            say("fitting the linear readings of the classes")
        fit_readout(readout, kept, recipe)
    first = copy.deepcopy(readout) if initial is not None or new else None  # as they are without a training
    trainer = VocabularyTrainer(model, whole, ClassSampler(kept, recipe, torch.device(device)), recipe, out)
    written = trainer.run(cancel, report)
    shifts = recipe.kept_empty and hasattr(model.generator, "shift_presence")
    corrects = recipe.only_better and hasattr(getattr(model.generator, "class_encoder", None), "trust")
    if not (shifts or corrects) or not trainer.step_count or (cancel and cancel.cancelled):
        return written
    held = embed(recipe, data, out / FEATURES, model.backbone, whole.sha256, cancel, say, read, keep, part="validation")
    if corrects:
        trust = fit_trust(trainer.averaged(), held, recipe, first)
        trainer.average = {name: value.clone() for name, value in trainer.averaged_state().items()}
        if say:
            names = [one.about.name for one, mine in zip(recipe.classes, trust.tolist(), strict=True) if mine]
            say(f"better than the readings alone on validation images, and kept: {', '.join(names) or 'no class'}")
        return trainer.save()
    fits = fit_presence(trainer.averaged(), held, recipe)
    if say:
        for one in fits:
            say(
                f"{one.name}: shown from a presence of {one.threshold:.2f}, by which {one.shown:.0%} of "
                f"{one.images[0]} validation images with it and {one.empty:.0%} of {one.images[1]} without it are "
                "answered rightly"
            )
    trainer.presence = fits
    return trainer.save()


def _start_from(model: ProxyPromptModel, weights: dict[str, torch.Tensor]) -> None:
    """Load the weights of an earlier generator."""
    own = {name: value for name, value in model.state_dict().items() if name.startswith("generator.")}
    # The readings of the classes alone may be given, to be corrected, or to be an input; the rest begins at random.
    readings = {name for name in own if ".readout." in name or name.endswith(".corners")}
    expected = readings if weights and weights.keys() <= readings else own.keys()
    other = sorted(expected ^ weights.keys())
    other += sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    if other:
        raise CheckpointError(
            f"the weights to start from are not those of this generator: {len(other)} tensors differ (first "
            f"{other[0]}); give a checkpoint with the same classes and settings, or none."
        )
    model.load_state_dict(weights, strict=False)
