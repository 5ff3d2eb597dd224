"""Keeping a result: a file with what was trained, its card and its calibration, registered under its name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from ProxyPromptSegmentLib.inference.calibration import Calibration
from ProxyPromptSegmentLib.networks.checkpoints import (
    load_base_model,
    read_checkpoint,
    save_addition,
    save_checkpoint,
    save_generator,
)
from ProxyPromptSegmentLib.training.adapting.beginning import Begun
from ProxyPromptSegmentLib.training.adapting.places import KEEPING
from ProxyPromptSegmentLib.training.adapting.weights import put
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.entry import ModelEntry
from ProxyPromptSegmentLib.weights.own import register
from ProxyPromptSegmentLib.weights.registry import all_entries, location


def keep(
    begun: Begun,
    name: str,
    trained: dict[str, torch.Tensor],
    about: dict[str, Any],
    card: str,
    folder: Path,
    calibration: Calibration | None = None,
) -> tuple[ModelEntry, Path]:
    """Write and register a model.

    What is stored is what differs from the model that is whole, which has to be registered to be found again; on
    official weights the prompt generator and the adapters; else everything.

    Args:
        begun: The first model, whose weights are replaced.
        name: Name of the new one.
        trained: Its trained weights by name.
        about: What the file says of itself: objects, settings, results.
        card: Its card.
        folder: Folder for the file until it is registered.
        calibration: Its presence and confidence; by default those of the first model.

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
        "calibration": calibration.to_dict() if calibration else begun.words.get("calibration") or {},
    }
    objects = about["objects"]
    metadata = {"name": name, "objects": objects, "adapted": about["adapted"], "entry": words, "card": card}
    with tempfile.TemporaryDirectory(dir=folder, prefix=KEEPING) as place:
        path = Path(place) / f"{name}.safetensors"
        _write(path, begun, metadata)
        entry = register(path)
    return entry, ModelCache().path_of(entry)


def _write(path: Path, begun: Begun, metadata: dict[str, Any]) -> None:
    """Write what differs from a registered model or from official weights, or everything."""
    half = {
        name: value.half() if value.is_floating_point() else value for name, value in begun.model.state_dict().items()
    }
    if begun.base is not None:
        save_generator(path, begun.model, begun.base, metadata, half)
        return
    whole = _whole(begun)
    if whole is not None:
        base, _ = load_base_model(whole)
        save_addition(path, begun.model, base, metadata, half)  # what rounds to the base's value is the base's
        return
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
