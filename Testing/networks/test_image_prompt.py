"""AutoSAM: g makes a dense prompt of the image alone, h decodes it without SAM, and SAM stays as it is."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

import engine_doubles  # noqa: F401 - skips where a package is missing
from optional_packages import skip_without
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.checkpoints import (
    load_base_model,
    load_model,
    read_checkpoint,
    save_addition,
    save_checkpoint,
)
from ProxyPromptSegmentLib.networks.efficientnet_lite import EfficientNetLite0
from ProxyPromptSegmentLib.networks.image_prompt.config import COMPACT, OFFICIAL, ImagePromptConfig, legacy
from ProxyPromptSegmentLib.networks.image_prompt.encoder import ImagePromptEncoder, take_trunk
from ProxyPromptSegmentLib.networks.image_prompt.generator import min_max_logits
from ProxyPromptSegmentLib.networks.image_prompt.surrogate import ChannelNorm, SurrogateBackbone, SurrogateDecoder
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel, build_model
from ProxyPromptSegmentLib.networks.protocols import VocabularyGenerator
from ProxyPromptSegmentLib.networks.values import ImageFeatures
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

DISC_AND_CUP = (PromptClass("optic disc"), PromptClass("optic cup"))


def images(count, size=256, seed=1):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def a_model(config=None, backbone="sam-compact", seed=0):
    torch.manual_seed(seed)
    return build_model(backbone, config or dataclasses.replace(COMPACT, classes=DISC_AND_CUP)).eval()


def test_the_surrogate_decoder_has_the_parameters_of_the_papers_code():
    assert sum(parameter.numel() for parameter in SurrogateDecoder(256).parameters()) == 151_809


def test_the_surrogate_decoder_makes_256_positions_of_64():
    assert SurrogateDecoder(256)(torch.zeros(2, 256, 64, 64)).shape == (2, 1, 256, 256)


def test_the_norm_over_channels_is_a_layer_norm_of_each_position():
    torch.manual_seed(3)
    norm, x = ChannelNorm(8), torch.randn(2, 8, 5, 4)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    expected = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,), norm.weight, norm.bias, 1e-6)
    torch.testing.assert_close(norm(x), expected.permute(0, 3, 1, 2))


def test_the_prompt_is_dense_alone_bounded_by_its_reach_and_one_for_each_class():
    model = a_model()
    with torch.inference_mode():
        features = model.encode(images(2))
        decoded, prompt = model.predict(features, model.generator.prepare_classes([]))
    assert isinstance(model.generator, VocabularyGenerator) and not model.needs_support
    assert prompt.sparse is None and prompt.mask is None and prompt.names == ("optic disc", "optic cup")
    assert prompt.dense.shape == (2, 2, 128, 32, 32) and prompt.dense.abs().max() <= COMPACT.reach
    assert prompt.presence.shape == (2, 2) and decoded.logits.shape == (2, 2, 128, 128)
    assert not torch.equal(prompt.dense[0], prompt.dense[1]) and not torch.equal(prompt.dense[:, 0], prompt.dense[:, 1])


def test_one_class_of_two_is_what_both_together_give_of_it():
    model = a_model()
    with torch.inference_mode():
        features = model.encode(images(1))
        both = model.predict(features, model.generator.prepare_classes([]))[0]
        cup = model.predict(features, model.generator.prepare_classes(["optic cup"]))[0]
    torch.testing.assert_close(cup.logits[:, 0], both.logits[:, 1], atol=1e-4, rtol=1e-4)


def test_an_image_in_a_batch_has_the_prompt_that_it_has_alone():
    model = a_model()
    with torch.inference_mode():
        together, alone = model.encode(images(3)), model.encode(images(3)[1:2])
    torch.testing.assert_close(together.seen[1:2], alone.seen, atol=1e-5, rtol=1e-4)
    assert torch.equal(together.select([1]).seen, together.seen[1:2])
    joined = ImageFeatures.concatenate([together.select([0]), together.select([1, 2])])
    assert torch.equal(joined.seen, together.seen)


def test_min_max_shows_something_in_every_image_and_the_default_may_show_nothing():
    logits = torch.full((1, 1, 8, 8), -9.0) - torch.arange(64.0).view(8, 8)
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    scaled = torch.sigmoid(min_max_logits(logits, valid))
    assert not (logits > 0).any() and 0.4 < float((scaled > 0.5).float().mean()) < 0.6
    torch.testing.assert_close(scaled[0, 0, 0, 1], (logits[0, 0, 0, 1] + 72) / 63)
    valid[:, 2:] = False
    extremes = torch.sigmoid(min_max_logits(logits, valid))[0, 0, :4]
    assert extremes.min() < 1e-3 and extremes.max() > 1 - 1e-3


def test_legacy_has_neither_presence_nor_empty_images_and_is_decoded_as_such():
    model = a_model(legacy(COMPACT))
    with torch.inference_mode():
        features = model.encode(images(1))
        decoded, prompt = model.predict(features, model.generator.prepare_classes([]))
        plain = model.backbone.decode(features, prompt)
    assert prompt.presence is None and (decoded.logits > 0).any() and (decoded.logits < 0).any()
    torch.testing.assert_close(decoded.logits, min_max_logits(plain.logits, features.valid))


def test_what_contradicts_itself_is_rejected():
    with pytest.raises(UsageError, match="min_max"):
        ImagePromptConfig(min_max=True)
    with pytest.raises(UsageError, match="at least one"):
        ImagePromptConfig(classes=())
    with pytest.raises(UsageError, match="a name of its own|its own name"):
        ImagePromptConfig(classes=(PromptClass("polyp"), PromptClass("Polyp")))
    with pytest.raises(UsageError, match="read_size is 100"):
        ImagePromptConfig(read_size=100)


def test_gradients_reach_all_of_g_and_with_h_nothing_of_sam():
    model = a_model()
    model.backbone.requires_grad_(False)
    features = model.encode(images(1))
    decoded, prompt = model.predict(features, model.generator.prepare_classes([]))
    drawn = model.generator.surrogate(prompt.dense.flatten(0, 1))
    (decoded.logits.square().mean() + prompt.presence.sum() + drawn.mean()).backward()
    without = [name for name, p in model.generator.named_parameters() if p.grad is None]
    assert without == [] and all(p.grad is None for p in model.backbone.parameters())


def test_the_trunk_is_filled_from_the_compact_sams():
    model = a_model()
    take_trunk(model.generator.encoder, model.state_dict(), "backbone.sam.image_encoder.trunk.")
    whole = EfficientNetLite0().eval()
    whole.load_state_dict(model.backbone.sam.image_encoder.trunk.state_dict())
    for ours, theirs in zip(model.generator.encoder.trunk(images(1)), whole(images(1)), strict=False):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(KeyError):
        take_trunk(model.generator.encoder, {})


def test_the_surrogate_stands_for_sam_and_reads_the_same_prompt():
    model = a_model()
    stand_in = ProxyPromptModel(SurrogateBackbone(model.backbone, model.generator.surrogate), model.generator)
    prepared = model.generator.prepare_classes(["optic cup"])
    with torch.inference_mode():
        decoded, prompt = stand_in.predict(stand_in.encode(images(2)), prepared)
        full = model.predict(model.encode(images(2)), prepared)[1]
        expected = model.generator.surrogate(prompt.dense[:, 0])
    assert torch.equal(full.dense, prompt.dense) and torch.equal(decoded.logits, expected)


def test_a_checkpoint_brings_back_the_model_and_its_classes(tmp_path):
    model = a_model()
    path = tmp_path / "discs.safetensors"
    save_checkpoint(path, model.state_dict(), {"name": "discs", "model": model.describe()})
    again, metadata = load_model(path)
    assert metadata["model"]["generator_kind"] == "image" and again.generator.vocabulary == DISC_AND_CUP
    prepared = model.generator.prepare_classes([])
    with torch.inference_mode():
        assert torch.equal(
            again.predict(again.encode(images(1)), prepared)[0].logits,
            model.predict(model.encode(images(1)), prepared)[0].logits,
        )


def test_the_official_sizes_make_64_positions_of_256_channels():
    encoder = ImagePromptEncoder(OFFICIAL).eval()
    with torch.inference_mode():
        assert encoder(images(1, 1024)).shape == (1, 1, 257, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["sam-vit-b", "sam2.1-hiera-tiny"])
def test_on_official_architectures_two_steps_train_g_alone(backbone):
    model = a_model(dataclasses.replace(OFFICIAL, read_size=64), backbone)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    before = {name: p.clone() for name, p in model.state_dict().items()}
    optimiser = torch.optim.Adam(model.generator.parameters(), 3e-4)
    with torch.no_grad():
        features = model.backbone.encode(images(1, model.backbone.image_size))
    for _ in range(2):
        optimiser.zero_grad()
        seen = model.generator.embed(images(1, model.backbone.image_size))
        decoded, prompt = model.predict(dataclasses.replace(features, seen=seen), model.generator.prepare_classes([]))
        loss = torch.nn.functional.softplus(decoded.logits).mean() + prompt.presence.mean()
        loss.backward()
        optimiser.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("generator.encoder.trunk") for name in changed)
    assert not any(name.startswith("backbone.") for name in changed)


def test_a_file_holds_g_and_h_alone_where_the_compact_sam_is_on_this_machine(tmp_path):
    skip_without("sam-compact")
    base, _ = load_base_model("sam-compact")
    model = a_model()
    model.backbone.load_state_dict({k[9:]: v for k, v in base.tensors.items() if k.startswith("backbone.")})
    path = tmp_path / "discs.safetensors"
    save_addition(path, model, base, {"name": "discs"}, eight_bit=True)
    tensors, metadata = read_checkpoint(path)
    assert all(name.startswith("generator.") for name in tensors) and path.stat().st_size < 2_000_000
    assert metadata["format"] == 4 and metadata["base"]["name"] == "sam-compact"
    again = load_model(path)[0]
    assert torch.equal(
        again.backbone.sam.mask_decoder.iou_token.weight, model.backbone.sam.mask_decoder.iou_token.weight
    )
    prepared = again.generator.prepare_classes([])
    with torch.inference_mode():
        decoded = again.predict(again.encode(images(1)), prepared)[0].logits
        first = model.predict(model.encode(images(1)), prepared)[0].logits
    assert torch.corrcoef(torch.stack([decoded.flatten(), first.flatten()]))[0, 1] > 0.99


def test_what_the_frozen_trunk_makes_is_kept_and_gives_the_same_prompt():
    generator = a_model().generator
    with torch.inference_mode():
        kept = generator.keep(images(2))
        assert kept.dtype == torch.float16 and kept.shape == (2, 24 * 64**2 + 40 * 32**2 + 112 * 16**2)
        torch.testing.assert_close(generator.embed_kept(kept), generator.embed(images(2)), atol=2e-2, rtol=2e-2)


def test_random_weights_begin_as_sams_prompt_without_a_mask():
    generator, no_mask = a_model().generator, torch.linspace(-2.5, 2.5, 128)
    generator.begin(no_mask)
    with torch.inference_mode():
        dense = generator.embed(images(1))[0, :, :-1].mean((2, 3))
    for one in dense:
        assert torch.corrcoef(torch.stack([one, no_mask]))[0, 1] > 0.98 and one.max() > 2


def test_presence_is_shifted_by_a_number_of_each_class():
    model = a_model()
    state = model.generator.shift_presence(model.state_dict(), "generator.", torch.tensor([1.0, -2.0]))
    with torch.inference_mode():
        before = model.generator.embed(images(1))[0, :, -1, 0, 0]
        model.load_state_dict(state)
        after = model.generator.embed(images(1))[0, :, -1, 0, 0]
    torch.testing.assert_close(after - before, torch.tensor([1.0, -2.0]), atol=1e-4, rtol=0)
