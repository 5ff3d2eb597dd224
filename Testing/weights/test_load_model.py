"""From a name to a model: official weights, a prompt generator for them, and what must not go together."""

from __future__ import annotations

import logging

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_config
from optional_packages import needs_sam2
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.checkpoints import load_model, own_tensors, read_checkpoint, save_checkpoint, sha256
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.official import check_official, load_base, read_official
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.shapes import official_shapes, summary_of
from release_cases import CONFIG, Release


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_name_alone_builds_backbone_adapters_and_prompt_generator(release: Release) -> None:
    release.fetch("official", "prompts")
    model, metadata = load_model("prompts")
    assert same(model, release.model) and not model.training
    assert metadata["objects"] == ["prostate"] and metadata["version"]
    assert metadata["base"] == {"name": "official", "sha256": sha256(release.base)}


def test_a_generators_file_holds_nothing_of_the_official_weights(release) -> None:
    tensors, metadata = read_checkpoint(release.file, release.digest)
    assert metadata["kind"] == "generator"
    assert tensors.keys() == own_tensors(release.model.state_dict()).keys()
    assert all(name.startswith("generator.") or "lora_" in name for name in tensors)
    assert release.file.stat().st_size < release.base.stat().st_size


@needs_sam2
def test_sam_2s_bridge_into_the_memory_is_part_of_a_generator(tmp_path) -> None:
    config = tiny_config(image_size=128, grid=16, channels=128, prompt="memory")
    model = build_model("sam2-compact", config, lora_rank=2)
    names = own_tensors(model.state_dict()).keys()
    official = {name for name in model.state_dict() if name.startswith("backbone.sam2.") and "lora_" not in name}
    assert names.isdisjoint(official) and names | official == model.state_dict().keys()
    assert any(name.startswith("backbone.bridge.") for name in names) and any("lora_A" in name for name in names)
    torch.save({"model": model.backbone.sam2.state_dict()}, tmp_path / "x.pt")  # with adapters: not an official file
    with pytest.raises(CheckpointError, match="not those of sam2-compact"):
        build_model("sam2-compact", config, base=read_official(tmp_path / "x.pt"))


def test_the_base_weights_can_be_given_as_a_file(release) -> None:
    model, _ = load_model(release.file, release.digest, base=release.base)
    assert same(model, release.model)


def test_a_generator_on_other_base_weights_is_refused_although_their_shapes_are_the_same(release, tmp_path) -> None:
    other = tmp_path / "other.pth"
    torch.save({name: tensor + 0.01 for name, tensor in release.official.items()}, other)
    with pytest.raises(
        CheckpointError, match="trained on the weights 'official' .* silently give wrong masks"
    ) as caught:
        load_model(release.file, release.digest, base=other)
    assert caught.value.remedy == Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model="official")
    with pytest.raises(CheckpointError, match="there are no base weights"):
        load_model(release.file, release.digest, base=tmp_path / "gone.pth")


def test_base_weights_of_the_same_name_but_another_hash_are_not_taken(release) -> None:
    release.entries[0]["sha256"] = "0" * 64
    release.write()
    with pytest.raises(CheckpointError, match="'official' with SHA-256 .* are not in the registry, or those of this"):
        load_model(release.file)


def test_base_weights_that_are_not_here_say_how_they_can_be_had(release) -> None:
    release.fetch("prompts")
    with pytest.raises(CheckpointError, match="'official' are not on this machine") as caught:
        load_model("prompts")
    assert caught.value.remedy == Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model="official")


