"""LoRA in the backbone: where the adapters sit, how many numbers they have, and that they start as nothing."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_backbone

pytest.importorskip("peft")

from ProxyPromptSegmentLib.backbones.lora import inject_lora, load_lora_state, lora_state
from ProxyPromptSegmentLib.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.protocols import Prompt

KINDS = ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
ATTENTIONS = {f"layers.{n}.{kind}" for n in (0, 1) for kind in KINDS} | {"final_attn_token_to_image"}
DECODER = {f"sam.mask_decoder.transformer.{name}.{p}" for name in ATTENTIONS for p in ("q_proj", "v_proj")}


def adapted_modules(module):
    return {name.split(".lora_A")[0] for name, _ in module.named_parameters() if ".lora_A" in name}


def tiny_with_adapters(rank=4):
    torch.manual_seed(0)
    made = tiny_backbone().eval()
    inject_lora(made, rank=rank, alpha=rank)
    return made


def answer(backbone):
    chance = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        features = backbone.encode(torch.rand(1, 3, 64, 64, generator=chance))
        return backbone.decode(features, Prompt(sparse=torch.randn(1, 2, 3, 32, generator=chance))).logits


@pytest.mark.parametrize(("name", "encoder"), [("sam-vit-b", 147_456), ("sam-vit-h", 655_360)])
def test_rank_four_has_the_computed_number_of_parameters(name, encoder):
    with torch.device("meta"):
        backbone = SamBackbone(name)
        inject_lora(backbone)
    counts = {"image_encoder": 0, "mask_decoder": 0, "other": 0}
    for key, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            counts[key.split(".")[1] if key.split(".")[1] in counts else "other"] += parameter.numel()
    assert counts == {"image_encoder": encoder, "mask_decoder": 23_552, "other": 0}


def test_the_adapters_sit_in_every_encoder_block_and_all_seven_attentions_and_nowhere_else():
    with torch.device("meta"):
        backbone = SamBackbone("sam-vit-b")
        inject_lora(backbone)
    assert len(DECODER) == 14
    assert adapted_modules(backbone) == {f"sam.image_encoder.blocks.{n}.attn.qkv" for n in range(12)} | DECODER


def test_the_compact_backbone_is_adapted_by_the_same_pattern():
    encoder = {f"sam.image_encoder.blocks.{n}.attn.qkv" for n in range(2)}
    assert adapted_modules(tiny_with_adapters()) == encoder | DECODER


def test_modules_that_only_end_alike_are_left_alone():
    block = torch.nn.Module()
    block.q_proj, block.v_proj = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    other = torch.nn.Module()
    other.memory_attention = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([block])})
    other.my_mask_decoder = torch.nn.Linear(4, 4)
    with pytest.raises(ValueError, match="not found in the base model"):
        inject_lora(other)
    assert not any("lora_" in name for name, _ in other.named_parameters())


def test_fresh_adapters_change_nothing():
    torch.manual_seed(0)
    plain = tiny_backbone().eval()
    before = answer(plain)
    inject_lora(plain)
    assert torch.equal(answer(plain), before)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert (answer(plain) - before).abs().max() > 1e-3


def test_the_adapter_adds_the_product_of_its_factors_times_alpha_over_rank():
    made = tiny_backbone()
    inject_lora(made, rank=2, alpha=6)
    layer = made.sam.image_encoder.blocks[0].attn.qkv
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        up.normal_()
        x = torch.randn(3, 40)
        expected = layer.base_layer(x) + 6 / 2 * (x @ down.T @ up.T)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_only_the_adapters_are_trained_and_both_factors_learn():
    made = tiny_with_adapters()
    for name, parameter in made.named_parameters():
        assert parameter.requires_grad == bool(re.search(r"\.lora_[AB]\.", name)), name
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    features = made.encode(torch.rand(1, 3, 64, 64))
    made.decode(features, Prompt(sparse=torch.randn(1, 1, 3, 32))).logits.square().mean().backward()
    for name, parameter in made.named_parameters():
        assert (parameter.grad is not None and float(parameter.grad.abs().max()) > 0) == ("lora_" in name), name


def test_adapters_go_from_one_backbone_to_another():
    first, second = tiny_with_adapters(), tiny_with_adapters()
    with torch.no_grad():
        for tensor in lora_state(first).values():
            tensor.normal_()
    before = answer(second)
    load_lora_state(second, {name: tensor.clone() for name, tensor in lora_state(first).items()})
    torch.testing.assert_close(answer(second), answer(first))
    assert (answer(second) - before).abs().max() > 1e-3
    assert all("lora_" in name for name in lora_state(first))
    assert len(lora_state(first)) == 2 * (2 + 14)


def test_adapters_with_other_names_or_shapes_are_refused_and_nothing_is_filled():
    made, state = tiny_with_adapters(), lora_state(tiny_with_adapters())
    before = {name: tensor.clone() for name, tensor in lora_state(made).items()}
    first, *others = state
    for wrong, sentence in (
        ({name: state[name] for name in others}, "1 tensors are missing"),
        ({**state, "sam.lora_Z": state[first]}, "1 are unknown"),
        (lora_state(tiny_with_adapters(rank=2)), r"has shape \(2, 40\), not \(4, 40\)"),
        ({}, "32 tensors are missing"),
    ):
        with pytest.raises(CheckpointError, match=sentence):
            load_lora_state(made, wrong)
    for name, tensor in lora_state(made).items():
        assert torch.equal(tensor, before[name])
