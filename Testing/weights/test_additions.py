"""Models that store what they add to another: they are whole again with that very model, and with no other."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.additions import added_to
from ProxyPromptSegmentLib.networks.checkpoints import (
    load_base_model,
    load_model,
    read_checkpoint,
    save_addition,
    save_checkpoint,
    sha256,
)
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.weights.publish import Release, entry_of
from shared_models import shared_model, write_base


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a base in one place, an addition in another, and the model."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "base").mkdir()
    base, _ = load_base_model(write_base(folder / "base"))
    model = shared_model(base)
    with torch.no_grad():  # as after a training: the decoder is another, the generator the same
        model.backbone.sam2.sam_mask_decoder.iou_token.weight.add_(1)
    digest = save_addition(folder / "sam2.safetensors", model, base, {"name": "sam2"})
    return folder, base, model, digest


def is_the_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    state = other.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, state[name].half().float() if value.is_floating_point() else state[name])


def test_only_what_differs_from_the_base_is_stored(made):
    folder, base, model, digest = made
    tensors, metadata = read_checkpoint(folder / "sam2.safetensors", digest)
    assert tensors.keys() == added_to(base, model.state_dict()).keys()
    assert not any(".image_encoder." in name or name.startswith("generator.") for name in tensors)
    assert "backbone.sam2.sam_mask_decoder.iou_token.weight" in tensors
    assert "backbone.sam2.sam_mask_decoder.mask_tokens.weight" not in tensors
    assert any(".memory_encoder." in name for name in tensors) and any(".bridge." in name for name in tensors)
    assert metadata["base"] == {"name": "sam-compact", "sha256": sha256(folder / "base" / "sam-compact.safetensors")}
    assert metadata["kind"] == "model" and metadata["format"] == 3


def test_it_is_loaded_with_its_base_given_beside_it_or_registered(made, tmp_path, monkeypatch):
    folder, _, model, digest = made
    source = folder / "base" / "sam-compact.safetensors"
    loaded, _ = load_model(folder / "sam2.safetensors", digest, base=source)
    is_the_same(loaded, model)
    assert not loaded.training
    for file in (folder / "sam2.safetensors", source):
        shutil.copy(file, tmp_path)
    is_the_same(load_model(tmp_path / "sam2.safetensors")[0], model)
    entry = {"name": "other", "kind": "model", "file": "sam-compact.safetensors", "fits": "sam-compact"}
    entry |= {"sha256": sha256(source), "bytes": source.stat().st_size, "urls": [source.as_uri()]}
    (tmp_path / "own.json").write_text(json.dumps({"format": 2, "models": [entry]}), encoding="utf-8")
    monkeypatch.setenv("PROXYPROMPT_REGISTRY", str(tmp_path / "own.json"))
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="the weights of 'other' are not on this machine"):
        load_model(folder / "sam2.safetensors")
    from ProxyPromptSegmentLib.weights import registry
    from ProxyPromptSegmentLib.weights.cache import ModelCache

    ModelCache().take(registry.find("other"), source)
    is_the_same(load_model(folder / "sam2.safetensors")[0], model)


def test_a_missing_or_another_base_is_refused(made, tmp_path):
    folder, _, _, digest = made
    with pytest.raises(
        CheckpointError, match="'sam-compact' with SHA-256 .* are not in the registry, or those of this"
    ):
        load_model(folder / "sam2.safetensors", digest)
    other = write_base(tmp_path, seed=5)
    with pytest.raises(CheckpointError, match="trained on the weights 'sam-compact' .* silently give wrong masks"):
        load_model(folder / "sam2.safetensors", digest, base=other)
    shutil.copy(folder / "sam2.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="are not in the registry"):
        load_model(tmp_path / "sam2.safetensors")
    with pytest.raises(CheckpointError, match="there are no base weights"):
        load_model(folder / "sam2.safetensors", digest, base=tmp_path / "gone.safetensors")


def test_a_file_that_lacks_a_tensor_of_its_own_or_names_no_base_is_refused(made, tmp_path):
    folder = made[0]
    tensors, metadata = read_checkpoint(folder / "sam2.safetensors")
    source = folder / "base" / "sam-compact.safetensors"
    tensors.pop("backbone.bridge.proxy_position")
    save_checkpoint(tmp_path / "less.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match="1 tensors are neither in it nor in 'sam-compact'"):
        load_model(tmp_path / "less.safetensors", base=source)
    save_checkpoint(tmp_path / "none.safetensors", tensors, {**metadata, "base": 3})
    with pytest.raises(CheckpointError, match="does not state on which weights"):
        load_model(tmp_path / "none.safetensors", base=source)


def test_only_a_compact_sam_of_this_size_can_be_a_base(made, tmp_path):
    folder = made[0]
    first = build_model("sam2-compact")
    save_checkpoint(tmp_path / "first.safetensors", first.state_dict(), {"name": "first", "model": first.describe()})
    base, _ = load_base_model(tmp_path / "first.safetensors")
    with pytest.raises(CheckpointError, match="'first' is not a model that this one can be built on"):
        shared_model(base)
    with pytest.raises(CheckpointError, match="is itself completed by other weights"):
        load_base_model(folder / "sam2.safetensors")


def test_a_release_of_it_needs_the_base(made, tmp_path):
    words = dict.fromkeys(("licence", "description", "citation", "trained_on"), "x")
    entry = entry_of(Release(made[0] / "sam2.safetensors", tmp_path / "card.md", words))
    assert (entry.kind, entry.base, entry.package) == ("model", "sam-compact", "sam2")
