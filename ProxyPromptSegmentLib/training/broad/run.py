"""A complete broad training: data packed once, model, trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.broad.episodes import BroadSampler
from ProxyPromptSegmentLib.training.broad.kinship_fit import describe, fit_kinship, kin_of
from ProxyPromptSegmentLib.training.broad.pack import write_pack
from ProxyPromptSegmentLib.training.broad.pools import DATA, load_pools
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe
from ProxyPromptSegmentLib.training.broad.trainer import BroadTrainer

PACK = "pack"
TRUNK = "backbone.sam.image_encoder.trunk."
KINSHIP = "generator.kinship."


def pack_of(data: Path, out: Path, report: Callable[[str], None] | None = None) -> Path:
    """Return the folder of the packed data: ``data`` itself, or one in ``out`` that is written at first."""
    if (data / DATA).is_file():
        return data
    if not (out / PACK / DATA).is_file():
        write_pack(data, out / PACK, report)
    return out / PACK


def fill_model(model: ProxyPromptModel, weights: dict[str, torch.Tensor]) -> None:
    """Load the weights to start from; all of them have to fit.

    Args:
        model: The model to fill.
        weights: All of its tensors, or those of its trunk by the trunk's names, and the others stay random.

    Raises:
        CheckpointError: If a name or shape differs, for then a training would start from chance without a word.
    """
    own = model.state_dict()
    if weights.keys() == {name.removeprefix(TRUNK) for name in own if name.startswith(TRUNK)}:
        weights = {**own, **{TRUNK + name: value for name, value in weights.items()}}
    fresh = {name for name in own if name.startswith(KINSHIP)}
    if not fresh & weights.keys():  # weights from before kinship; it is fitted after the training in any case
        weights = {**weights, **{name: own[name] for name in fresh}}
    other = sorted(own.keys() ^ weights.keys())
    other += sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    if other:
        raise CheckpointError(
            f"the weights to start from are not those of this network: {len(other)} tensors differ (first {other[0]}); "
            "give a checkpoint of the compact model of 256 pixels, ImageNet weights of its trunk, or none."
        )
    model.load_state_dict(weights)


def train_broad(
    recipe: BroadRecipe,
    data: Path,
    out: Path,
    device: str = "cpu",
    threads: int = 1,
    cancel: CancelToken | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
    initial: dict[str, torch.Tensor] | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Train a recipe, or resume its training, and return the checkpoint.

    Kinship is fitted at the end on the averaged weights, also when the training is cancelled.

    Args:
        recipe: The settings.
        data: Folder of the data sets, or a packed one.
        out: Folder for the pack, the state and the checkpoint.
        device: Device to compute on.
        threads: CPU threads.
        cancel: Stops after the current step; the state is saved.
        report: Called with the mean numbers of some steps.
        initial: Weights to start from, see `fill_model`.
        say: Called with a line about each data set.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    model = build_model("sam-compact")
    if initial is not None:
        fill_model(model, initial)
    pools = load_pools(pack_of(data, out, say), torch.device(device), recipe.leave_out, say)
    sampler = BroadSampler(pools, recipe)
    trainer = BroadTrainer(model, sampler, recipe, out)
    trainer.run(cancel, report)
    _fit_on_average(trainer, sampler)
    return trainer.save()


def _fit_on_average(trainer: BroadTrainer, sampler: BroadSampler) -> None:
    """Fit kinship on the averaged weights, which get it, and so do those that a later run resumes from."""
    names = [pool.name for pool in sampler.pools]
    kin = kin_of(names, sampler.recipe)
    if bool((kin > 0).all()):
        return  # nothing to be told apart
    model = build_model("sam-compact", trainer.model.generator.config)
    model.load_state_dict({name: value.float() for name, value in trainer.average.items()})
    model.to(sampler.device).eval()
    generator = model.generator
    assert isinstance(generator, ProxyPromptGenerator) and generator.kinship is not None
    described = describe(model, sampler.pools, sampler.recipe.seed)
    kinship = generator.kinship.cpu()
    fit_kinship(kinship, described, kin, sampler.recipe.seed)
    live = trainer.model.state_dict()
    for name, value in kinship.state_dict().items():
        for weights in (trainer.average, live):
            weights[KINSHIP + name].copy_(value)
