"""A prompt generator and its base weights, as a user has them who knows both by their own registry."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import json
import shutil
from pathlib import Path

import torch

from ProxyPromptSegmentLib.networks.checkpoints import sha256
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache

CONFIG = {"image_size": 256, "grid": 32, "channels": 128}


class Release:
    """The two files in a folder of this test, and a user's registry that has both of them."""

    def __init__(self, folder: Path, trained: tuple[Path, ProxyPromptModel, dict[str, torch.Tensor]]) -> None:
        source, self.model, self.official = trained
        self.base, self.file = folder / "official.pth", folder / "prompts.safetensors"
        for path in (self.base, self.file):
            shutil.copyfile(source / path.name, path)
        self.digest = sha256(self.file)
        self.own = folder / "own.json"
        self.entries = [
            {"name": "official", "kind": "backbone", "file": "official.pth", "fits": "sam-compact",
             "sha256": sha256(self.base), "bytes": self.base.stat().st_size, "urls": [self.base.as_uri()]},
            {"name": "prompts", "kind": "generator", "file": "prompts.safetensors", "fits": "sam-compact",
             "sha256": self.digest, "bytes": self.file.stat().st_size, "urls": [self.file.as_uri()],
             "needs": {"base": "official"}},
        ]  # fmt: skip
        self.write()

    def write(self) -> None:
        self.own.write_text(json.dumps({"format": 2, "models": self.entries}), encoding="utf-8")

    def fetch(self, *names: str) -> None:
        for name in names:
            ModelCache().download(registry.find(name))
