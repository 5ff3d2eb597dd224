"""LoRA in the backbone: where the adapters sit, how many numbers they have, and that they start as nothing."""

from __future__ import annotations

import dataclasses
import re

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_backbone
from optional_packages import skip_without_peft

skip_without_peft()

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.backbones.lora import (
    SAM2_DECODER,
    SAM2_ENCODER,
    inject_lora,
)
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import build_sam2_modules
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import PRESETS
from ProxyPromptSegmentLib.networks.values import Prompt
from sam2_package import Sam2Backbone, clouds, discs, without_weights

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
    # An adapted layer is a module, which the decoder's shorter way for plain layers leaves to itself.
    torch.testing.assert_close(answer(plain), before, rtol=0, atol=1e-6)
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


# SAM 2: the patterns of its own names; its memory attention is not adapted.

PARTS = ("image_encoder", "sam_mask_decoder", "memory_attention")


def trained_numbers(module):
    """Trained parameters of each part of SAM 2, and of everything else."""
    counts = dict.fromkeys((*PARTS, "other"), 0)
    for key, parameter in module.named_parameters():
        part = next((part for part in PARTS if part in key.split(".")), "other")
        counts[part] += parameter.numel() if parameter.requires_grad else 0
    return counts


@pytest.mark.parametrize(
    ("targets", "counts"),
    [
        ((SAM2_ENCODER, SAM2_DECODER), (72_576, 23_552, 0, 0)),
        ((SAM2_ENCODER,), (72_576, 0, 0, 0)),
        ((SAM2_DECODER,), (0, 23_552, 0, 0)),
    ],
)
def test_rank_four_on_hiera_tiny_has_the_computed_number_of_parameters(targets, counts):
    with without_weights():
        backbone = Sam2Backbone("sam2.1-hiera-tiny")
        inject_lora(backbone.sam2, targets=targets)
    assert tuple(trained_numbers(backbone.sam2).values()) == counts


def test_the_adapters_of_sam2_sit_in_every_block_and_attention_that_was_asked_for():
    with without_weights():
        backbone = Sam2Backbone("sam2.1-hiera-tiny")
        inject_lora(backbone.sam2, targets=(SAM2_ENCODER, SAM2_DECODER))
    encoder = {f"image_encoder.trunk.blocks.{n}.attn.qkv" for n in range(12)}
    decoder = {name.replace("sam.mask_decoder", "sam_mask_decoder") for name in DECODER}
    assert adapted_modules(backbone.sam2) == encoder | decoder


def test_of_an_official_sam2_model_adapters_bridge_and_generator_are_trained_and_nothing_else():
    with without_weights():
        made = build_model("sam2.1-hiera-tiny")
    assert trained_numbers(made.backbone.sam2) == dict(zip((*PARTS, "other"), (72_576, 23_552, 0, 0), strict=True))
    for name, parameter in made.named_parameters():
        trained = "lora_" in name if name.startswith("backbone.sam2.") else True
        assert parameter.requires_grad == trained, name
    bridge = {name: parameter.numel() for name, parameter in made.backbone.bridge.named_parameters()}
    assert sum(bridge.values()) == 16_448 + 512 + 64
    assert all(
        name.startswith(("backbone.sam2.", "backbone.bridge.", "generator.")) for name, _ in made.named_parameters()
    )


def compact_model(lora_rank, seed=0):
    torch.manual_seed(seed)
    return build_model("sam2-compact", lora_rank=lora_rank)


def followed(model):
    """Answers on two frames, the second with a memory of the first; logits ``(2, 1, 64, 64)``."""
    features = model.backbone.encode(clouds(3))
    support = model.prepare(clouds(3)[:1], discs(1))
    first, _ = model.predict(features.select([1]), support)
    memory = model.backbone.remember(features.select([1]), first, 0)
    prompt = model.generator.prompt(features.select([2]), support)
    second = model.backbone.decode(features.select([2]), prompt, [memory], 1)
    return torch.cat([first.logits, second.logits])


def test_fresh_adapters_of_sam2_change_nothing():
    plain, adapted = compact_model(0).eval(), compact_model(0).eval()
    inject_lora(adapted.backbone.sam2, targets=(SAM2_ENCODER, SAM2_DECODER))
    with torch.inference_mode():
        before, after = followed(plain), followed(adapted)
    assert torch.equal(after, before)
    for part in PARTS[:2]:
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name and part in name:
                    parameter.normal_()
        changed = followed(adapted).detach()
        assert (changed - after).abs().max() > 1e-4, part
        after = changed


def test_every_trained_parameter_of_an_adapted_sam2_gets_a_gradient_from_a_clip():
    model = compact_model(4).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    followed(model).square().mean().backward()
    for name, parameter in model.named_parameters():
        got = parameter.grad is not None and float(parameter.grad.abs().max()) > 0
        assert got == parameter.requires_grad, name


def small_generator():
    """Of the official sizes, and quickly built."""
    small = {"vim_depth": 1, "vim_dim": 16, "bridge_width": 16, "ccm_width": 32, "ccm_heads": 4, "ccm_ffn": 32}
    return dataclasses.replace(PRESETS["robust-memory"], **small)


@pytest.mark.parametrize("name", ["sam2-hiera-tiny", "sam2.1-hiera-tiny"])
def test_official_weights_of_sam2_load_strictly_before_the_adapters_come(name):
    torch.manual_seed(1)
    base = build_sam2_modules(name).state_dict()
    made = build_model(name, small_generator(), base=base)
    state = made.backbone.sam2.state_dict()
    assert sum("lora_" in key for key in state) == 2 * (12 + 14)
    loaded = {key.replace(".base_layer", ""): value for key, value in state.items() if "lora_" not in key}
    assert loaded.keys() == base.keys()
    assert all(torch.equal(loaded[key], base[key]) for key in base)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda base: {}, r"471 tensors are missing \(first \['image_encoder\.neck.*0 are unknown"),
        (lambda base: {"model": base}, r"471 tensors are missing .*1 are unknown \(first \['model'\]\)"),
        (lambda base: {**base, "no_obj_ptr": torch.zeros(1, 3)}, r"1 have another shape \(first \['no_obj_ptr'\]\)"),
        (lambda base: {k: v for k, v in base.items() if "obj_ptr_tpos" not in k}, "2 tensors are missing .*tpos"),
    ],
)
def test_weights_of_another_version_or_size_are_refused_in_one_sentence(change, sentence):
    with without_weights():
        base = build_sam2_modules("sam2.1-hiera-tiny").state_dict()
        with pytest.raises(CheckpointError, match=f"not those of sam2.1-hiera-tiny: .*{sentence}") as refused:
            build_model("sam2.1-hiera-tiny", small_generator(), base=change(base))
    assert "give the checkpoint of this very size and version" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_weights_of_sam_2_0_are_not_taken_for_those_of_2_1():
    with without_weights():
        base = build_sam2_modules("sam2-hiera-tiny").state_dict()
        with pytest.raises(CheckpointError, match=r"not those of sam2.1-hiera-tiny: 3 tensors are missing"):
            build_model("sam2.1-hiera-tiny", small_generator(), base=base)
        with pytest.raises(CheckpointError, match=r"not those of sam2-hiera-small: .* missing"):
            build_model("sam2-hiera-small", small_generator(), base=base)
