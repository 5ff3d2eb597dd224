"""What a broad training asks for: parts of objects, prompts made of the truth, changes of images."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_backbone
from ProxyPromptSegmentLib.training.broad.augment import (
    Strength,
    bright_spot,
    change_intensity,
    content_mask,
    sampling_grid,
    tone_curve,
    warp,
)
from ProxyPromptSegmentLib.training.broad.manual import (
    CORNER_HIGH,
    CORNER_LOW,
    INSIDE,
    NONE,
    OUTSIDE,
    boxes,
    correcting_clicks,
    embed_prompts,
    first_clicks,
    rough_masks,
)
from ProxyPromptSegmentLib.training.broad.parts import core_of, drawn_images, random_part, side_of
from ProxyPromptSegmentLib.training.broad.pools import SIDE


def disc(row: int = 128, column: int = 100, radius: int = 40) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return (((y - row) ** 2 + (x - column) ** 2) < radius**2).float().view(1, 1, SIDE, SIDE)


@pytest.mark.parametrize(("angle", "axis", "beyond"), [(0, 3, 100), (math.pi / 2, 2, 128)])
def test_a_side_is_the_half_beyond_a_line_through_the_centre(angle, axis, beyond):
    half = side_of(disc(), angle, 0.0)
    assert 0.45 < half.sum() / disc().sum() < 0.55
    assert half.nonzero()[:, axis].min() >= beyond


def test_an_offset_makes_the_side_smaller_and_nothing_outside_of_the_object_is_marked():
    assert side_of(disc(), 0.3, 0.5).sum() < 0.4 * disc().sum()
    for seed in range(12):
        part = random_part(disc(), np.random.default_rng(seed))
        assert 0 < part.sum() < disc().sum() and not ((part > 0) & (disc() == 0)).any()


def test_a_core_has_the_share_that_was_asked_for_and_lies_inside():
    core = core_of(disc(), 0.4)
    assert 0.35 < core.sum() / disc().sum() <= 0.42
    distance = (core.nonzero()[:, 2:] - torch.tensor([128, 100])).square().sum(1).sqrt()
    assert distance.max() < 0.75 * 40


def test_parts_of_an_empty_mask_are_empty():
    empty = torch.zeros(2, 1, SIDE, SIDE)
    assert not side_of(empty, 0.0, 0.0).any() and not core_of(empty, 0.4).any()


def test_drawn_images_mark_two_different_regions():
    images, masks = drawn_images(torch.zeros(1), 3, np.random.default_rng(1))
    assert images.shape == (3, 3, SIDE, SIDE) and masks.shape == (3, 2, SIDE, SIDE)
    assert images.min() >= 0 and images.max() <= 1
    assert masks.sum((0, 2, 3)).min() > 0
    assert (masks[0] - masks[1]).abs().any()  # each image is deformed


def test_prompts_are_embedded_as_the_package_does():
    encoder = tiny_backbone().sam.prompt_encoder
    points, labels = torch.rand(3, 2, 2) * 63, torch.tensor([[1, 0], [-1, 1], [0, 0]])
    torch.testing.assert_close(embed_prompts(encoder, points, labels), encoder._embed_points(points, labels, pad=False))
    corners = torch.tensor([[CORNER_LOW, CORNER_HIGH]]).expand(3, -1)
    torch.testing.assert_close(embed_prompts(encoder, points, corners), encoder._embed_boxes(points.flatten(1)))


def test_first_clicks_are_inside_and_an_absent_object_gets_none():
    truth = torch.cat([disc()[0], torch.zeros(1, SIDE, SIDE)])
    for _ in range(5):
        points, labels = first_clicks(truth)
        assert labels.flatten().tolist() == [INSIDE, NONE]
        column, row = points[0, 0].long().tolist()
        assert truth[0, row, column] == 1


def test_correcting_clicks_lie_on_errors_and_say_which():
    truth = disc()[0].repeat(3, 1, 1)
    logits = torch.where(truth > 0, 4.0, -4.0)
    logits[0, :, :100] = -4.0  # the left half is missed
    logits[1, :50] = 4.0  # the upper rows are too much; the third is right
    points, labels = correcting_clicks(logits, truth, 2)
    assert labels.tolist() == [[INSIDE] * 2, [OUTSIDE] * 2, [NONE] * 2]
    assert (points[0, :, 0] < 100).all() and (points[1, :, 1] < 50).all()


def test_a_box_is_around_the_object_within_its_jitter():
    corners, labels = boxes(torch.cat([disc()[0], torch.zeros(1, SIDE, SIDE)]))
    assert labels.tolist() == [[CORNER_LOW, CORNER_HIGH], [NONE, NONE]]
    assert (corners[0] - torch.tensor([[61.0, 89.0], [139.0, 167.0]])).abs().max() < 0.09 * 80


def test_rough_masks_resemble_the_object_and_stay_bounded():
    torch.manual_seed(0)
    truth = disc()[0].expand(40, -1, -1)
    rough = rough_masks(truth, SIDE // 2)
    assert rough.abs().max() <= 8
    small = torch.nn.functional.avg_pool2d(truth.unsqueeze(1), 2)[:, 0] > 0.5
    drawn = rough > 0
    dice = 2 * (drawn & small).sum((1, 2)) / (drawn.sum((1, 2)) + small.sum((1, 2)))
    assert dice.mean() > 0.7 and dice.min() < 0.95


def strength(count: int, groups: int = 1) -> Strength:
    return Strength(
        group=torch.arange(count) % groups,
        groups=groups,
        zoom=torch.tensor([[0.7, 1.5]]).expand(count, -1),
        elastic=torch.full((count,), 0.02),
        intensity=torch.ones(count),
    )


def test_content_and_image_move_together():
    torch.manual_seed(3)
    image = torch.zeros(6, 1, SIDE, SIDE)
    image[:, :, :200, :150] = 1
    grid = sampling_grid(strength(6))
    content = content_mask(torch.tensor([[200, 150]]).expand(6, -1), SIDE, grid)
    moved = warp(image, grid)[:, 0] > 0.5
    assert (content != moved).float().mean() < 0.01
    assert content.any() and not content.all()


def test_intensity_changes_differ_between_images_but_inversion_is_the_groups():
    torch.manual_seed(0)
    ramp = torch.linspace(0.1, 0.9, SIDE).expand(8, 3, SIDE, SIDE)
    changed = change_intensity(ramp, strength(8, groups=2))
    assert changed.min() >= 0 and changed.max() <= 1
    rising = changed.mean((1, 2))[:, -40:].mean(1) > changed.mean((1, 2))[:, :40].mean(1)
    for group in range(2):
        assert len(set(rising[group::2].tolist())) == 1
    assert (changed[0] - changed[2]).abs().mean() > 0.01


def test_a_tone_curve_keeps_the_order_of_tissues_and_the_ends_and_changes_their_contrast():
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, SIDE).expand(6, 3, SIDE, SIDE)
    curved = tone_curve(ramp)
    assert (curved.diff(dim=-1) >= 0).all()
    assert torch.allclose(curved[..., 0], torch.zeros(())) and torch.allclose(curved[..., -1], torch.ones(()))
    assert (curved - ramp).abs().amax((1, 2, 3)).min() > 0.02
    assert (curved[0] - curved[1]).abs().max() > 0.02


def test_a_coil_brightens_one_place_of_each_image_and_not_the_image():
    torch.manual_seed(0)
    gain = bright_spot(torch.zeros(20, 3, SIDE, SIDE))
    assert torch.allclose(gain.mean((1, 2, 3)), torch.ones(20), atol=1e-4)
    assert (gain.amax((1, 2, 3)) > 1.5).float().mean() > 0.5
    assert gain.min() > 0
    places = gain.flatten(1).argmax(1)
    assert len(places.unique()) > 15


def test_a_dark_image_is_windowed_before_its_brightness_changes():
    torch.manual_seed(0)
    dark = torch.linspace(0, 0.05, SIDE).expand(16, 3, SIDE, SIDE)
    assert change_intensity(dark, strength(16)).amax((1, 2, 3)).median() > 0.6
