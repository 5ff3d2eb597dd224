"""Official weights with random values, of a network of a fraction of the size, and how a user brings them along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from optional_packages import skip_without_peft

skip_without_peft()

from ProxyPromptSegmentLib.networks.backbones import sam
from ProxyPromptSegmentLib.training.adapting import beginning
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.shapes import official_shapes, summary_of

SMALL_GENERATOR = {
    "vim_dim": 16, "vim_depth": 1, "vim_state": 4, "bridge_width": 16, "ccm_width": 32, "ccm_heads": 2, "ccm_ffn": 32,
    "image_size": 256, "grid": 16, "ccm_pool": 1, "key_pool": 2,
}  # fmt: skip


def make_small(monkeypatch, backbone: str = "sam-vit-b") -> None:
    """Let an official backbone's image encoder, its square, and the new prompt generator on it, be small."""
    monkeypatch.setattr(sam, "OFFICIAL_SIZE", 256)
    monkeypatch.setitem(sam.VIT_SIZES, backbone, (32, 2, 2, (1,)))
    with torch.device("meta"):
        shapes = summary_of(sam.build_sam_modules(backbone).state_dict())
    monkeypatch.setitem(official_shapes(), backbone, shapes)
    monkeypatch.setattr(beginning, "NEW_GENERATOR", replace(beginning.NEW_GENERATOR, **SMALL_GENERATOR))


def official_file(path: Path, backbone: str = "sam-vit-b", seed: int = 0) -> dict[str, torch.Tensor]:
    """Write random weights as an official file; return them."""
    torch.manual_seed(seed)
    tensors = sam.build_sam_modules(backbone).state_dict()
    torch.save(tensors, path)
    return tensors


def list_official(home: Path, name: str = "our-vit-b", fits: str = "sam-vit-b") -> None:
    """Add an entry for official weights without a known hash to the user's registry."""
    own = home / "own.json"
    listed = json.loads(own.read_text(encoding="utf-8"))["models"] if own.is_file() else []
    entry = {"name": name, "kind": "backbone", "file": f"{name}.pth".replace("-", "_"), "fits": fits}
    own.write_text(json.dumps({"format": 2, "models": [*listed, entry]}), encoding="utf-8")


def imported_official(home: Path, name: str = "our-vit-b", fits: str = "sam-vit-b") -> dict[str, torch.Tensor]:
    """Write official weights, list them in the user's registry and import them; return their tensors."""
    tensors = official_file(home / "from_somewhere.pth", fits)
    list_official(home, name, fits)
    assert ModelCache().take(registry.find(name), home / "from_somewhere.pth")
    return tensors


def assert_unchanged(official: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> None:
    """Check that all official weights are in a model's state bit for bit."""
    for name, tensor in official.items():
        places = [f"backbone.sam.{name}", "backbone.sam." + ".base_layer.".join(name.rsplit(".", 1))]
        found = next(state[place] for place in places if place in state)
        assert torch.equal(found, tensor), name
