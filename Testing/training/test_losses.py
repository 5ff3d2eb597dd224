"""The losses against their formulas in plain numbers."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.training.losses import (
    binary_cross_entropy,
    dice_loss,
    gate_by_presence,
    intersection_over_union,
)


def case(batch=2, objects=3):
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, objects, 4, 5, generator=chance, dtype=torch.float64).float() * 3
    return logits, (torch.rand(batch, objects, 4, 5, generator=chance) > 0.5).float()


@pytest.mark.parametrize("smooth", [1.0, 0.25])
def test_dice_is_equation_13_with_smoothing_for_each_target_and_object(smooth):
    logits, truth = case()
    loss = dice_loss(logits, truth, smooth)
    assert loss.shape == (2, 3)
    for b in range(2):
        for n in range(3):
            p = [1 / (1 + math.exp(-x)) for x in logits[b, n].flatten().tolist()]
            g = truth[b, n].flatten().tolist()
            both = sum(x * y for x, y in zip(p, g, strict=True))
            expected = 1 - (2 * both + smooth) / (sum(p) + sum(g) + smooth)
            assert float(loss[b, n]) == pytest.approx(expected, abs=1e-6)


def test_a_perfect_answer_costs_nothing_and_an_opposite_one_everything():
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 4:12, 4:12] = 1
    sure = (truth - 0.5) * 100
    assert float(dice_loss(sure, truth)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(-sure, truth)) > 0.99
    assert float(dice_loss(torch.full_like(truth, -50), torch.zeros_like(truth))) == pytest.approx(0, abs=1e-6)


def test_an_empty_target_has_a_gradient_that_lowers_the_logits_and_none_without_smoothing():
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    dice_loss(logits, torch.zeros(1, 1, 4, 4)).sum().backward()
    assert (logits.grad > 1e-4).all()
    # d/dx of 1 - 1 / (sum p + 1) at p = 1/2 on 16 pixels
    torch.testing.assert_close(logits.grad, torch.full((1, 1, 4, 4), 0.25 / 9**2))
    logits.grad = None
    dice_loss(logits, torch.zeros(1, 1, 4, 4), smooth=0.0).sum().backward()
    assert logits.grad.abs().max() == 0


def test_slices_without_the_object_may_have_a_smoothing_of_their_own():
    logits, truth = case()
    truth[0, 1] = 0
    expected = dice_loss(logits, truth)
    expected[0, 1] = dice_loss(logits, truth, smooth=30.0)[0, 1]
    torch.testing.assert_close(dice_loss(logits, truth, empty_smooth=30.0), expected)
    assert (dice_loss(logits, truth)[0, 1] - expected[0, 1]).abs() > 0.05


def test_cross_entropy_is_its_formula_and_finite_for_any_logit():
    logits, truth = case()
    loss = binary_cross_entropy(logits, truth)
    assert loss.shape == (2, 3)
    p = torch.sigmoid(logits.double())
    expected = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean(dim=(2, 3))
    torch.testing.assert_close(loss.double(), expected, atol=1e-6, rtol=1e-5)
    assert torch.isfinite(binary_cross_entropy(torch.full((1, 1, 2, 2), -1e4), torch.ones(1, 1, 2, 2))).all()


def test_half_precision_logits_give_a_float32_loss():
    logits, truth = case()
    torch.testing.assert_close(dice_loss(logits.half(), truth), dice_loss(logits.half().float(), truth))
    assert binary_cross_entropy(logits.half(), truth).dtype == torch.float32


def test_intersection_over_union_counts_pixels_and_is_one_where_both_are_empty():
    logits, truth = torch.full((1, 4, 2, 3), -1.0, requires_grad=True), torch.zeros(1, 4, 2, 3)
    with torch.no_grad():
        logits[0, 1, 0, :] = 1
        logits[0, 2, 0, :] = 1
    truth[0, 1, 0, 1:], truth[0, 1, 1, 2] = 1, 1
    truth[0, 3] = 1
    reached = intersection_over_union(logits, truth)
    assert reached.tolist() == [[1.0, 0.5, 0.0, 0.0]]
    assert not reached.requires_grad


def test_gated_logits_are_those_of_the_product_of_both_probabilities():
    logits, _ = case()
    presence = torch.tensor([[0.0, 2.0, -3.0], [5.0, -0.5, 1.0]])
    p = torch.sigmoid(gate_by_presence(logits, presence).double())
    expected = torch.sigmoid(logits.double()) * torch.sigmoid(presence.double())[..., None, None]
    torch.testing.assert_close(p, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [80.0, 1000.0])
def test_gated_logits_and_their_gradients_are_finite_for_any_logits(size):
    logits = torch.tensor([size, -size]).view(1, 2, 1, 1).repeat(2, 1, 1, 1).requires_grad_()
    presence = torch.tensor([[size, size], [-size, -size]], requires_grad=True)
    gated = gate_by_presence(logits, presence)
    assert torch.isfinite(gated).all()
    assert (gated > 0).flatten().tolist() == [True, False, False, False]
    binary_cross_entropy(gated, torch.ones_like(gated)).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(presence.grad).all()


def test_one_presence_logit_is_trained_by_the_masks_own_loss():
    presence = torch.zeros(1, 1, requires_grad=True)
    dice_loss(gate_by_presence(torch.ones(1, 1, 4, 4), presence), torch.zeros(1, 1, 4, 4)).sum().backward()
    assert presence.grad.item() > 1e-3
