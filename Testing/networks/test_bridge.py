"""The Bridge Unit: its size, its equations, and what it may and may not mix."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from ProxyPromptSegmentLib.networks.proxy_prompt.bridge import BridgeUnit, Cbam


def bridge(**options):
    torch.manual_seed(0)
    return BridgeUnit(channels=8, context_channels=6, width=32, **options).double()


def inputs(supports=3, objects=2):
    chance = torch.Generator().manual_seed(1)
    features = torch.randn(supports, 8, 5, 5, generator=chance, dtype=torch.float64)
    return features, torch.randn(supports, objects, 6, 5, 5, generator=chance, dtype=torch.float64)


def literal(unit, features, context):
    """One support and one object, ``(C, g, g)`` each, written out from the weights alone."""
    weights = dict(unit.named_parameters())

    def convolve(name, x, padding=1):
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    def multilayer(x):
        first = x @ weights["attention.channel.0.weight"].T + weights["attention.channel.0.bias"]
        return first.clamp(min=0) @ weights["attention.channel.2.weight"].T + weights["attention.channel.2.bias"]

    x = torch.cat([features, context])[None]
    first = convolve("block1.skip", x) + convolve("block1.conv2", convolve("block1.conv1", x.clamp(min=0)).clamp(min=0))
    flat = first.flatten(2)
    gate = torch.sigmoid(multilayer(flat.mean(2)) + multilayer(flat.max(2).values))
    gated = first * gate[..., None, None]
    pooled = torch.cat([gated.max(1, keepdim=True).values, gated.mean(1, keepdim=True)], 1)
    gated = gated * torch.sigmoid(convolve("attention.spatial", pooled, padding=3))
    if unit.cbam_residual:
        gated = gated + first
    inner = convolve("block2.conv2", convolve("block2.conv1", gated.clamp(min=0)).clamp(min=0))
    return (convolve("block2.skip", gated) + inner)[0]


def test_the_papers_bridge_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in BridgeUnit().parameters()) == 3_843_699


@pytest.mark.parametrize("residual", [False, True])
def test_it_computes_equations_4_and_5_for_each_support_and_object(residual):
    unit, (features, context) = bridge(cbam_residual=residual), inputs()
    answer = unit(features, context)
    assert answer.shape == (3, 2, 8, 5, 5)
    for k in range(3):
        for n in range(2):
            torch.testing.assert_close(answer[k, n], literal(unit, features[k], context[k, n]))


def test_the_residual_around_the_attention_changes_the_answer():
    plain, residual = bridge(), bridge(cbam_residual=True)
    residual.load_state_dict(plain.state_dict())
    assert (plain(*inputs()) - residual(*inputs())).abs().max() > 1e-3


def test_all_objects_at_once_are_each_object_alone():
    unit, (features, context) = bridge(), inputs(objects=3)
    together = unit(features, context)
    for n in range(3):
        torch.testing.assert_close(together[:, n : n + 1], unit(features, context[:, n : n + 1]))


@pytest.mark.parametrize("mode", ["none", "pooled"])
def test_another_order_of_objects_or_supports_gives_the_same_in_that_order(mode):
    unit, (features, context) = bridge(inter_object=mode), inputs(objects=3)
    answer = unit(features, context)
    order = [2, 0, 1]
    torch.testing.assert_close(unit(features, context[:, order]), answer[:, order])
    torch.testing.assert_close(unit(features[order], context[order]), answer[order])


def test_pooled_descriptors_let_one_object_see_another_and_only_on_its_own_support():
    unit, (features, context) = bridge(inter_object="pooled"), inputs()
    answer = unit(features, context)
    changed = context.clone()
    changed[0, 1] += 1
    difference = (unit(features, changed) - answer).abs().amax(dim=(2, 3, 4))
    assert difference[0, 0] > 1e-6
    assert difference[1:].max() == 0


def test_pooled_descriptors_of_one_object_change_nothing():
    plain, pooled = bridge(), bridge(inter_object="pooled")
    features, context = inputs(objects=1)
    torch.testing.assert_close(pooled(features, context), plain(features, context))


def test_channel_attention_never_loses_a_channel_width_below_its_reduction():
    assert Cbam(8, reduction=16).channel[0].out_features == 1
