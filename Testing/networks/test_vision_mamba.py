"""The contextual encoder: parameter counts, directions, positions and a rebuilding of its mixer."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from ProxyPromptSegmentLib.networks.proxy_prompt.selective_scan import selective_scan_reference
from ProxyPromptSegmentLib.networks.proxy_prompt.vision_mamba import (
    BidirectionalMixer,
    VisionMamba,
    VisionMambaBlock,
    causal_depthwise,
)

DIRECTIONAL = ("conv1d", "x_proj", "dt_proj")


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return VisionMamba(img_size=32, patch_size=8, in_chans=2, embed_dim=16, depth=2, d_state=4)


@pytest.fixture
def mixer():
    """A mixer whose directional weights differ in every tensor."""
    torch.manual_seed(1)
    made = BidirectionalMixer(16, d_state=4).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def test_the_published_sizes_have_the_published_parameter_counts():
    with torch.device("meta"):
        assert count(VisionMambaBlock(192)) == 282_048
        assert count(VisionMamba()) == 7_752_576
        assert count(VisionMamba(head_classes=1000)) == 7_945_576
        assert count(VisionMamba(cls="middle")) == 7_752_576 + 384


def test_the_parameters_have_the_released_models_names(encoder):
    names = {n.removeprefix("layers.0.") for n in encoder.state_dict() if n.startswith("layers.0.")}
    shared = {"norm.weight", "mixer.in_proj.weight", "mixer.out_proj.weight"}
    each = {"conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias", "D"}
    both = {f"mixer.{n}" for n in each} | {f"mixer.{n.split('.')[0]}_b{n[len(n.split('.')[0]) :]}" for n in each}
    assert names == shared | both | {"mixer.A_log", "mixer.A_b_log"}
    rest = {n for n in encoder.state_dict() if not n.startswith("layers.")}
    assert rest == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm_f.weight"}


def test_embeddings_come_back_row_by_row():
    torch.manual_seed(0)
    patchwise = VisionMamba(img_size=32, patch_size=8, in_chans=1, embed_dim=16, depth=0)
    image = torch.randn(2, 1, 16, 32)
    changed = image.clone()
    changed[:, :, 8:16, 24:32] += 1
    difference = (patchwise(changed) - patchwise(image)).abs().sum((0, 1))
    assert difference.shape == (2, 4)
    assert (difference > 0).nonzero().tolist() == [[1, 3]]


def test_the_last_patch_is_seen_at_the_first_and_the_first_at_the_last(encoder):
    encoder, image = encoder.double(), torch.randn(1, 2, 32, 32, dtype=torch.float64)  # rounding is of order 1e-15
    before = encoder(image)
    for corner, opposite in (((0, 0), (3, 3)), ((3, 3), (0, 0))):
        changed = image.clone()
        row, column = (8 * i for i in corner)
        changed[:, :, row : row + 8, column : column + 8] += 1
        assert (encoder(changed) - before)[0, :, opposite[0], opposite[1]].abs().max() > 1e-7


def test_every_parameter_takes_part(encoder):
    (encoder(torch.randn(1, 2, 32, 32)) * torch.randn(1, 16, 4, 4)).sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def rebuilt(mixer, tokens):
    """The v2 mixer of the released Vim: batch first, each direction on its own, torch's convolution."""
    x, gate = mixer.in_proj(tokens.transpose(0, 1)).transpose(1, 2).chunk(2, dim=1)
    total = 0
    for end, log_rates in (("", mixer.A_log), ("_b", mixer.A_b_log)):
        conv, x_proj, dt_proj = (getattr(mixer, name + end) for name in DIRECTIONAL)
        seen = x.flip(-1) if end else x
        filtered = functional.silu(conv(seen)[..., : x.shape[-1]])
        low, weight_in, weight_out = x_proj(filtered.transpose(1, 2)).split(
            [mixer.rank, mixer.d_state, mixer.d_state], dim=-1
        )
        y = selective_scan_reference(
            filtered,
            (low @ dt_proj.weight.T).transpose(1, 2),
            -log_rates.exp(),
            weight_in.transpose(1, 2),
            weight_out.transpose(1, 2),
            getattr(mixer, "D" + end),
            gate.flip(-1) if end else gate,
            dt_proj.bias,
            delta_softplus=True,
        )
        total = total + (y.flip(-1) if end else y)
    return functional.linear(total.transpose(1, 2) / 2, mixer.out_proj.weight).transpose(0, 1)


def test_the_mixer_equals_a_plain_rebuilding_in_values_and_gradients(mixer):
    tokens = torch.randn(37, 3, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(37, 3, 16, dtype=torch.float64)
    leaves = [tokens, *mixer.parameters()]
    results = []
    for y in (mixer(tokens), rebuilt(mixer, tokens)):
        results.append([y, *torch.autograd.grad((y * weight).sum(), leaves)])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_a_reversed_sequence_with_swapped_directions_gives_the_reversed_output(mixer):
    tokens = torch.randn(21, 2, 16, dtype=torch.float64)
    before = mixer(tokens)
    state = {name: value.clone() for name, value in mixer.state_dict().items()}
    pairs = [(n, n.replace("A_log", "A_b_log") if n == "A_log" else _with_end(n)) for n in state if _is_forward(n)]
    assert len(pairs) == 7
    swapped = dict(state)
    for ahead, back in pairs:
        swapped[ahead], swapped[back] = state[back], state[ahead]
    mixer.load_state_dict(swapped)
    torch.testing.assert_close(mixer(tokens.flip(0)), before.flip(0), rtol=1e-12, atol=1e-12)
    assert (mixer(tokens) - before).abs().max() > 1e-3


def _is_forward(name):
    return name in ("A_log", "D") or name.split(".")[0] in DIRECTIONAL


def _with_end(name):
    stem, dot, leaf = name.partition(".")
    return f"{stem}_b{dot}{leaf}"


@pytest.mark.parametrize("length", [1, 2, 3, 4, 19])
def test_the_causal_convolution_equals_torchs_and_passes_gradcheck(length):
    generator = torch.Generator().manual_seed(2)
    x, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((length, 2, 2, 3), (2, 3, 4), (2, 3))
    )
    batch_first = x.permute(1, 2, 3, 0).flatten(1, 2)
    wanted = functional.conv1d(functional.pad(batch_first, (3, 0)), weight.reshape(6, 1, 4), bias.flatten(), groups=6)
    torch.testing.assert_close(causal_depthwise(x, weight, bias).permute(1, 2, 3, 0).flatten(1, 2), wanted)
    assert torch.autograd.gradcheck(causal_depthwise, (x, weight, bias))


