"""Fixtures of the tests of ``proxyprompt track``: a desk with a sweep on it, and models that can follow."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pathlib import Path

import torch
from command_fixtures import no_model
from track_cases import FollowingModel, TrackDesk

from ProxyPromptSegmentLib.networks import checkpoints

__all__ = ["following", "model_double", "no_model", "sam2_checkpoint", "track_desk"]


@pytest.fixture(scope="session")
def sam2_checkpoint(tmp_path_factory) -> Path:
    """The compact model with a memory and random weights."""
    pytest.importorskip("sam2")
    from ProxyPromptSegmentLib.networks.model import build_model

    torch.manual_seed(0)
    model = build_model("sam2-compact")
    path = tmp_path_factory.mktemp("sam2") / "random.safetensors"
    checkpoints.save_checkpoint(path, model.state_dict(), {"name": "random", "model": model.describe()})
    return path


@pytest.fixture
def model_double() -> FollowingModel:
    return FollowingModel()


@pytest.fixture
def following(tmp_path, monkeypatch, model_double) -> str:
    """Path of a file in whose place the double with a memory is loaded; every other file is read."""
    path = tmp_path / "double.safetensors"
    path.write_bytes(b"not read")
    load = checkpoints.load_model

    def instead(file: Path, *more: object, **options: object) -> object:
        return (model_double, {"name": "double"}) if Path(file) == path else load(file, *more, **options)

    monkeypatch.setattr(checkpoints, "load_model", instead)
    return str(path)


@pytest.fixture
def track_desk(tmp_path, following) -> TrackDesk:
    return TrackDesk(tmp_path, following)
