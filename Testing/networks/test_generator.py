"""The prompt generator: objects and supports in any number and order, what is prepared once, and its gradients."""

from __future__ import annotations

import itertools
import time

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, random_features, random_support, tiny_config, tiny_generator, tiny_model
from optional_packages import skip_without_peft
from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT, PRESETS, ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.training.episodes import Episode
from ProxyPromptSegmentLib.training.recipe import Recipe
from ProxyPromptSegmentLib.training.trainer import episode_loss

FIELDS = ("sparse", "dense", "presence", "prior")

# SAM's parts that a proxy prompt with a sparse and a dense part, read out by mask token 0, never uses.
WITHOUT_GRADIENT = (
    "backbone.sam.mask_decoder.output_hypernetworks_mlps.1.",
    "backbone.sam.mask_decoder.output_hypernetworks_mlps.2.",
    "backbone.sam.mask_decoder.output_hypernetworks_mlps.3.",
    "backbone.sam.prompt_encoder.point_embeddings.",
    "backbone.sam.prompt_encoder.not_a_point_embed.",
    "backbone.sam.prompt_encoder.no_mask_embed.",
    "generator.kinship.",  # fitted on its own, on images that are not augmented
    "backbone.sam.prompt_encoder.mask_downscaling.",
    "generator.depth_scale",  # an episode without positions along a volume
)


def subset(support, index):
    """Some of the supports, in that order."""
    parts = {field: getattr(support, field)[index] for field in ("features", "aggregated", "occupancy", "valid")}
    return PreparedSupport(**parts, names=support.names)


def assert_same(first, second, objects=slice(None), **tolerance):
    """Compares two prompts; the second one's objects are picked first."""
    for field in FIELDS:
        left, right = getattr(first, field), getattr(second, field)
        assert (left is None) == (right is None), field
        if left is not None:
            torch.testing.assert_close(left, right[:, objects], **{"atol": 2e-5, "rtol": 1e-4, **tolerance})


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        # Vim + Bridge + CCM + LoRA of ViT-H's encoder and of the decoder
        ("paper", 7_752_576 + 3_843_699 + 28_608_000 + 655_360 + 23_552),
        ("robust", 7_752_576 + 3_843_699 + 7_368_704 + 655_360 + 23_552),
    ],
)
def test_with_vit_h_the_trainable_parameters_are_the_computed_ones(preset, expected):
    skip_without_peft()
    with torch.device("meta"):
        model = build_model("sam-vit-h", preset)
    assert trainable(model) == expected
    assert round(expected / 1e6, 1) == {"paper": 40.9, "robust": 19.6}[preset]


@pytest.mark.parametrize("preset", ["paper", "robust", "compact"])
def test_every_preset_runs_on_the_compact_backbone(preset):
    torch.manual_seed(0)
    model = build_model("sam-compact", preset).eval()
    with torch.inference_mode():
        images, masks = torch.rand(2, 3, 256, 256), torch.zeros(2, 2, 256, 256)
        masks[:, 0, 30:60, 30:60], masks[:, 1, 80:100, 20:90] = 1, 1
        features = model.backbone.encode(images)
        support = model.generator.prepare(features, images, masks, ("left", "right"))
        decoded, prompt = model.predict(features.select([0]), support)
    assert decoded.logits.shape == (1, 2, 128, 128)
    assert decoded.quality.shape == (1, 2)
    assert prompt.names == ("left", "right")
    assert torch.isfinite(decoded.logits).all()
    tokens = 16 if preset == "compact" else 64
    assert prompt.sparse.shape == (1, 2, tokens, 128)
    assert (prompt.dense is not None) == (prompt.presence is not None) == (preset == "compact")


def test_a_generator_for_another_grid_is_refused_in_words():
    with torch.device("meta"), pytest.raises(UsageError, match="choose a generator for this backbone"):
        build_model("sam-vit-b", COMPACT, lora_rank=0)
    with pytest.raises(UsageError, match="no preset 'best'.*paper, robust, compact"):
        build_model("sam-compact", "best")


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(UsageError, match="reduce is 'halve'; allowed are token_linear, pair_merge"):
        tiny_config(reduce="halve")


def test_a_configuration_survives_the_way_through_a_dictionary():
    for config in PRESETS.values():
        assert ProxyPromptConfig.from_dict(config.to_dict()) == config
    with pytest.raises(CheckpointError, match="settings that this version does not know: magic"):
        ProxyPromptConfig.from_dict({**COMPACT.to_dict(), "magic": 1})


def test_masks_prepared_one_by_one_are_those_prepared_together():
    generator = tiny_generator()
    chance = torch.Generator().manual_seed(5)
    images = torch.rand(2, 3, 64, 64, generator=chance)
    masks = (torch.rand(2, 3, 64, 64, generator=chance) > 0.5).float()
    features = random_features(2, generator.config)
    together = generator.prepare(features, images, masks)
    for n in range(3):
        alone = generator.prepare(features, images, masks[:, [n]])
        torch.testing.assert_close(alone.aggregated, together.aggregated[:, [n]], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.occupancy, together.occupancy[:, [n]])
    for k in range(2):
        alone = generator.prepare(features.select([k]), images[[k]], masks[[k]])
        torch.testing.assert_close(alone.aggregated, together.aggregated[[k]], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["none", "pooled"])
