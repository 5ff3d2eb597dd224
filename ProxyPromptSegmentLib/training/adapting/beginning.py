"""The model that an adaptation starts from: one of this project, a generator on official weights, or a new one on them.

Official weights are read after their hash was verified, and stay as they are: only the prompt generator and adapters in
mask decoder and, if wanted, image encoder are trained and stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.checkpoints import load_model
from ProxyPromptSegmentLib.networks.model import LORA_RANK, ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.official import OfficialWeights, load_base
from ProxyPromptSegmentLib.networks.proxy_prompt.config import ROBUST
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.training.adapting.settings import ALL, ENCODER, AdaptSettings
from ProxyPromptSegmentLib.training.adapting.weights import is_official, of_encoder, trained_names
from ProxyPromptSegmentLib.weights.entry import ModelEntry, ModelKind
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import all_entries, base_file, registered_name, resolve, with_hash

NEW_GENERATOR = replace(ROBUST, prompt="both", mask_prior=True, presence=True)
"""What a few cases can train from random weights: the masks of the supports are read through the map as well, which
segments roughly from the first step on."""

OFFICIAL_TARGETS = 5
"""Targets of a step on official weights: as many as four supports need. One costs as much as dozens on a compact
model."""


@dataclass(frozen=True, eq=False)
class Begun:
    """The model that an adaptation starts from.

    Attributes:
        model: The model.
        name: Its name.
        sha256: Hash of its file, or of the official weights under a new generator.
        path: Its file; None for a new generator.
        metadata: Metadata of its file; empty for a new generator.
        entry: Its registry entry, or that of the official weights; None for a file that is not registered.
        base: Name and hash of the official weights below it, without their tensors; None for a model of this project.
    """

    model: ProxyPromptModel
    name: str
    sha256: str
    path: Path | None
    metadata: dict[str, Any]
    entry: ModelEntry | None
    base: OfficialWeights | None = None

    @property
    def new(self) -> bool:
        """Whether its prompt generator has random weights."""
        return self.path is None

    @property
    def words(self) -> dict[str, Any]:
        """What the registry says of the model, or its own file where it is not registered here."""
        if self.entry is not None:
            return self.entry.to_dict()
        said = self.metadata.get("entry")
        return said if isinstance(said, dict) else {}

    def fitted(self, settings: AdaptSettings) -> AdaptSettings:
        """Return the settings with what this start leaves of them.

        Random weights are nothing to stay near to, or to go only half of the way from.
        """
        if self.base is None:
            return settings
        settings = replace(settings, targets=min(settings.targets, OFFICIAL_TARGETS))
        if settings.trained == ENCODER and not of_encoder(trained_names(self.model, ENCODER)):
            settings = replace(settings, trained=ALL)  # there are no adapters in the image encoder
        return replace(settings, shares=(1.0,), anchor=0.0) if self.new else settings


def begin(model: str, base: str = "", seed: int = 1, encoder_rank: int = 0) -> Begun:
    """Load the model to start from.

    Args:
        model: Name or path of a model or prompt generator, or name of official weights, on which a new prompt
            generator begins.
        base: Path of the file of the official weights; by default the registry's.
        seed: Seed of a new prompt generator.
        encoder_rank: Rank of adapters in the image encoder below a new prompt generator; 0 for none.

    Raises:
        CheckpointError: As `load_model` and `load_base`, or if official weights are not registered, by whose hash the
            result would find them.
        UsageError: If the model cannot be adapted.
    """
    given = Path(base) if base else None
    if (official := _official(model)) is not None:
        return _new_generator(official, given, seed, encoder_rank)
    if encoder_rank:
        raise UsageError(
            f"'{model}' is not the name of official weights, in whose image encoder a new prompt generator would get "
            "adapters; leave out their rank."
        )
    path, expected = resolve(model)
    network, metadata = load_model(path, expected, given)
    name = registered_name(model, str(metadata.get("name", path.stem)))
    if not (isinstance(network.backbone, SamBackbone) or is_official(network)):
        raise UsageError(
            f"'{name}' tracks through volumes and clips; models on a compact SAM and on official weights can be "
            "adapted.",
            Remedy(kind=RemedyKind.CHOOSE_MODEL),
        )
    weights = None
    if metadata.get("kind") == ModelKind.GENERATOR:
        weights = OfficialWeights(name=metadata["base"]["name"], sha256=metadata["base"]["sha256"].lower(), tensors={})
        _check_registered(weights)
    elif base:
        raise UsageError(
            f"'{name}' needs no official weights, but a file of them was given; only a prompt generator on official "
            "weights takes one."
        )
    digest = expected or weights_sha256(path)
    entry = next((one for one in all_entries() if (one.sha256 or "").lower() == digest), None)
    return Begun(network, name, digest, path, metadata, entry, weights)


def check_start(model: str, base: str = "") -> None:
    """Check that a model to start from is there, before anything is read.

    Raises:
        CheckpointError: If it is not, or its file is another.
    """
    official = _official(model)
    if official is None:
        resolve(model)
    elif not base:
        base_file(official.name)
    if base and not Path(base).is_file():
        raise CheckpointError(f"there is no file {base}; give that of the official weights below '{model}'.")


def _official(model: str) -> ModelEntry | None:
    """Return the entry of official weights of this name; None if there is none."""
    return next((one for one in all_entries() if one.name == model and one.kind == ModelKind.BACKBONE), None)


def _new_generator(entry: ModelEntry, base: Path | None, seed: int, encoder_rank: int) -> Begun:
    """Put a prompt generator with random weights on official ones."""
    weights = load_base(entry.name if base is None else base, entry.fits)
    _check_registered(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Without adapters in the encoder its features can be kept.
        network = build_model(entry.fits, NEW_GENERATOR, (encoder_rank, LORA_RANK), weights.tensors)
    weights = replace(weights, tensors={})  # they are in the model now
    return Begun(network.eval(), entry.name, weights.sha256, None, {}, entry, weights)


def _check_registered(weights: OfficialWeights) -> None:
    """Reject official weights by whose hash the result could not be completed later.

    Raises:
        CheckpointError: If no entry has it.
    """
    if not with_hash(weights.sha256):
        raise CheckpointError(
            f"the weights '{weights.name}' with SHA-256 {weights.sha256[:12]}... are not in the registry, and a model "
            "on them would not find them again; import their file first."
        )
