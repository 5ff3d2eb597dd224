"""Each loss of AutoMedSAM against a literal computation of its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.training.vocabulary.losses import (  # noqa: E402
    UncertaintyWeighting,
    signed_distance_loss,
    soft_mask_logits,
    softened_divergence,
    squared_dice_loss,
    transfer_loss,
)


@pytest.fixture
def drawn():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (2, 2, 6, 7))
    truth = (rng.random((2, 2, 6, 7)) < 0.4).astype(np.float64)
    truth[1, 1] = 0
    return logits, truth


def tensors(drawn):
    return tuple(torch.from_numpy(values).float() for values in drawn)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_squared_dice_is_its_formula(drawn):
    logits, truth = drawn
    found = squared_dice_loss(*tensors(drawn), smooth=1.0, empty_smooth=5.0)
    for target in np.ndindex(2, 2):
        p = [sigmoid(value) for value in logits[target].ravel()]
        g = list(truth[target].ravel())
        s = 1.0 if any(g) else 5.0
        above = 2 * sum(a * b for a, b in zip(p, g, strict=True)) + s
        below = sum(a * a for a in p) + sum(b * b for b in g) + s
        assert float(found[target]) == pytest.approx(1 - above / below, abs=1e-5)


def test_the_divergence_of_softened_masks_is_its_formula(drawn):
    logits, truth = drawn
    found = softened_divergence(*tensors(drawn), temperature=2.0)
    rows, columns = truth.shape[-2:]
    for target in np.ndindex(2, 2):
        total = 0.0
        for i, j in np.ndindex(rows, columns):
            near = truth[target][max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            q, p = near.mean(), sigmoid(logits[target][i, j] / 2.0)
            for a, b in ((q, p), (1 - q, 1 - p)):
                total += a * math.log(a / b) if a > 0 else 0.0
        assert float(found[target]) == pytest.approx(total / (rows * columns), abs=1e-5)


def test_the_divergence_is_0_for_the_softened_truth_itself():
    truth = torch.zeros(1, 1, 9, 9)
    truth[..., 3:6, 3:6] = 1
    soft = torch.nn.functional.avg_pool2d(truth, 3, 1, 1, count_include_pad=False).clamp(1e-6, 1 - 1e-6)
    assert float(softened_divergence(2.0 * torch.logit(soft), truth, 2.0)) == pytest.approx(0, abs=1e-4)


def test_the_signed_distance_loss_is_its_formula():
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., 2:5, 3:7] = 1
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (1, 1, 8, 8))).float()
    inside = [(i, j) for i in range(8) for j in range(8) if truth[0, 0, i, j]]
    outside = [(i, j) for i in range(8) for j in range(8) if not truth[0, 0, i, j]]
    total = 0.0
    for i, j in np.ndindex(8, 8):
        mine, others = (1, outside) if truth[0, 0, i, j] else (-1, inside)
        distance = -mine * min(math.hypot(i - a, j - b) for a, b in others)
        total += sigmoid(float(logits[0, 0, i, j])) * distance / 8
    assert float(signed_distance_loss(logits, truth)) == pytest.approx(total / 64, abs=1e-5)
    assert float(signed_distance_loss(logits, torch.zeros_like(truth))) == 0


def test_the_transfer_is_the_squared_difference_where_the_object_is():
    rng = np.random.default_rng(2)
    mine, box = rng.normal(size=(2, 2, 2, 5)), rng.normal(size=(2, 2, 2, 5))
    there = np.array([[1.0, 0.0], [1.0, 1.0]])
    wanted = np.mean([np.mean((mine[t] - box[t]) ** 2) for t in np.ndindex(2, 2) if there[t]])
    found = transfer_loss(
        torch.from_numpy(mine).float(), torch.from_numpy(box).float(), torch.from_numpy(there).float()
    )
    assert found.item() == pytest.approx(wanted, abs=1e-5)
    assert float(transfer_loss(torch.ones(1, 1, 2, 3), torch.zeros(1, 1, 2, 3), torch.zeros(1, 1))) == 0


def test_uncertainty_weighting_is_its_formula_and_learns_its_weights():
    weighting = UncertaintyWeighting(("bce", "dice", "transfer"))
    with torch.no_grad():
        weighting.uncertainty.copy_(torch.tensor([0.5, 1.0, 2.0]))
    losses = {"bce": 0.2, "dice": 0.7, "transfer": 1.5, "unused": 9.0}
    wanted = sum(
        losses[name] / (2 * s**2) + math.log(1 + s**2) for name, s in (("bce", 0.5), ("dice", 1.0), ("transfer", 2.0))
    )
    found = weighting({name: torch.tensor(value) for name, value in losses.items()})
    assert found.item() == pytest.approx(wanted, abs=1e-5)
    found.backward()
    literal = [-losses[n] / s**3 + 2 * s / (1 + s**2) for n, s in (("bce", 0.5), ("dice", 1.0), ("transfer", 2.0))]
    np.testing.assert_allclose(weighting.uncertainty.grad.numpy(), literal, rtol=1e-4)


def test_a_soft_mask_is_the_truth_with_a_border_as_logits():
    truth = torch.zeros(1, 1, 20, 20)
    truth[..., 5:15, 5:15] = 1
    logits = soft_mask_logits(truth)
    near = truth[0, 0, 2:9, 7:14].mean()
    assert logits[0, 0, 5, 10].item() == pytest.approx(math.log(near / (1 - near)), abs=1e-4)
    assert logits[0, 0, 10, 10].item() == pytest.approx(math.log(999), abs=1e-3)
    assert logits[0, 0, 0, 0].item() == pytest.approx(-math.log(999), abs=1e-3)