def test_another_order_of_objects_gives_the_same_prompts_in_that_order(mode):
    generator = tiny_generator(**{**EVERYTHING, "inter_object": mode})
    config, order = generator.config, [2, 0, 1]
    chance = torch.Generator().manual_seed(5)
    images = torch.rand(2, 3, 64, 64, generator=chance)
    masks = (torch.rand(2, 3, 64, 64, generator=chance) > 0.5).float()
    target, features = random_features(1, config, 9), random_features(2, config)
    prompt = generator.prompt(target, generator.prepare(features, images, masks))
    turned = generator.prompt(target, generator.prepare(features, images, masks[:, order]))
    assert_same(turned, prompt, order)


def test_pooled_objects_see_each_other_and_unpooled_ones_do_not():
    for mode, mixes in (("none", False), ("pooled", True)):
        generator = tiny_generator(inter_object=mode, bridge_width=64)
        features = random_features(1, generator.config)
        masks = torch.zeros(1, 2, 64, 64)
        masks[0, 0, 8:20, 8:20], masks[0, 1, 40:60, 40:60] = 1, 1
        images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
        before = generator.prepare(features, images, masks).aggregated[0, 0]
        masks[0, 1] = 0
        difference = (generator.prepare(features, images, masks).aggregated[0, 0] - before).abs().max()
        assert (difference > 1e-5) == mixes


@pytest.mark.parametrize("selection", ["map", "mean"])
def test_padding_of_a_support_says_nothing(selection):
    generator = tiny_generator(**{**EVERYTHING, "selection": selection})
    features, support = random_features(2, generator.config), random_support(generator, 2, 2)
    support.valid[1, 24:] = False
    before = generator.prompt(features, support)
    support.features[1, :, 24:] = features.top[0].flatten(1)[:, 24:]
    support.aggregated[1, :, :, 24:] = 77.0
    support.occupancy[1, :, 24:] = 1.0
    assert_same(generator.prompt(features, support), before)
    support.aggregated[1, :, :, :24] = 77.0
    assert (generator.prompt(features, support).sparse - before.sparse).abs().max() > 1e-3


def test_the_mean_over_supports_ignores_the_target():
    generator = tiny_generator(selection="mean")
    support = random_support(generator, 2, 1)
    first, _ = generator.context(random_features(1, generator.config, 1), support)
    second, _ = generator.context(random_features(1, generator.config, 2), support)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first[0, 0], support.aggregated[:, 0].mean(0).T, atol=1e-5, rtol=1e-4)


def test_the_mask_prior_is_what_the_why_view_points_at():
    generator = tiny_generator(mask_prior=True)
    features, support = random_features(1, generator.config), random_support(generator, 3, 2)
    support.valid[2, 10:] = False
    prior = generator.prompt(features, support).prior[0].flatten(1)
    positions = torch.tensor([5, 63, 17])
    weights = generator.why(features, support, positions)
    assert weights.shape == (3, 3, 8, 8)
    torch.testing.assert_close(weights.sum(dim=(1, 2, 3)), torch.ones(3))
    assert weights[:, 2].flatten(1)[:, 10:].max() == 0
    read = torch.einsum("qkp,knp->nq", weights.flatten(2), support.occupancy)
    torch.testing.assert_close(read, prior[:, positions], atol=1e-5, rtol=1e-4)


def test_a_target_that_is_its_own_support_finds_its_own_mask():
    generator = tiny_generator(mask_prior=True)
    config = generator.config
    features = random_features(1, config)
    features.top.mul_(20)  # far apart, so that each position's nearest one is itself
    masks = torch.zeros(1, 1, 64, 64)
    masks[0, 0, 8:32, 16:56] = 1
    support = generator.prepare(features, torch.rand(1, 3, 64, 64), masks)
    prior = generator.prompt(features, support).prior[0, 0]
    expected = torch.zeros(8, 8)
    expected[1:4, 2:7] = 1
    torch.testing.assert_close(prior, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["sparse", "dense", "both"])
def test_the_prompt_has_the_parts_that_were_chosen(kind):
    generator = tiny_generator(prompt=kind)
    prompt = generator.prompt(random_features(2, generator.config), random_support(generator, 1, 3))
    assert (prompt.sparse is not None) == (kind != "dense")
    assert (prompt.dense is not None) == (kind != "sparse")
    if prompt.sparse is not None:
        assert prompt.sparse.shape == (2, 3, 4, 32)
    if prompt.dense is not None:
        assert prompt.dense.shape == (2, 3, 32, 8, 8)
    assert prompt.prior is None
    assert prompt.presence is None


def test_without_colorization_the_prompt_is_the_pooled_contextual_embedding():
    generator = tiny_generator(ccm=False)
    assert not any("colorization" in name for name, _ in generator.named_parameters())
    features, support = random_features(1, generator.config), random_support(generator, 2, 1)
    context, _ = generator.context(features, support)
    prompt = generator.prompt(features, support)
    assert prompt.sparse.shape == (1, 1, 4, 32)
    quarter = context[0, 0].unflatten(0, (8, 8))[:4, 4:].mean(dim=(0, 1))
    torch.testing.assert_close(prompt.sparse[0, 0, 1], quarter)


