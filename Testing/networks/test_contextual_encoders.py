"""The contextual encoders: the paper's sizes to the parameter, the results of torchvision's own networks, gradients."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_config, tiny_generator, tiny_model
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.checkpoints import load_model, save_checkpoint
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import CHOICES, COMPACT, PAPER, ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.contextual_encoders import (
    ResidualNetwork,
    VisionTransformer,
    build_contextual_encoder,
)
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from torchvision_guard import ensure_torchvision_importable

ensure_torchvision_importable()
WIDTHS = {"vim": 192, "vit_b": 768, "resnet50": 1024, "vit_compact": 192, "resnet_compact": 192}
COMPACT_WIDTHS = {"vim": 96, "vit_b": 768, "resnet50": 1024, "vit_compact": 96, "resnet_compact": 96}
COMPACT_ENCODERS = ("vit_compact", "resnet_compact")


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def shaken(module):
    """Random numbers in everything that starts at 0 or 1, so that nothing is compared by its initial value alone."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith(("weight", "var")) else tensor.normal_())
    return module


# --- sizes


@pytest.mark.parametrize(
    ("encoder", "expected", "table_13"),
    [("vim", 7_752_576, 7.8), ("vit_b", 88_990_464, 89.0), ("resnet50", 8_546_432, 8.5)],
)
def test_at_1024_pixels_each_encoder_has_the_parameters_of_the_paper(encoder, expected, table_13):
    with torch.device("meta"):
        made = build_contextual_encoder(dataclasses.replace(PAPER, encoder=encoder))
    assert parameters(made) == expected
    assert round(expected / 1e6, 1) == table_13


def test_every_choice_of_the_configuration_is_made_and_the_bridge_has_its_width():
    assert set(CHOICES["encoder"]) == set(WIDTHS)
    for encoder, width in WIDTHS.items():
        with torch.device("meta"):
            generator = ProxyPromptGenerator(dataclasses.replace(PAPER, encoder=encoder))
            if encoder != "vim":  # its scan needs real numbers
                context = generator.contextual_encoder(torch.rand(1, 4, 1024, 1024))
                assert context.shape == (1, width, 64, 64), encoder
        assert generator.bridge.block1.conv1.in_channels == 256 + width


def test_the_compact_encoders_are_of_the_size_of_the_compact_vim():
    sizes = {name: parameters(build_contextual_encoder(dataclasses.replace(COMPACT, encoder=name))) for name in WIDTHS}
    for name in COMPACT_ENCODERS:
        assert 0.5 < sizes[name] / sizes["vim"] < 2, sizes


# --- results: those of torchvision's networks with the same weights


@pytest.mark.parametrize("training", [False, True])
def test_the_residual_network_is_torchvisions_resnet50_up_to_its_third_stage(training):
    from torchvision.models import resnet50

    theirs = resnet50()
    theirs.conv1 = torch.nn.Conv2d(4, 64, 7, 2, 3, bias=False)
    theirs.layer4 = theirs.avgpool = theirs.fc = torch.nn.Identity()
    mine = shaken(ResidualNetwork())
    theirs.load_state_dict(mine.state_dict())
    for network in (mine, theirs):
        network.train(training)
    image = torch.randn(2, 4, 96, 64)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    with torch.no_grad():
        expected = theirs.layer3(theirs.layer2(theirs.layer1(x)))
        assert expected.shape == (2, 1024, 6, 4) and expected.std() > 0.1
        torch.testing.assert_close(mine(image), expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_the_small_residual_block_is_torchvisions():
    from torchvision.models.resnet import BasicBlock as Theirs

    from ProxyPromptSegmentLib.networks.proxy_prompt.contextual_encoders import BasicBlock

    mine = shaken(BasicBlock(8, 16, 2)).eval()
    down = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 1, 2, bias=False), torch.nn.BatchNorm2d(16))
    theirs = Theirs(8, 16, 2, down).eval()
    theirs.load_state_dict(mine.state_dict())
    image = torch.randn(2, 8, 12, 10)
    torch.testing.assert_close(mine(image), theirs(image))


@pytest.mark.parametrize("training", [False, True])
def test_the_vision_transformer_is_torchvisions_without_pooling(training):
    from torchvision.models import VisionTransformer as Theirs

    mine = shaken(VisionTransformer(48, 8, embed_dim=32, depth=3, heads=4))
    theirs = Theirs(48, 8, 3, 4, 32, 128)
    theirs.conv_proj = torch.nn.Conv2d(4, 32, 8, 8)
    parts = {"norm1": "ln_1", "norm2": "ln_2", "self_attn": "self_attention", "linear1": "mlp.0", "linear2": "mlp.3"}
    names = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}
    renamed = {}
    for name, value in mine.state_dict().items():
        renamed_part = name.replace("patch_embed.proj", "conv_proj").replace("norm.", "encoder.ln.")
        if name.startswith("layers"):
            _, number, part, rest = name.split(".", 3)
            renamed_part = f"encoder.layers.encoder_layer_{number}.{parts[part]}.{rest}"
        renamed[names.get(name, renamed_part)] = value
    theirs.heads = torch.nn.Identity()
    theirs.load_state_dict(renamed)
    image = torch.randn(2, 4, 48, 48)
    for network in (mine, theirs):
        network.train(training)
    with torch.no_grad():
        tokens = theirs.encoder(torch.cat([theirs.class_token.expand(2, -1, -1), theirs._process_input(image)], dim=1))
        expected = tokens[:, 1:].transpose(1, 2).unflatten(2, (6, 6))
        torch.testing.assert_close(mine(image), expected, rtol=1e-4, atol=1e-4)


