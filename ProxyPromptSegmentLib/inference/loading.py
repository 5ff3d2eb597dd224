"""Loading of a model by name or path, with facts about its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ProxyPromptSegmentLib.inference.calibration import Calibration
from ProxyPromptSegmentLib.inference.results import ModelFacts
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import SMALL_IMAGE
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.networks.devices import choose_device
from ProxyPromptSegmentLib.networks.folding import fold_norms
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import all_entries, registered_name, resolve

_FREED_ONCE = 31 << 20  # bytes


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to segment, with facts about its weights."""

    segmenter: Segmenter
    facts: ModelFacts


def load(model: str, device: str = "auto", base: Path | None = None) -> LoadedModel:
    """Load a model by name or path.

    Args:
        model: Its name or path.
        device: The device.
        base: File of the weights that it was trained on, if it does not hold them; by default the registry's.

    Raises:
        CheckpointError: If the model is unknown, damaged or has another hash.
        DeviceError: If the device does not exist.
    """
    path, expected = resolve(model)
    chosen = choose_device(device)
    network, metadata = checkpoints.load_model(path, expected, *([base] if base else []))
    fold_norms(network)
    # On a CPU two slices of a small network take a tenth less than one by one and more gain nothing; Ctrl-C and
    # progress act between two batches.
    batch = None if chosen.type != "cpu" else 2 if network.backbone.image_size <= SMALL_IMAGE else 1
    facts = ModelFacts(
        name=registered_name(model, str(metadata.get("name", path.stem))),
        sha256=expected or weights_sha256(path),
        path=path,
        metadata=metadata,
    )
    if chosen.type == "cpu":
        _keep_freed_memory()
    segmenter = Segmenter(network, chosen, batch, calibration=calibration_of(facts.sha256, metadata))
    return LoadedModel(segmenter=segmenter, facts=facts)


def _keep_freed_memory() -> None:
    """Let the C library keep the memory of activations, which it would otherwise fetch again for every slice.

    glibc returns blocks above a threshold to the system at once, 4,600 pages for each slice; the first large block
    that is freed raises the threshold to its size, up to 32 MiB (``mallopt(3)``, M_MMAP_THRESHOLD). Elsewhere
    nothing happens.
    """
    torch.empty(_FREED_ONCE, dtype=torch.uint8)


def calibration_of(digest: str, metadata: Mapping[str, Any] | None = None) -> Calibration | None:
    """Return the calibration of weights: what the registry has for their SHA-256, else what their own file says.

    Args:
        digest: The SHA-256.
        metadata: Metadata of the file, which an adapted model that is not registered here brings along.

    Raises:
        CheckpointError: If the registry or the calibration is damaged.
    """
    for entry in all_entries():
        if entry.calibration and (entry.sha256 or "").lower() == digest.lower():
            return Calibration.from_dict(entry.calibration)
    said = (metadata or {}).get("entry")
    found = said.get("calibration") if isinstance(said, dict) else None
    return Calibration.from_dict(found) if found else None
