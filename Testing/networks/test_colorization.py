"""The Contextual Colorization Module: sizes, equations 8 to 11, and both ways of halving the tokens."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.networks.proxy_prompt.colorization import (
    ColorizationBlock,
    ContextualColorization,
    PairMerge,
    TokenLinear,
)


def streams(count=2, side=8, channels=16):
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(count, side * side, channels, generator=chance) for _ in range(2)]


def small(reduce, **options):
    torch.manual_seed(1)
    return ContextualColorization(
        grid=8, channels=16, **{"width": 16, "heads": 4, "ffn": 24, "reduce": reduce, **options}
    ).eval()


@pytest.mark.parametrize(("reduce", "expected"), [("token_linear", 28_608_000), ("pair_merge", 7_368_704)])
def test_the_papers_module_has_the_computed_number_of_parameters(reduce, expected):
    with torch.device("meta"):
        assert sum(p.numel() for p in ContextualColorization(reduce=reduce).parameters()) == expected


@pytest.mark.parametrize("reduce", ["token_linear", "pair_merge"])
def test_four_blocks_leave_a_sixteenth_of_the_tokens(reduce):
    with torch.device("meta"):
        module = ContextualColorization(reduce=reduce)
        answer = module(torch.empty(1, 4096, 256), torch.empty(1, 4096, 256), (64, 64))
    assert answer.shape == (1, 256, 256)
    assert module.out_shape == (16, 16)


def attention(layer, query, memory):
    """Multi-head attention of ``(L, C)`` on ``(M, C)``, written out."""
    channels, heads = query.shape[1], layer.num_heads
    width = channels // heads
    weights, biases = layer.in_proj_weight.split(channels), layer.in_proj_bias.split(channels)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, memory, memory), weights, biases, strict=True))
    parts = []
    for h in range(heads):
        own = slice(h * width, (h + 1) * width)
        parts.append(torch.softmax(q[:, own] @ k[:, own].T / width**0.5, dim=-1) @ v[:, own])
    return layer.out_proj(torch.cat(parts, dim=1))


def norm(layer, x):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + layer.eps) * layer.weight + layer.bias


def test_a_block_computes_equations_8_to_11_in_their_order():
    torch.manual_seed(0)
    block = ColorizationBlock(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8), 8, 2, 12)
    block.reduce_features.forward = lambda tokens, shape: 2 * tokens
    block.reduce_context.forward = lambda tokens, shape: tokens - 1
    with torch.no_grad():
        for layer in block.norms:
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.normal_()
        features, context = torch.randn(1, 6, 8), torch.randn(1, 6, 8)
        got_features, got_context = block(features, context, (2, 3))
        f, e = 2 * features[0], context[0] - 1
        f = norm(block.norms[0], f + attention(block.features_from_context, f, e))
        f = norm(block.norms[1], f + block.features_ffn(f))
        e = norm(block.norms[2], e + attention(block.context_from_features, e, f))
        e = norm(block.norms[3], e + block.context_ffn(e))
    torch.testing.assert_close(got_features[0], f)
    torch.testing.assert_close(got_context[0], e)


@pytest.mark.parametrize("options", [{}, {"width": 24}])
def test_features_that_objects_share_are_given_once(options):
    module, (features, context) = small("pair_merge", **options), streams(count=2)
    contexts = torch.stack([context, 2 * context, -context], dim=1).flatten(0, 1)  # three objects of each target
    repeated = module(features.repeat_interleave(3, dim=0), contexts, (8, 8))
    torch.testing.assert_close(module(features, contexts, (8, 8)), repeated)
    assert (repeated[0] - repeated[1]).abs().max() > 0.01


@pytest.mark.parametrize(("along", "neighbour"), [("x", (0, 1)), ("y", (1, 0))])
def test_pairs_are_neighbours_along_the_named_axis(along, neighbour):
    merge = PairMerge(2, along)
    with torch.no_grad():
        merge.merge.weight.copy_(torch.cat([torch.eye(2), 100 * torch.eye(2)], dim=1))
        merge.merge.bias.zero_()
    rows, columns = 4, 6
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).float()
    merged = merge(place.reshape(1, -1, 2), (rows, columns))[0]
    first = place[:: 1 + neighbour[0], :: 1 + neighbour[1]].reshape(-1, 2)
    expected = first + 100 * (first + torch.tensor(neighbour))
    torch.testing.assert_close(merged, expected)


def test_token_linear_projects_along_the_tokens_and_leaves_channels_apart():
    torch.manual_seed(0)
    reduce, tokens = TokenLinear(8), torch.randn(2, 8, 3)
    expected = torch.einsum("ml,blc->bmc", reduce.project.weight, tokens) + reduce.project.bias[:, None]
    torch.testing.assert_close(reduce(tokens, (2, 4)), expected)


@pytest.mark.parametrize("options", [{}, {"width": 24}])
@pytest.mark.parametrize("reduce", ["token_linear", "pair_merge"])
def test_the_prompt_has_the_scale_of_sams_prompt_tokens(reduce, options):
    answer = small(reduce, **options)(*streams(), (8, 8))
    assert answer.shape == (2, 4, 16)
    torch.testing.assert_close(answer.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(answer.std(-1, unbiased=False), torch.ones(2, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("reduce", ["token_linear", "pair_merge"])
def test_both_streams_and_every_one_of_a_batch_reach_the_prompt_alone(reduce):
    module, (features, context) = small(reduce), streams()
    answer = module(features, context, (8, 8))
    for which in range(2):
        changed = [features.clone(), context.clone()]
        changed[which][1] += torch.randn(64, 16)
        difference = (module(*changed, (8, 8)) - answer).detach().abs().amax(dim=(1, 2))
        assert difference[0] == pytest.approx(0, abs=1e-6)
        assert difference[1] > 1e-3


def test_pair_merge_takes_another_resolution_and_token_linear_does_not():
    tokens = streams(side=16)
    assert small("pair_merge")(*tokens, (16, 16)).shape == (2, 16, 16)
    with pytest.raises(RuntimeError):
        small("token_linear")(*tokens, (16, 16))
