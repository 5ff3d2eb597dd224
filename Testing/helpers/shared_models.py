"""SAM 2 around the encoder of a compact SAM, both small where they can be, and the compact SAM as its base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.networks.additions import BaseModel, taken_from
from ProxyPromptSegmentLib.networks.checkpoints import load_base_model, save_checkpoint
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT

SMALL = replace(COMPACT, vim_depth=1, vim_dim=16, bridge_width=32)
SMALL_SHARED = replace(SMALL, prompt="memory_and_both")


def small_base(seed: int = 0) -> ProxyPromptModel:
    """A compact SAM of 256 pixels with random weights and a small generator."""
    torch.manual_seed(seed)
    return build_model("sam-compact", SMALL).eval()


def write_base(folder: Path, seed: int = 0) -> Path:
    model = small_base(seed)
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    path = folder / "sam-compact.safetensors"
    save_checkpoint(path, half, {"name": "sam-compact", "model": model.describe()})
    return path


def shared_model(base: BaseModel, seed: int = 1) -> ProxyPromptModel:
    """SAM 2 that starts from a compact SAM."""
    torch.manual_seed(seed)
    model = build_model("sam2-compact", SMALL_SHARED).eval()
    model.load_state_dict(taken_from(base, model.state_dict()), strict=False)
    return model


def base_of(folder: Path, seed: int = 0) -> BaseModel:
    return load_base_model(write_base(folder, seed))[0]
