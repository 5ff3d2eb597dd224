"""The decoder for prediction with few tokens: the package's numbers, and the package itself where it does not apply."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.networks.backbones import sam, token_decoder
from ProxyPromptSegmentLib.networks.backbones.lora import SAM_DECODER, inject_lora
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import DensePrompt
from ProxyPromptSegmentLib.networks.values import ImageFeatures, Prompt


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(5)
    made = sam.SamBackbone("sam-compact").eval()
    for value in made.sam.mask_decoder.parameters():
        torch.nn.init.normal_(value, std=0.15)  # biases, too
    return made


def asked(backbone, tokens=16, batch=2, objects=3):
    torch.manual_seed(6)
    side, width = backbone.grid, backbone.channels
    features = ImageFeatures(
        top=torch.randn(batch, width, side, side),
        positions=backbone.positions(),
        valid=torch.ones(batch, side, side, dtype=torch.bool),
    )
    sparse = torch.randn(batch, objects, tokens, width)
    return features, Prompt(sparse=sparse, dense=torch.randn(batch, objects, width, side, side))


def test_masks_and_qualities_are_those_of_the_package(backbone, monkeypatch):
    features, prompt = asked(backbone)
    used = []
    monkeypatch.setattr(sam, "decode_tokens", lambda *words: used.append(1) or token_decoder.decode_tokens(*words))
    with torch.inference_mode():
        logits, quality = backbone.decode_masks(features, prompt)
        assert used
        monkeypatch.setattr(sam, "can_decode", lambda *words: False)
        expected, known = backbone.decode_masks(features, prompt)
    assert len(used) == 1 and logits.shape == (2, 3, 4, 128, 128) and logits.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    torch.testing.assert_close(quality, known, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outputs", [(0,), (1, 2, 3), (3,)])
def test_some_of_the_masks_are_those_among_all(backbone, outputs):
    features, prompt = asked(backbone, tokens=5, batch=1, objects=2)
    with torch.inference_mode():
        logits, quality = backbone.decode_masks(features, prompt)
        some, known = backbone.decode_masks(features, prompt, outputs)
    torch.testing.assert_close(some, logits[:, :, list(outputs)], rtol=1e-4, atol=1e-4 * float(logits.std()))
    torch.testing.assert_close(known, quality[:, :, list(outputs)], rtol=1e-4, atol=1e-5)


def test_a_tracked_frame_is_decoded_as_by_the_package_of_sam_2(monkeypatch):
    from ProxyPromptSegmentLib.networks.backbones import sam2_decoder
    from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone

    torch.manual_seed(8)
    tracking = Sam2Backbone("sam2-compact", bridge=None, image_size=256).eval()
    for value in tracking.sam2.sam_mask_decoder.parameters():
        torch.nn.init.normal_(value, std=0.15)
    features, prompt = asked(tracking, tokens=2, batch=1, objects=2)
    used = []
    monkeypatch.setattr(
        sam2_decoder, "decode_tokens", lambda *a, **b: used.append(1) or token_decoder.decode_tokens(*a, **b)
    )
    answers = []
    with torch.inference_mode():
        for tracking.few_tokens in (True, False):
            answers.append((tracking.decode(features, prompt), tracking.decode_masks(features, prompt, (3, 1))))
    assert len(used) == 2
    (ours, some), (theirs, known) = answers
    assert ours.logits.std() > 0.05 and theirs.presence.std() > 1e-4
    for name in ("logits", "quality", "presence", "pointer"):
        mine, expected = getattr(ours, name), getattr(theirs, name)
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    for mine, expected in zip(some, known, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_training_half_precision_adapters_and_many_tokens_are_left_to_the_package(backbone):
    decoder, cpu = backbone.sam.mask_decoder, torch.device("cpu")
    with torch.inference_mode():
        assert token_decoder.can_decode(decoder, 21, cpu)
        assert not token_decoder.can_decode(decoder, 40, cpu)
        with torch.autocast("cpu", torch.bfloat16):
            assert not token_decoder.can_decode(decoder, 21, cpu)
        other = sam.SamBackbone("sam-compact").eval()
        inject_lora(other.sam, 2, 2, (SAM_DECODER,))
        assert not token_decoder.can_decode(other.sam.mask_decoder, 21, cpu)
        assert not token_decoder.can_decode(other.train().sam.mask_decoder, 21, cpu)
    assert not token_decoder.can_decode(decoder, 21, cpu), "gradients are wanted"


def test_a_dense_prompt_is_the_convolution_of_its_three_inputs_side_by_side():
    torch.manual_seed(7)
    made = DensePrompt(8, 6)
    torch.nn.init.normal_(made.out.weight, std=0.3)
    top, context, prior = torch.randn(2, 8, 4, 4), torch.randn(2, 3, 16, 8), torch.rand(2, 3, 16)
    maps = context.flatten(0, 1).transpose(1, 2).unflatten(2, (4, 4))
    joined = torch.cat([top.repeat_interleave(3, 0), maps, prior.flatten(0, 1).view(6, 1, 4, 4)], dim=1)
    expected = made.out(torch.nn.functional.gelu(made.mix(joined))).unflatten(0, (2, 3))
    torch.testing.assert_close(made(top, context, prior), expected, rtol=1e-5, atol=1e-5)