def test_sams_positions_reach_the_colorization_only_where_asked():
    for positions, matters in (("none", False), ("sam_dense", True)):
        generator = tiny_generator(positions=positions)
        features, support = random_features(1, generator.config), random_support(generator, 1, 1)
        before = generator.prompt(features, support).sparse
        features.positions = features.positions.flip(1)
        assert ((generator.prompt(features, support).sparse - before).abs().max() > 1e-4) == matters


def test_the_contextual_encoder_sees_the_image_and_the_mask():
    generator = tiny_generator()
    features = random_features(1, generator.config)
    images, masks = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    masks[..., 20:40, 20:40] = 1
    before = generator.prepare(features, images, masks).aggregated
    assert (generator.prepare(features, images, 1 - masks).aggregated - before).abs().max() > 1e-4
    assert (generator.prepare(features, 1 - images, masks).aggregated - before).abs().max() > 1e-4


def random_episode(size=64, count=4):
    chance = torch.Generator().manual_seed(3)
    masks = torch.zeros(count, 1, size, size)
    for b in range(count):
        masks[b, 0, 5 * b : 5 * b + size // 3, size // 4 : size // 2 + b] = 1
    chosen = torch.tensor([[(b + 1) % count, (b + 2) % count] for b in range(count)])
    images = torch.rand(count, 1, size, size, generator=chance).expand(-1, 3, -1, -1)
    return Episode(
        images=images, masks=masks, truth=masks.clone(), chosen=chosen, related=torch.ones(count, dtype=torch.bool)
    )


def gradients(model, episode):
    model.zero_grad(set_to_none=True)
    episode_loss(model, episode, Recipe(name="test"))[0].backward()
    return {name: None if p.grad is None else float(p.grad.abs().max()) for name, p in model.named_parameters()}


def test_one_episode_moves_every_parameter_except_the_parts_of_sam_that_are_not_used():
    torch.manual_seed(0)
    model = build_model("sam-compact", "compact").train()
    found = gradients(model, random_episode(size=256))
    assert all(p.requires_grad for p in model.parameters())
    still = {name for name, size in found.items() if not size}
    expected = {name for name in found if name.startswith(WITHOUT_GRADIENT)}
    assert still == expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reduce": "token_linear"},
        {"selection": "mean"},
        {"ccm": False},
        {"vim_cls": "middle"},
        {"encoder": "vit_compact", "bridge_width": 64},
        {"encoder": "resnet_compact", "bridge_width": 64},
    ],
)
def test_each_variant_of_the_generator_is_trained_as_a_whole(changes):
    model = tiny_model(**changes).train()
    with torch.no_grad():  # the gate's two hidden units are dead in some draws
        model.generator.bridge.attention.channel[0].bias.fill_(1.0)
    found = gradients(model, random_episode())
    assert [name for name, size in found.items() if name.startswith("generator") and not size] == []


def test_the_support_side_may_be_prepared_without_gradient_and_the_target_side_still_learns():
    model = tiny_model().train()
    episode = random_episode()
    with torch.no_grad():
        features = model.backbone.encode(episode.images)
        support = model.generator.prepare(features, episode.images, episode.masks)
    decoded, _ = model.predict(model.backbone.encode(episode.images), support)
    decoded.logits.square().mean().backward()
    assert model.generator.bridge.block1.conv1.weight.grad is None
    assert model.generator.colorization.blocks[0].norms[0].weight.grad.abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "robust"])
def test_vit_b_at_1024_pixels_goes_from_support_to_masks(preset, record_property):
    import resource

    skip_without_peft()
    torch.manual_seed(0)
    start = time.monotonic()
    model = build_model("sam-vit-b", preset).eval()
    with torch.inference_mode():
        image, masks = torch.rand(1, 3, 1024, 1024), torch.zeros(1, 1, 1024, 1024)
        masks[:, :, 300:600, 400:700] = 1
        built = time.monotonic()
        features = model.backbone.encode(image)
        encoded = time.monotonic()
        support = model.generator.prepare(features, image, masks, ("box",))
        prepared = time.monotonic()
        decoded, prompt = model.predict(features, support)
    done = time.monotonic()
    assert features.top.shape == (1, 256, 64, 64)
    assert prompt.sparse.shape == (1, 1, 256, 256)
    assert decoded.logits.shape == (1, 1, 256, 256)
    assert torch.isfinite(decoded.logits).all()
    moments = (start, built, encoded, prepared, done)
    seconds = [round(after - before, 1) for before, after in itertools.pairwise(moments)]
    record_property("seconds_build_encode_prepare_predict", seconds)
    record_property("peak_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def test_the_generator_of_the_paper_is_the_sum_of_its_three_modules():
    with torch.device("meta"):
        generator = ProxyPromptGenerator(PRESETS["paper"])
    assert trainable(generator) == 7_752_576 + 3_843_699 + 28_608_000