def test_every_block_adds_its_mixture_to_one_residual_stream(encoder):
    image = torch.randn(2, 2, 32, 32)
    stream = encoder.patch_embed(image).flatten(2).permute(2, 0, 1) + encoder.pos_embed.transpose(0, 1)
    for layer in encoder.layers:
        scale = (stream.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        stream = stream + layer.mixer(stream / scale * layer.norm.weight)
    wanted = stream / (stream.square().mean(-1, keepdim=True) + 1e-5).sqrt() * encoder.norm_f.weight
    torch.testing.assert_close(encoder.forward_tokens(image), wanted)


def test_the_residual_stream_is_float32_whatever_the_tokens_are():
    block = VisionMambaBlock(16, d_state=4).bfloat16()
    hidden, residual = block(torch.randn(5, 1, 16).bfloat16())
    assert (hidden.dtype, residual.dtype) == (torch.bfloat16, torch.float32)


def test_another_image_size_uses_resized_positions(encoder):
    with torch.no_grad():
        ramp = torch.arange(4.0).expand(4, 4)  # grows along columns, the same in every row
        encoder.pos_embed.copy_(ramp.reshape(1, 16, 1).expand(1, 16, 16))
    assert encoder(torch.randn(1, 2, 64, 24)).shape == (1, 16, 8, 3)
    assert torch.equal(encoder._positions(4, 4), encoder.pos_embed.transpose(0, 1))
    resized = encoder._positions(8, 6).unflatten(0, (8, 6))[..., 0, 0]
    torch.testing.assert_close(resized, resized[:1].expand(8, 6))
    assert (resized[0].diff() > 0).all()


def test_the_class_token_sits_in_the_middle_and_is_left_out_of_the_embeddings():
    torch.manual_seed(0)
    made = VisionMamba(img_size=32, patch_size=8, in_chans=1, embed_dim=16, depth=0, cls="middle")
    for sides in ((32, 32), (16, 24)):
        image = torch.randn(2, 1, *sides)
        tokens = made.forward_tokens(image)
        middle = sides[0] * sides[1] // 64 // 2
        assert tokens.shape[0] == sides[0] * sides[1] // 64 + 1
        wanted = made.norm_f(made.cls_token[0, 0] + made.pos_embed[0, 8])
        torch.testing.assert_close(tokens[middle], wanted.expand(2, 16))
        kept = torch.cat([tokens[:middle], tokens[middle + 1 :]])
        assert torch.equal(made(image).flatten(2).permute(2, 0, 1), kept)


def test_inference_equals_training(encoder):
    image = torch.randn(3, 2, 32, 32)
    trained = encoder(image)
    with torch.no_grad():
        assert torch.equal(encoder(image), trained.detach())
    with torch.inference_mode():
        assert torch.equal(encoder(image), trained.detach())


def test_one_image_of_a_batch_does_not_see_the_others(encoder):
    images = torch.randn(3, 2, 32, 32)
    torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), rtol=1e-5, atol=1e-5)


def test_bfloat16_autocast_stays_close(encoder):
    image = torch.randn(1, 2, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = encoder(image)
    assert (low.float() - encoder(image)).abs().max() < 0.1


def test_the_start_is_that_of_mamba():
    torch.manual_seed(0)
    made = VisionMamba(img_size=64, patch_size=16, in_chans=4, embed_dim=96, depth=4)
    mixers = [layer.mixer for layer in made.layers]
    for end in ("", "_b"):
        steps = torch.cat([functional.softplus(getattr(mixer, "dt_proj" + end).bias) for mixer in mixers])
        assert 0.999e-3 < steps.min() < 1.05e-3
        assert 0.95e-1 < steps.max() < 1.001e-1
        assert 0.008 < steps.median() < 0.0125
    for mixer in mixers:
        for log_rates in (mixer.A_log, mixer.A_b_log):
            torch.testing.assert_close(log_rates.exp(), torch.arange(1.0, 17).expand(192, 16))
        # torch's default, uniform in 1 / sqrt(fan_in), divided by the root of the depth
        torch.testing.assert_close(mixer.out_proj.weight.abs().max().item(), 0.5 / 192**0.5, rtol=1e-2, atol=0)
    torch.testing.assert_close(made.pos_embed.std().item(), 0.02, rtol=0.1, atol=0)
    torch.testing.assert_close(made.patch_embed.proj.weight.std().item(), 1 / 1024**0.5, rtol=0.02, atol=0)


def test_wrong_sizes_and_names_are_explained(encoder):
    with pytest.raises(ValueError, match="multiples of the patch size 8"):
        encoder(torch.zeros(1, 2, 30, 32))
    with pytest.raises(ValueError, match="allowed are 'none' and 'middle'"):
        VisionMamba(cls="first")
    with pytest.raises(ValueError, match="not a multiple of patch_size"):
        VisionMamba(img_size=100)