def test_the_attention_over_4097_tokens_is_not_stored():
    encoder = VisionTransformer(1024, 16, embed_dim=16, depth=1, heads=2).eval()
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
        encoder(torch.rand(1, 4, 1024, 1024))
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < 4 * 2 * 4097**2 / 4  # bytes; the weights of two heads would be four times as many


# --- shapes and what is refused


@pytest.mark.parametrize(("stride", "side"), [(4, 16), (8, 8), (16, 4)])
@pytest.mark.parametrize("stages", [{}, {"stem": 4, "embed_dim": 16, "blocks": (1, 1, 1)}])
def test_a_residual_network_has_the_backbones_stride(stride, side, stages):
    assert ResidualNetwork(stride, **stages).eval()(torch.rand(1, 4, 64, 64)).shape[2:] == (side, side)


def test_another_stride_or_width_is_refused_in_words():
    with pytest.raises(UsageError, match="4, 8 or 16 pixels, and the backbone has one per 32; choose the encoder vim"):
        ResidualNetwork(32)
    with pytest.raises(UsageError, match="vim_dim is 18"):
        build_contextual_encoder(tiny_config(encoder="resnet_compact", vim_dim=18))
    with pytest.raises(UsageError, match="encoder is 'vit'; allowed are vim, vit_b"):
        tiny_config(encoder="vit")
    with pytest.raises(ValueError, match="32 x 64 pixels; this encoder has positions for 64 x 64"):
        VisionTransformer(64, 8, embed_dim=16, depth=1, heads=2)(torch.rand(1, 4, 32, 64))


def test_a_width_that_no_head_count_divides_has_one_head():
    made = build_contextual_encoder(tiny_config(encoder="vit_compact", vim_dim=18))
    assert made(torch.rand(1, 4, 64, 64)).shape == (1, 18, 8, 8)
    assert made.layers[0].self_attn.num_heads == 1


# --- learning


def test_the_layers_of_a_vision_transformer_begin_with_different_weights():
    first, second = build_contextual_encoder(tiny_config(encoder="vit_compact", vim_depth=2)).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    assert 0.01 < first.self_attn.in_proj_weight.std() < 0.03
    assert not first.linear1.bias.any()


@pytest.mark.parametrize("encoder", ["vit_b", "resnet50", *COMPACT_ENCODERS])
def test_every_parameter_of_an_encoder_is_moved(encoder):
    torch.manual_seed(0)
    made = build_contextual_encoder(tiny_config(encoder=encoder, vim_depth=2)).train()
    (made(torch.rand(2, 4, 64, 64)) * torch.randn(made.embed_dim, 8, 8)).sum().backward()
    still = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize(
    "encoder",
    [pytest.param(name, marks=pytest.mark.slow if name == "vit_b" else ()) for name in sorted(COMPACT_WIDTHS)],
)
def test_the_compact_model_runs_with_each_encoder(encoder):
    torch.manual_seed(0)
    model = build_model("sam-compact", dataclasses.replace(COMPACT, encoder=encoder)).eval()
    images, masks = torch.rand(1, 3, 256, 256), torch.zeros(1, 2, 256, 256)
    masks[:, 0, 30:60, 30:60], masks[:, 1, 80:100, 20:90] = 1, 1
    with torch.inference_mode():
        support = model.prepare(images, masks, ("left", "right"))
        decoded, prompt = model.predict(model.backbone.encode(images), support)
    assert model.generator.contextual_encoder.embed_dim == COMPACT_WIDTHS[encoder]
    assert decoded.logits.shape == (1, 2, 128, 128) and torch.isfinite(decoded.logits).all()
    assert prompt.sparse.shape == (1, 2, 16, 128)
    assert (support.aggregated[:, 0] - support.aggregated[:, 1]).abs().max() > 1e-4  # the mask is seen


# --- checkpoints


def test_settings_that_were_written_before_there_was_a_choice_mean_vision_mamba():
    written = COMPACT.to_dict()
    del written["encoder"]
    assert ProxyPromptConfig.from_dict(written) == COMPACT
    assert type(tiny_generator().contextual_encoder).__name__ == "VisionMamba"


@pytest.mark.parametrize("encoder", COMPACT_ENCODERS)
def test_a_model_with_another_encoder_is_saved_and_loaded_with_its_running_means(encoder, tmp_path):
    torch.manual_seed(0)
    model = build_model("sam-compact", dataclasses.replace(COMPACT, encoder=encoder)).train()
    images, masks = torch.rand(2, 3, 256, 256), torch.zeros(2, 1, 256, 256)
    masks[..., 30:90, 40:80] = 1
    with torch.no_grad():
        model.prepare(images, masks)  # moves the running means, where there are any
        expected = model.eval().prepare(images, masks).aggregated
        save_checkpoint(tmp_path / "model.safetensors", model.state_dict(), {"model": model.describe()})
        loaded, metadata = load_model(tmp_path / "model.safetensors")
        assert metadata["model"]["generator"]["encoder"] == encoder
        assert torch.equal(loaded.prepare(images, masks).aggregated, expected)


def test_an_encoder_is_chosen_as_one_change_of_a_recipe():
    model = tiny_model(encoder="resnet_compact")
    assert isinstance(model.generator.contextual_encoder, ResidualNetwork)
