"""The Selective Map against equations 6 and 7 written out, and the ways in which it saves memory."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode

from ProxyPromptSegmentLib.networks.proxy_prompt.selective_map import map_at, read_support, similarity

BATCH, CHANNELS, POSITIONS, SUPPORT, WIDTH = 2, 6, 10, 24, 5


@pytest.fixture
def case():
    """Targets, supports, values and which support positions are no padding; float32."""
    chance = torch.Generator().manual_seed(0)
    target = torch.randn(BATCH, CHANNELS, POSITIONS, generator=chance)
    support = torch.randn(CHANNELS, SUPPORT, generator=chance)
    values = torch.randn(SUPPORT, WIDTH, generator=chance)
    allowed = torch.rand(BATCH, SUPPORT, generator=chance) > 0.3
    return target, support, values, allowed


def literal_map(target, support, allowed):
    """Equation 6, and the softmax over the support of equation 7; plain numbers, ``M x P``."""
    scores = [
        [
            (
                2 * sum(float(s) * float(x) for s, x in zip(support[:, m], target[:, p], strict=True))
                - sum(float(s) ** 2 for s in support[:, m])
            )
            / math.sqrt(len(support))
            for p in range(target.shape[1])
        ]
        for m in range(support.shape[1])
    ]
    weights = torch.zeros(support.shape[1], target.shape[1], dtype=torch.float64)
    for p in range(target.shape[1]):
        powers = [math.exp(row[p]) if there else 0.0 for row, there in zip(scores, allowed, strict=True)]
        for m, power in enumerate(powers):
            weights[m, p] = power / sum(powers)
    return weights


def test_it_reads_what_equations_6_and_7_say(case):
    target, support, values, allowed = case
    answer = read_support(target, support, values, allowed)
    for b in range(BATCH):
        weights = literal_map(target[b], support, allowed[b])
        expected = torch.einsum("mp,mv->pv", weights, values.double())
        torch.testing.assert_close(answer[b].double(), expected, atol=1e-6, rtol=1e-5)


def test_it_is_a_softmax_of_negative_squared_distances(case):
    target, support, _, _ = case
    distance = (support.double()[None, :, None, :] - target.double()[:, :, :, None]).square().sum(1)
    expected = torch.softmax(-distance / math.sqrt(CHANNELS), dim=-1)
    everything = torch.ones(BATCH, SUPPORT, dtype=torch.bool)
    weights = read_support(target, support, torch.eye(SUPPORT), everything)
    torch.testing.assert_close(weights.double(), expected, atol=1e-6, rtol=1e-5)


def test_the_weights_of_a_target_position_sum_to_one_over_the_support_and_not_over_the_target(case):
    target, support, _, allowed = case
    weights = read_support(target, support, torch.eye(SUPPORT), allowed)
    torch.testing.assert_close(weights.sum(2), torch.ones(BATCH, POSITIONS))
    assert (weights.sum(1) - 1).abs().max() > 0.1


def test_a_temperature_divides_the_similarity(case):
    target, support, _, _ = case
    torch.testing.assert_close(similarity(target, support, 2.5), similarity(target, support) / 2.5)


@pytest.mark.parametrize("chunk", [1, 3, 9, 10, 512])
def test_chunks_change_nothing(case, chunk):
    target, support, values, allowed = case
    whole = read_support(target, support, values, allowed, chunk=POSITIONS)
    with torch.inference_mode():
        torch.testing.assert_close(read_support(target, support, values, allowed, chunk=chunk), whole)
    torch.testing.assert_close(read_support(target, support, values, allowed, chunk=chunk), whole)


def test_gradients_through_recomputed_chunks_are_those_of_the_direct_path(case):
    target, support, values, allowed = case
    gradients = []
    for chunk in (POSITIONS, 3):
        leaves = [tensor.clone().requires_grad_() for tensor in (target, support, values)]
        read_support(*leaves, allowed, chunk=chunk).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for direct, recomputed in zip(*gradients, strict=True):
        assert direct.abs().max() > 1e-3
        torch.testing.assert_close(recomputed, direct)


def test_gradients_are_those_of_finite_differences(case):
    target, support, values, allowed = case
    # The function computes in float32, so the step is wide and the tolerance too.
    leaves = [tensor.clone().requires_grad_() for tensor in (target, support, values)]
    read_support(*leaves, allowed).square().sum().backward()
    for leaf in leaves:
        index = tuple(int(i) for i in torch.nonzero(leaf.grad.abs() == leaf.grad.abs().max())[0])
        ends = []
        for sign in (1, -1):
            moved = [other.detach().clone() for other in leaves]
            moved[[leaf is other for other in leaves].index(True)][index] += sign * 1e-2
            ends.append(float(read_support(*moved, allowed).double().square().sum()))
        assert float(leaf.grad[index]) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=2e-2)


def test_padding_is_never_read_and_gets_no_gradient(case):
    target, support, values, allowed = case
    allowed = allowed[:1].expand(BATCH, -1)
    before = read_support(target, support, values, allowed)
    padding = ~allowed[0]
    other, told = support.clone(), values.clone()
    other[:, padding], told[padding] = target[0, :, :1], 1e6
    other.requires_grad_()
    told.requires_grad_()
    after = read_support(target, other, told, allowed)
    torch.testing.assert_close(after, before)
    after.sum().backward()
    assert other.grad[:, padding].abs().max() == 0
    assert told.grad[padding].abs().max() == 0
    assert told.grad[~padding].abs().max() > 0


def test_supports_of_each_target_its_own_are_read_as_if_alone(case):
    target, _, _, allowed = case
    chance = torch.Generator().manual_seed(1)
    support = torch.randn(BATCH, CHANNELS, SUPPORT, generator=chance)
    values = torch.randn(BATCH, SUPPORT, WIDTH, generator=chance)
    together = read_support(target, support, values, allowed, chunk=4)
    for b in range(BATCH):
        alone = read_support(target[b : b + 1], support[b], values[b], allowed[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone)


def test_half_precision_inputs_are_compared_in_float32(case):
    target, support, values, allowed = case
    half = [tensor.half() for tensor in (target * 30, support * 30, values)]
    answer = read_support(*half, allowed)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, read_support(*(tensor.float() for tensor in half), allowed))


def test_autocast_does_not_lower_the_precision_of_the_comparison(case):
    target, support, values, allowed = case
    with torch.autocast("cpu", torch.bfloat16):
        answer = read_support(target * 30, support * 30, values, allowed)
    torch.testing.assert_close(answer, read_support(target * 30, support * 30, values, allowed))


def test_the_why_view_shows_the_very_weights_that_were_read(case):
    target, support, _, allowed = case
    positions = torch.tensor([7, 0, 3])
    weights = read_support(target[:1], support, torch.eye(SUPPORT), allowed[:1])[0]
    torch.testing.assert_close(map_at(target[0], support, allowed[0], positions), weights[positions])


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes, views apart."""

    largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        answer = function(*arguments, **(options or {}))
        for tensor in answer if isinstance(answer, (tuple, list)) else [answer]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return answer


@pytest.fixture
def fifteen_supports():
    chance = torch.Generator().manual_seed(0)
    positions, keys = 256, 15 * 256
    target, support = torch.randn(1, 8, positions, generator=chance), torch.randn(8, keys, generator=chance)
    return target, support, torch.randn(keys, 9, generator=chance), torch.ones(1, keys, dtype=torch.bool)


def test_fifteen_supports_never_need_the_whole_map(fifteen_supports):
    whole = 256 * 15 * 256
    with torch.inference_mode(), LargestTensor() as memory:
        read_support(*fifteen_supports, chunk=32)
    assert memory.largest <= whole * 32 // 256


def test_training_on_fifteen_supports_neither_makes_nor_keeps_the_whole_map(fifteen_supports):
    target, support, values, allowed = fifteen_supports
    whole, kept = 256 * 15 * 256, []
    with LargestTensor() as memory:
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            answer = read_support(target.requires_grad_(), support.requires_grad_(), values, allowed, chunk=32)
        answer.sum().backward()
    assert memory.largest <= whole * 32 // 256
    # Chunks that each kept their own part for the backward pass would add up to the whole map.
    assert sum({t.untyped_storage().data_ptr(): t.numel() for t in kept}.values()) < whole // 8
