"""Official weights of a small backbone and a prompt generator that was trained on them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pathlib import Path

import torch

from engine_doubles import tiny_config
from ProxyPromptSegmentLib.networks.checkpoints import save_generator, sha256
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.official import OfficialWeights
from ProxyPromptSegmentLib.weights.cache import ModelCache
from release_cases import CONFIG, Release


@pytest.fixture
def cache(tmp_path, monkeypatch) -> ModelCache:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return ModelCache(tmp_path / "cache")


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, ProxyPromptModel, dict[str, torch.Tensor]]:
    """A folder with both files, the model, and the official weights."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    official = build_model("sam-compact", tiny_config(**CONFIG)).backbone.sam.state_dict()
    torch.save(official, folder / "official.pth")
    model = build_model("sam-compact", tiny_config(**CONFIG), lora_rank=2, base=official).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.add_(0.1)  # as after a training: fresh adapters change nothing
    base = OfficialWeights(name="official", sha256=sha256(folder / "official.pth"), tensors=official)
    save_generator(folder / "prompts.safetensors", model, base, {"name": "prompts", "objects": ["prostate"]})
    return folder, model, official


@pytest.fixture
def release(tmp_path, monkeypatch, trained) -> Release:
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROXYPROMPT_REGISTRY", str(tmp_path / "own.json"))
    return Release(tmp_path, trained)