def test_base_weights_that_are_damaged_in_the_cache_are_not_opened(release, monkeypatch) -> None:
    release.fetch("official", "prompts")
    path = ModelCache().path_of(registry.find("official"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was opened"))
    with pytest.raises(CheckpointError, match="SHA-256 .* fetch it again"):
        load_model("prompts")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda said, tensors: said.pop("base"), "does not state on which weights it was trained"),
        (lambda said, tensors: said.update(base={"name": 3}), "does not state on which weights"),
        (lambda said, tensors: tensors.pop(next(iter(tensors))), "1 tensors are missing"),
        (lambda said, tensors: tensors.update(extra=torch.ones(1)), "1 are unknown .first .'extra'"),
        (lambda said, tensors: said["model"].update(backbone="sam2-compact"), "are not those of|cannot be built"),
    ],
)
def test_a_generators_file_that_contradicts_itself_is_refused(release, tmp_path, change, sentence) -> None:
    tensors, metadata = read_checkpoint(release.file)
    change(metadata, tensors)
    save_checkpoint(tmp_path / "changed.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match=sentence):
        load_model(tmp_path / "changed.safetensors", base=release.base)


def test_an_older_format_is_loaded_with_a_warning(release, tmp_path, caplog) -> None:
    tensors, metadata = read_checkpoint(release.file)
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, tensors, {**metadata, "format": 0})
    with caplog.at_level(logging.WARNING, logger="ProxyPromptSegmentLib"):
        assert same(load_model(path, base=release.base)[0], release.model)
        assert "old.safetensors was written by an older version" in caplog.text
        caplog.clear()
        load_model(release.file, base=release.base)
        assert caplog.text == ""


def test_official_files_load_with_or_without_a_model_around_their_tensors(release, tmp_path) -> None:
    torch.save({"model": release.official}, tmp_path / "wrapped.pt")
    assert read_official(tmp_path / "wrapped.pt").keys() == release.official.keys()
    torch.save({"model": release.official, "optimizer": {"lr": 1.0}}, tmp_path / "more.pt")
    assert read_official(tmp_path / "more.pt").keys() == release.official.keys()
    torch.save({"model": {"lr": 1.0}}, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="something else than named tensors"):
        read_official(tmp_path / "none.pt")


def test_base_weights_are_loaded_by_name_after_hash_and_shapes(release, monkeypatch) -> None:
    with pytest.raises(CheckpointError, match="not on this machine"):
        load_base("official")
    release.fetch("official")
    with pytest.raises(CheckpointError, match="there are no official weights for 'sam-compact'"):
        load_base("official")
    monkeypatch.setitem(official_shapes(), "sam-compact", summary_of(release.official))
    found = load_base("official")
    assert (found.name, found.sha256) == ("official", sha256(release.base))
    build_model("sam-compact", tiny_config(**CONFIG), base=found.tensors)
    check_official(release.base, "sam-compact", sha256(release.base))
    with pytest.raises(CheckpointError, match="is a generator, not an image backbone"):
        load_base("prompts")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x80\x02K", b"not a file", bytes(5000)])
def test_garbage_in_place_of_official_weights_is_a_sentence(tmp_path, content) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a file of tensors and was not executed|something else"):
        read_official(tmp_path / "x.pth")


def test_base_weights_imported_under_any_name_are_found_by_their_hash(release, tmp_path, monkeypatch, capsys) -> None:
    """As with weights whose publisher states no hash: the import records the hash of the file."""
    monkeypatch.setitem(official_shapes(), "sam-compact", summary_of(release.official))
    release.entries[0] = {"name": "ours", "kind": "backbone", "file": "any.pth", "fits": "sam-compact"}
    release.write()
    release.fetch("prompts")
    with pytest.raises(CheckpointError, match="are not in the registry") as caught:
        load_model("prompts")
    assert caught.value.remedy == Remedy(kind=RemedyKind.GIVE_BASE, model="official")
    assert main(["models", "import", str(release.base), "--as", "ours"]) == 0
    assert same(load_model("prompts")[0], release.model)
    assert load_base("ours").sha256 == load_base(release.base, "sam-compact").sha256 == sha256(release.base)
    assert load_base(release.base, "sam-compact").name == "ours"
    with pytest.raises(CheckpointError, match="'ours' has the weights of sam-compact, not of sam-vit-b"):
        load_base("ours", "sam-vit-b")
    capsys.readouterr()


def test_a_file_of_base_weights_must_be_those_of_the_backbone(release) -> None:
    with pytest.raises(CheckpointError, match="not the tensors of 'sam-vit-b'.* give its official file"):
        load_base(release.base, "sam-vit-b")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_base(release.base.with_name("gone.pth"), "sam-vit-b")
