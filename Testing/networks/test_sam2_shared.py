"""SAM 2 around the compact SAM's encoder: it starts as the compact SAM, and works as the package's own modules."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.backbones.sam2_shared import name_in_base
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.values import Prompt
from sam2_package import PackageTracker, add_to_score, clouds, discs, enliven
from shared_models import base_of, shared_model, small_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_of(tmp_path_factory.mktemp("base"))


def test_the_size_of_a_configuration_tells_which_encoder_it_has():
    assert build_model("sam2-compact").backbone.image_size == 128
    model = build_model("sam2-compact", "compact-shared")
    backbone = model.backbone
    assert (backbone.image_size, backbone.grid, backbone.channels, backbone.memory_channels) == (256, 32, 128, 64)
    assert backbone.name == "sam2-compact" and backbone.keeps_aspect and model.describe()["lora_rank"] == 0
    again = build_model("sam2-compact", model.generator.config)
    assert again.state_dict().keys() == model.state_dict().keys()


def test_without_memory_and_tokens_it_answers_as_the_compact_sam(base):
    model, sam = shared_model(base), small_base()
    sam.load_state_dict(base.tensors)
    images = clouds(2, 256)
    chance = torch.Generator().manual_seed(0)
    prompt = Prompt(
        sparse=torch.randn(2, 2, 5, 128, generator=chance), dense=torch.randn(2, 2, 128, 32, 32, generator=chance)
    )
    with torch.inference_mode():
        ours, its = model.backbone.encode(images), sam.backbone.encode(images)
        torch.testing.assert_close(ours.top, its.top)
        torch.testing.assert_close(ours.positions, its.positions)
        # The package's decoder has one more token, for the score that the object is there; it is silenced.
        network = model.backbone.sam2.sam_mask_decoder
        without = replace(prompt, sparse=prompt.sparse)
        network.pred_obj_scores = model.backbone.sam2.pred_obj_scores = False
        decoded, wanted = model.backbone.decode(ours, without), sam.backbone.decode(its, prompt)
        network.pred_obj_scores = model.backbone.sam2.pred_obj_scores = True
    assert decoded.logits.shape == (2, 2, 128, 128)
    torch.testing.assert_close(decoded.logits, wanted.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.quality, wanted.quality, atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        alone = model.backbone.decode(ours, prompt).presence
    assert (alone > 0).all(), "a mask is drawn before presence is learned"
    says = torch.tensor([[-3.0, 4.0], [0.5, -9.0]])
    with torch.inference_mode():
        both = model.backbone.decode(ours, replace(prompt, presence=says)).presence
    torch.testing.assert_close(both, alone + says)


def test_every_tensor_of_the_compact_sam_has_a_place(base):
    model = shared_model(base)
    found = {name_in_base(name) for name in model.state_dict()} & base.tensors.keys()
    assert not base.tensors.keys() - found
    assert name_in_base("backbone.sam2.memory_encoder.out_proj.weight") is None


def test_a_sequence_is_followed_as_by_the_packages_own_steps(base):
    backbone = enliven(shared_model(base).backbone)
    with torch.inference_mode():
        backbone.sam2.memory_attention.norm.weight.fill_(1.0)
        add_to_score(backbone, 20)
        images, mask = clouds(5, 256), discs(1, 256)
        package = PackageTracker(backbone, images)
        package.step(0, mask=mask)
        features = backbone.encode(images)
        memories = [backbone.remember_mask(features.select([0]), mask, 0)]
        for frame in range(1, 5):
            theirs = package.step(frame)
            ours = backbone.decode(features.select([frame]), Prompt(), memories, frame)
            torch.testing.assert_close(ours.logits, theirs["pred_masks"], atol=2e-4, rtol=1e-3)
            memories.append(backbone.remember(features.select([frame]), ours, frame))
            assert memories[-1].spatial.shape == (1, 64, 16, 16)


def test_tokens_and_memories_change_the_answer(base):
    backbone = enliven(shared_model(base).backbone)
    features = backbone.encode(clouds(2, 256))
    tokens = Prompt(memory=torch.randn(1, 1, 16, 128, generator=torch.Generator().manual_seed(3)))
    with torch.inference_mode():
        alone = backbone.decode(features.select([1]), Prompt())
        prompted = backbone.decode(features.select([1]), tokens)
        memory = backbone.remember(features.select([0]), backbone.decode(features.select([0]), tokens), 0)
        remembered = backbone.decode(features.select([1]), tokens, [memory], 1)
    assert (alone.logits - prompted.logits).abs().max() > 1e-4
    assert (prompted.logits - remembered.logits).abs().max() > 1e-4


def test_the_first_version_keeps_its_network():
    made = Sam2Backbone("sam2-compact", image_size=128)
    assert made.state_dict().keys() == Sam2Backbone("sam2-compact").state_dict().keys()
    assert made.sam2.image_encoder.neck.d_model == 128 and made.memory_channels == 32
