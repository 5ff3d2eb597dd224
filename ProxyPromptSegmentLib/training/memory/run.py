"""A complete training of SAM 2 on clips: base, data packed once, model, trainer."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.networks.additions import BaseModel, taken_from
from ProxyPromptSegmentLib.networks.checkpoints import load_base_model
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.broad.pools import SIDE, load_pools
from ProxyPromptSegmentLib.training.broad.run import pack_of
from ProxyPromptSegmentLib.training.memory.episodes import ClipSampler
from ProxyPromptSegmentLib.training.memory.recipe import MemoryRecipe
from ProxyPromptSegmentLib.training.memory.trainer import MemoryTrainer
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.registry import resolve


def model_on(base: BaseModel, metadata: dict) -> ProxyPromptModel:
    """Build SAM 2 on a compact SAM: its encoder, and its decoder and generator to start from.

    Args:
        base: The compact SAM.
        metadata: Of its checkpoint.

    Raises:
        UsageError: If it is for another size than that of the clips.
        CheckpointError: If it is another network.
    """
    try:
        config = ProxyPromptConfig.from_dict(metadata["model"]["generator"])
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise CheckpointError(f"'{base.name}' does not describe its prompt generator: {error}") from error
    if config.image_size != SIDE:
        raise UsageError(
            f"'{base.name}' is for {config.image_size} pixels, and clips are of {SIDE}; start from a compact SAM "
            f"of {SIDE} pixels"
        )
    own = dataclasses.replace(config, prompt="memory_and_both")
    model = build_model("sam2-compact", own)
    model.load_state_dict(taken_from(base, model.state_dict()), strict=False)
    return model


def start_from(model: ProxyPromptModel, weights: dict[str, torch.Tensor]) -> None:
    """Load what an earlier training on the same base has added.

    Raises:
        CheckpointError: If a name or shape differs, or nothing of SAM 2's own is among them.
    """
    own = model.state_dict()
    other = sorted(name for name in weights if name not in own or own[name].shape != weights[name].shape)
    if other or "backbone.bridge.proxy_position" not in weights:
        raise CheckpointError(
            f"the weights to start from are not those of this network: {len(other)} tensors differ (first "
            f"{other[:1]}); give a checkpoint of an earlier training on clips, or none."
        )
    model.load_state_dict(weights, strict=False)


def train_memory(
    recipe: MemoryRecipe,
    data: Path,
    out: Path,
    device: str = "cpu",
    threads: int = 1,
    cancel: CancelToken | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
    initial: dict[str, torch.Tensor] | None = None,
    say: Callable[[str], None] | None = None,
    base: Path | None = None,
) -> Path:
    """Train a recipe, or resume its training, and return the checkpoint.

    Args:
        recipe: The settings.
        data: Folder of the data sets, or a packed one.
        out: Folder for the pack, the state and the checkpoint, and for a copy of the base, which completes it.
        device: Device to compute on.
        threads: CPU threads.
        cancel: Stops after the current step; the state is saved.
        report: Called with the mean numbers of some steps.
        initial: What an earlier training has added to the same base, to start from.
        say: Called with a line about each data set.
        base: Checkpoint of the compact SAM; by default the registered one that the recipe names.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    path = base or resolve(recipe.base)[0]
    whole, metadata = load_base_model(path)
    model = model_on(whole, metadata)
    if initial is not None:
        start_from(model, initial)
    copy_base(path, out / f"{whole.name}.safetensors", whole.sha256, recipe.name)
    pools = load_pools(pack_of(data, out, say), torch.device(device), recipe.leave_out, say)
    return MemoryTrainer(model, whole, ClipSampler(pools, recipe), recipe, out).run(cancel, report)


def copy_base(source: Path, target: Path, digest: str, name: str) -> None:
    """Copy the base next to the result, so that the folder is all that another machine needs."""
    if target.stem == name:
        raise UsageError(f"the base and the result are both called '{name}'; give the recipe another name")
    if target.is_file() and sha256(target) == digest:
        return
    if target.is_file():
        raise OutputError(f"{target} is another model than the base of this training; choose another folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with safe_output(target) as part:
        shutil.copyfile(source, part)
