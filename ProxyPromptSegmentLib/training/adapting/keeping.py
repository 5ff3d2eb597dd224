"""Keeping a result: a file with what was trained, its card and its calibration, registered under its name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ProxyPromptSegmentLib.networks.checkpoints import (
    load_base_model,
    load_model,
    read_checkpoint,
    save_addition,
    save_checkpoint,
)
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.training.adapting.weights import put
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.entry import ModelEntry
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.own import register
from ProxyPromptSegmentLib.weights.registry import all_entries, location, resolve


@dataclass(frozen=True, eq=False)
class Begun:
    """The model that an adaptation starts from.

    Attributes:
        model: The model.
        name: Its name.
        sha256: Hash of its file.
        path: Its file.
        metadata: Metadata of its file.
        entry: Its registry entry; None for a file that is not registered.
    """

    model: ProxyPromptModel
    name: str
    sha256: str
    path: Path
    metadata: dict[str, Any]
    entry: ModelEntry | None

    @property
    def words(self) -> dict[str, Any]:
        """What the registry says of the model, or its own file where it is not registered here."""
        if self.entry is not None:
            return self.entry.to_dict()
        said = self.metadata.get("entry")
        return said if isinstance(said, dict) else {}


def begin(model: str) -> Begun:
    """Load the model to start from, by name or path.

    Raises:
        CheckpointError: As `load_model`.
    """
    path, expected = resolve(model)
    network, metadata = load_model(path, expected)
    digest = expected or weights_sha256(path)
    entry = next((one for one in all_entries() if (one.sha256 or "").lower() == digest), None)
    return Begun(network, str(metadata.get("name", path.stem)), digest, path, metadata, entry)


def keep(
    begun: Begun, name: str, trained: dict[str, torch.Tensor], about: dict[str, Any], card: str, folder: Path
) -> tuple[ModelEntry, Path]:
    """Write and register a model.

    What is stored is what differs from the model that is whole, which has to be registered to be found again; else
    everything is stored.

    Args:
        begun: The first model, whose weights are replaced.
        name: Name of the new one.
        trained: Its trained weights by name.
        about: What the file says of itself: objects, settings, results.
        card: Its card.
        folder: Folder for the file until it is registered.

    Returns:
        Its entry, and its file.

    Raises:
        CheckpointError: If the name is taken.
        OutputError: If something cannot be written; nothing half-written stays.
    """
    put(begun.model, trained)
    words = {
        "licence": _licence(str(begun.words.get("licence", ""))),
        "description": about["description"],
        "citation": str(begun.words.get("citation", "")),
        "trained_on": about["trained_on"],
        "calibration": begun.words.get("calibration") or {},
    }
    objects = about["objects"]
    metadata = {"name": name, "objects": objects, "adapted": about["adapted"], "entry": words, "card": card}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".keeping-") as place:
        path = Path(place) / f"{name}.safetensors"
        _write(path, begun, metadata)
        entry = register(path)
    return entry, ModelCache().path_of(entry)


def _write(path: Path, begun: Begun, metadata: dict[str, Any]) -> None:
    """Write what differs from a registered model, or everything."""
    whole = _whole(begun)
    if whole is not None:
        base, _ = load_base_model(whole)
        save_addition(path, begun.model, base, metadata)
        return
    half = {
        name: value.half() if value.is_floating_point() else value for name, value in begun.model.state_dict().items()
    }
    save_checkpoint(path, half, {**metadata, "model": begun.model.describe()})


def _whole(begun: Begun) -> Path | None:
    """Return the file of the registered model that stores everything: the first one, or the one that completes it."""
    base = begun.metadata.get("base")
    if not isinstance(base, dict):
        return begun.path if begun.entry is not None else None
    digest = str(base.get("sha256", "")).lower()
    entry = next((one for one in all_entries() if (one.sha256 or "").lower() == digest), None)
    if entry is None or not location(entry).is_file() or "base" in read_checkpoint(location(entry))[1]:
        return None
    return location(entry)


def _licence(base: str) -> str:
    own = "the terms of the cases that it learned from"
    return f"{base}; {own}" if base else own
