"""Fixtures of the command line's tests: a desk with cases on it, and models to work with."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import json
from pathlib import Path

import torch

from cohort_cases import Archive
from command_cases import Desk, InContextModel
from ProxyPromptSegmentLib.commands import cohort_worker, segment_run
from ProxyPromptSegmentLib.imaging import output_files
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.weights import registry
from track_cases import FollowingModel, TrackDesk


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory) -> Path:
    """The compact model with random weights."""
    from ProxyPromptSegmentLib.networks.model import build_model

    torch.manual_seed(0)
    model = build_model("sam-compact")
    path = tmp_path_factory.mktemp("models") / "random.safetensors"
    checkpoints.save_checkpoint(path, model.state_dict(), {"name": "random", "model": model.describe()})
    return path


@pytest.fixture
def model(tmp_path, monkeypatch) -> str:
    """Path of a file in whose place the in-context double is loaded."""
    path = tmp_path / "double.safetensors"
    path.write_bytes(b"not read")
    monkeypatch.setattr(checkpoints, "load_model", lambda *_: (InContextModel(), {"name": "double", "steps": 7}))
    return str(path)


@pytest.fixture
def desk(tmp_path, model) -> Desk:
    return Desk(tmp_path, model)


@pytest.fixture
def no_model(monkeypatch, tmp_path_factory) -> None:
    """A registry of one missing model, and no loading: whatever is refused must be refused before."""
    folder = tmp_path_factory.mktemp("registry")
    entry = {"name": "sam-compact", "file": "sam-compact.safetensors"}
    (folder / "registry.json").write_text(json.dumps({"format": 1, "models": [entry]}), encoding="utf-8")
    monkeypatch.setattr(registry, "models_folder", lambda: folder)

    def load(*_: object) -> None:
        raise AssertionError("the network was loaded for bad input")

    monkeypatch.setattr(loading, "load", load)


@pytest.fixture
def full_disk(monkeypatch) -> None:
    """No file that is written reaches the disk."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output_files.os, "fsync", full)


# --- track ---
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


@pytest.fixture(autouse=True)
def warm(warm_engine):
    """Engines keep what earlier tests have loaded and embedded."""


# --- cohort ---
@pytest.fixture
def archive(tmp_path, model) -> Archive:
    return Archive(tmp_path, model)


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The names of the studies that are segmented, in order."""
    found: list[str] = []

    def perform(request, *more, **named):
        found.append(request.target.name)
        return segment_run.perform(request, *more, **named)

    monkeypatch.setattr(cohort_worker, "perform", perform)
    return found
