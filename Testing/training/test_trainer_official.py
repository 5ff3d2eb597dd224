"""The trainer on official backbones: what is frozen, trained and saved."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_backbone
from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.backbones.lora import SAM_DECODER, inject_lora
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.official import OfficialWeights
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.training import trainer as module
from ProxyPromptSegmentLib.training.trainer import Trainer
from trainer_cases import recipe, same


def test_an_official_backbone_without_its_weights_is_refused_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(module, "build_model", None)
    with pytest.raises(CheckpointError, match="the weights of 'sam-vit-b' are not on this machine"):
        Trainer(recipe(backbone="sam-vit-b"), tmp_path, tmp_path / "out")


@pytest.fixture
def official(monkeypatch):
    """Small weights in the place of an official backbone's."""
    torch.manual_seed(8)
    tensors = {name: tensor + 0.01 for name, tensor in tiny_backbone().sam.state_dict().items()}

    def build(backbone, config, lora_rank=4, base=None):
        made = tiny_backbone()
        made.sam.load_state_dict(base or made.sam.state_dict())
        inject_lora(made.sam, lora_rank, lora_rank, (SAM_DECODER,))
        return ProxyPromptModel(made, ProxyPromptGenerator(config), lora_rank)

    monkeypatch.setattr(module, "build_model", build)
    weights = OfficialWeights(name="sam-vit-b", sha256="AB" * 32, tensors=tensors)
    monkeypatch.setattr(module, "load_base", lambda name, backbone: {"sam-vit-b": weights}[name])
    return tensors


def test_on_official_weights_adapters_and_generator_are_trained_and_saved_alone(data, official, clock, tmp_path):
    trainer = Trainer(recipe(steps=2, backbone="sam-vit-b"), data, tmp_path)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    path = trainer.run()
    after = trainer.model.state_dict()
    for name, tensor in official.items():
        places = [f"backbone.sam.{name}", "backbone.sam." + ".base_layer.".join(name.rsplit(".", 1))]
        found = next(after[place] for place in places if place in after)
        assert torch.equal(found, tensor), name
    own = {name for name in after if "lora_" in name or name.startswith("generator.")}
    assert any("lora_" in name and not torch.equal(after[name], before[name]) for name in own)
    tensors, metadata = read_checkpoint(path)
    assert tensors.keys() == own
    assert (metadata["kind"], metadata["base"]) == ("generator", {"name": "sam-vit-b", "sha256": "ab" * 32})
    assert metadata["steps"] == 2 and metadata["recipe"]["backbone"] == "sam-vit-b"
    assert same(Trainer(recipe(steps=2, backbone="sam-vit-b"), data, tmp_path).model.state_dict(), after)


def test_what_is_frozen_is_neither_saved_averaged_nor_copied(data, official, clock, tmp_path):
    trainer = Trainer(recipe(steps=1, backbone="sam-vit-b"), data, tmp_path)
    trainer.run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    own = {name for name in trainer.model.state_dict() if "lora_" in name or name.startswith("generator.")}
    assert state["model"].keys() == state["average"].keys() == trainer.average.keys() == own
    copied = dict(trainer.averaged_model().named_parameters())
    for name, parameter in trainer.model.named_parameters():
        assert (copied[name].data_ptr() == parameter.data_ptr()) == (not parameter.requires_grad), name
    torch.save({**state, "base": "cd" * 32}, tmp_path / "state.pt")
    with pytest.raises(UsageError, match="a training on other base weights"):
        Trainer(recipe(steps=1, backbone="sam-vit-b"), data, tmp_path)
