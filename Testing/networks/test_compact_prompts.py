"""What the compact model adds to the paper's prompt path: pooled keys and tokens, depth, SAM's own prompts."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_config, tiny_model
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedSupport, Prompt

SIDE = 64


def pictures(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=chance)
    masks = torch.zeros(count, 2, SIDE, SIDE)
    masks[:, 0, 10:40, 12:30], masks[:, 1, 30:60, 34:50] = 1, 1
    return images, masks


def prepared(model, count: int = 2) -> PreparedSupport:
    return model.prepare(*pictures(count), ("a", "b"))


def test_pooled_keys_are_a_quarter_and_the_why_view_spreads_their_weight():
    model = tiny_model(key_pool=2)
    with torch.inference_mode():
        support = prepared(model)
        grid = model.backbone.grid
        assert support.features.shape[-1] == support.valid.shape[-1] == grid**2 // 4
        features = model.backbone.encode(pictures(1, 3)[0])
        weights = model.generator.why(features, support, torch.tensor([0, 5]))
    assert weights.shape == (2, 2, grid, grid)
    torch.testing.assert_close(weights.sum((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(weights[..., ::2, ::2], weights[..., 1::2, 1::2])


def test_pooled_padding_is_readable_only_where_a_position_of_the_square_is():
    model = tiny_model(key_pool=2)
    grid = model.backbone.grid
    valid = torch.zeros(2, grid, grid, dtype=torch.bool)
    valid[:, :3, :2] = True
    with torch.inference_mode():
        support = model.prepare(*pictures(2), ("a", "b"), valid)
    pooled = support.valid.view(2, grid // 2, grid // 2)
    assert pooled[:, :2, :1].all() and pooled.sum() == 2 * 2


def test_pooled_tokens_are_fewer_and_every_target_keeps_its_own_objects():
    model = tiny_model(ccm_pool=2)
    plain = tiny_model()
    with torch.inference_mode():
        features = model.backbone.encode(pictures(3, 1)[0])
        prompt = model.generator.prompt(features, prepared(model))
        assert prompt.sparse.shape[2] * 4 == plain.generator.prompt(features, prepared(plain)).sparse.shape[2]
        alone = model.generator.prompt(features.select([2]), prepared(model).objects([1]))
    torch.testing.assert_close(prompt.sparse[2:, 1:], alone.sparse, rtol=1e-4, atol=1e-5)


def test_a_pool_that_does_not_divide_the_grid_is_refused():
    with pytest.raises(UsageError, match="key_pool is 3; it must divide the grid"):
        tiny_config(key_pool=3)


def test_depth_is_the_squared_distance_of_one_more_coordinate():
    torch.manual_seed(2)
    generator = ProxyPromptGenerator(tiny_config(depth=True)).eval()
    config = generator.config
    positions = config.grid**2
    features = ImageFeatures(
        top=torch.randn(1, config.channels, config.grid, config.grid),
        positions=torch.zeros(config.channels, config.grid, config.grid),
        valid=torch.ones(1, config.grid, config.grid, dtype=torch.bool),
        depth=torch.tensor([0.5]),
    )
    support = PreparedSupport(
        features=torch.randn(2, config.channels, positions),
        aggregated=torch.randn(2, 1, config.channels, positions),
        occupancy=torch.rand(2, 1, positions),
        valid=torch.ones(2, positions, dtype=torch.bool),
        depth=torch.tensor([0.4, -0.9]),
    )
    factor = 10 * generator.depth_scale.item()
    distance = (features.top.flatten(2)[0].T[:, None] - support.features.permute(0, 2, 1).flatten(0, 1)[None]).square()
    apart = (factor * (0.5 - support.depth)).square().repeat_interleave(positions)
    weights = torch.softmax(-(distance.sum(-1) + apart) / config.channels**0.5, dim=1)
    wanted = weights @ support.aggregated.permute(0, 3, 1, 2).flatten(0, 1)[:, 0]
    with torch.inference_mode():
        torch.testing.assert_close(generator.context(features, support)[0][0, 0], wanted, rtol=1e-4, atol=1e-5)
        unknown = dataclasses.replace(support, depth=None)
        elsewhere = generator.context(features, unknown)[0]
        assert (elsewhere[0, 0] - wanted).abs().max() > 1e-2
        features.depth = None
        torch.testing.assert_close(generator.context(features, support)[0], elsewhere)


def test_a_support_below_zero_is_not_read():
    model = tiny_model()
    with torch.inference_mode():
        features, support = model.backbone.encode(pictures(2, 4)[0]), prepared(model, 3)
        padded = model.generator.prompt(features, support, torch.tensor([[1, -1], [2, 0]]))
        first = model.generator.prompt(features.select([0]), support, torch.tensor([[1]]))
    torch.testing.assert_close(padded.sparse[:1], first.sparse, rtol=1e-4, atol=1e-5)


def test_all_four_masks_are_those_of_the_package():
    model = tiny_model()
    backbone = model.backbone
    tokens = torch.randn(1, 1, 3, backbone.channels)
    with torch.inference_mode():
        features = backbone.encode(pictures(1)[0])
        logits, quality = backbone.decode_masks(features, Prompt(sparse=tokens))
        none = backbone.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        theirs, scores = backbone.sam.mask_decoder.predict_masks(
            image_embeddings=features.top,
            image_pe=features.positions.unsqueeze(0),
            sparse_prompt_embeddings=tokens[0],
            dense_prompt_embeddings=none.expand(1, -1, backbone.grid, backbone.grid),
        )
        single = backbone.decode(features, Prompt(sparse=tokens))
    torch.testing.assert_close(logits[0], theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quality[0], scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single.logits[0], theirs[:, 0], rtol=1e-4, atol=1e-4)


def test_a_mask_prompt_is_embedded_as_the_package_does():
    backbone = tiny_model().backbone
    mask = torch.randn(1, 1, 4 * backbone.grid, 4 * backbone.grid)
    tokens = torch.randn(1, 1, 3, backbone.channels)
    with torch.inference_mode():
        features = backbone.encode(pictures(1)[0])
        got = backbone.decode(features, Prompt(sparse=tokens, mask=mask)).logits
        _, dense = backbone.sam.prompt_encoder(points=None, boxes=None, masks=mask)
        wanted = backbone.decode(features, Prompt(sparse=tokens, dense=dense.unsqueeze(1))).logits
    torch.testing.assert_close(got, wanted)
