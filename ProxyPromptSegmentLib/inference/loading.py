"""Loading of a model by name or path, with facts about its weights."""

from __future__ import annotations

from dataclasses import dataclass

from ProxyPromptSegmentLib.inference.results import ModelFacts
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.networks.devices import choose_device
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import resolve


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to segment, with facts about its weights."""

    segmenter: Segmenter
    facts: ModelFacts


def load(model: str, device: str = "auto") -> LoadedModel:
    """Load a model by name or path.

    Raises:
        CheckpointError: If the model is unknown, damaged or has another hash.
        DeviceError: If the device does not exist.
    """
    path, expected = resolve(model)
    chosen = choose_device(device)
    network, metadata = checkpoints.load_model(path, expected)
    # On a CPU a batch of one slice is hardly slower, and lets Ctrl-C and progress act on every slice.
    batch = 1 if chosen.type == "cpu" else None
    facts = ModelFacts(
        name=str(metadata.get("name", path.stem)), sha256=expected or weights_sha256(path), path=path, metadata=metadata
    )
    return LoadedModel(segmenter=Segmenter(network, chosen, batch), facts=facts)
