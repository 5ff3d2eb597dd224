"""Made clips: what happens in them happens to the picture and to the truth alike."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.evaluation import made_clips as made

FRAMES, HEIGHT, WIDTH = 9, 80, 100


def still():
    """A bright square on a dim ground, which does not move."""
    mask = torch.zeros(FRAMES, 1, HEIGHT, WIDTH)
    mask[:, :, 30:46, 40:56] = 1
    ground = torch.rand(1, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.2
    return (ground + 0.7 * mask).clamp(0, 1), mask


def rng(seed=0):
    return np.random.default_rng(seed)


def middles(masks):
    return np.array([torch.nonzero(mask[0]).float().mean(0).tolist() for mask in masks])


def test_a_motion_is_smooth_small_and_turns_without_shearing():
    frames, masks = still()
    path = made.smooth_motion(FRAMES, (HEIGHT, WIDTH), rng(1), much=2.0)
    shown = (made.moved(masks, path) > 0.5).float()
    steps = np.diff(middles(shown), axis=0)
    assert np.abs(steps).max() < 6 and np.abs(np.diff(steps, axis=0)).max() < 3
    assert not torch.equal(shown[0], shown[-1])
    area = shown.sum((1, 2, 3)) / masks.sum((1, 2, 3))
    assert float(area.min()) > 0.6 and float(area.max()) < 1.6
    for matrix in path.double():
        pixels = torch.tensor([[WIDTH / 2, 0], [0, HEIGHT / 2]], dtype=torch.float64)
        turn = pixels @ matrix[:, :2] @ pixels.inverse()
        scale = turn[0, 0] ** 2 + turn[1, 0] ** 2
        torch.testing.assert_close(turn.T @ turn, scale * torch.eye(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_an_object_that_leaves_is_gone_in_the_middle_and_back_at_the_end():
    sides = set()
    for seed in range(12):
        frames, masks = still()
        images, truth = made.happen(made.LEAVING, frames, masks, rng(seed), 0)
        there = [bool(mask.any()) for mask in truth]
        assert there[0] and there[-1] and not any(there[3:6])
        torch.testing.assert_close(images[0], frames[0], atol=1e-5, rtol=0)
        early = torch.nonzero(truth[1][0]).float().mean(0) if there[1] else None
        if early is not None:
            sides.add(tuple(np.sign(np.round(early.numpy() - [37.5, 47.5])).tolist()))
    assert len(sides) >= 3


def test_a_cover_hides_the_object_for_a_while_and_its_truth_with_it():
    frames, masks = still()
    images, truth = made.happen(made.COVERED, frames, masks, rng(2), 0)
    area = truth.sum((1, 2, 3)) / masks.sum((1, 2, 3))
    assert area[0] == area[-1] == 1 and float(area.min()) < 0.5
    middle = int(area.argmin())
    hidden = (masks[middle] - truth[middle]).bool()
    assert float((images[middle] - frames[middle]).abs()[hidden].mean()) > 0.1
    assert torch.equal(images[0] * masks[0], frames[0] * masks[0]) or area[0] == 1


def test_a_shadow_darkens_the_object_and_leaves_its_truth():
    frames, masks = still()
    images, truth = made.happen(made.SHADOW, frames, masks, rng(3), 0)
    assert torch.equal(truth, masks)
    light = (images * masks).sum((1, 2, 3)) / (frames * masks).sum((1, 2, 3))
    assert float(light.min()) < 0.5 < 0.9 < float(light[0])


def test_a_second_object_looks_like_the_first_comes_later_and_is_not_it():
    frames, masks = still()
    images, truth = made.happen(made.TWIN, frames, masks, rng(4), 3)
    assert torch.equal(images[:3], frames[:3]) and torch.equal(truth, masks)
    new = (images[5] > 0.6) & ~masks[5].bool()
    assert int(new.sum()) == pytest.approx(int(masks[5].sum()), rel=0.25)
    assert not torch.equal(images[3], images[8])


def test_where_there_is_no_room_for_a_second_object_there_is_no_clip():
    frames, masks = still()
    assert made.happen(made.TWIN, frames, torch.ones_like(masks), rng(), 0) is None
    assert made.happen(made.TWIN, frames, torch.zeros_like(masks), rng(), 0) is None
    for event in (made.COVERED, made.SHADOW, made.LEAVING):
        assert not made.happen(event, frames, torch.zeros_like(masks), rng(), 0)[1].any()


def test_what_the_copy_hides_of_another_object_is_not_part_of_it():
    frames, masks = still()
    both = torch.cat([masks, 1 - masks], 1)
    _, truth = made.happen(made.TWIN, frames, both, rng(4), 0)
    assert torch.equal(truth[:, :1], masks)
    hidden = float((both[:, 1] - truth[:, 1]).sum() / masks.sum())
    assert 1 <= hidden < 1.6, "the copy and a rim of its ground"
