"""The U-Net beside an adaptation: it learns several objects from a few slices, of any size, grey or in colour."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from optional_packages import needs_monai
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation import few_shot_unet as module
from ProxyPromptSegmentLib.evaluation.few_shot_unet import AnnotatedSlice, FewShotRecipe, several_loss, train_few_shot
from ProxyPromptSegmentLib.evaluation.unet_baseline import augment
from ProxyPromptSegmentLib.imaging.metrics import dice

pytestmark = needs_monai


def drawn(number, shape=(28, 32), channels=None):
    """A slice with a dark object inside of a bright one."""
    rng = np.random.default_rng(number)
    masks = np.zeros((2, *shape), np.uint8)
    top, left = rng.integers(1, 8, 2)
    masks[0, top : top + 20, left : left + 20] = 1
    masks[1, top + 4 : top + 16, left + 4 : left + 16] = 1
    image = 50 + 100.0 * masks[0] - 70.0 * masks[1] + rng.normal(0, 4, shape)
    if channels:
        image = np.repeat(image[..., None], channels, axis=-1)
    return AnnotatedSlice(image=image.astype(np.float32), masks=masks, window=(0.0, 200.0))


@pytest.mark.slow
def test_it_learns_objects_inside_of_one_another_from_a_few_slices(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(module, "training_clock", lambda device: next(ticks) / 2)  # a step takes half a second
    unet = train_few_shot([drawn(n) for n in range(6)], FewShotRecipe(seconds=40, mirror=False))
    assert unet.steps == 80 and unet.seconds == 40
    other = drawn(99)
    masks = unet.segment(np.stack([other.image, other.image]), other.window)
    assert masks.shape == (2, 2, 28, 32) and masks.dtype == np.uint8
    assert min(dice(other.masks[n], masks[0, n]) for n in range(2)) > 0.8


@pytest.mark.parametrize(("shape", "channels"), [((30, 33), None), ((300, 270), 3)])
def test_slices_of_any_size_are_learned_from_and_segmented_whole(shape, channels):
    one = drawn(1, shape, channels)
    unet = train_few_shot([one], FewShotRecipe(seconds=0, batch=2))
    assert unet.steps == 1
    assert unet.segment(one.image[None], one.window).shape == (1, 2, *shape)


def test_a_large_slice_is_learned_in_patches_of_image_and_mask_from_the_same_place():
    image = torch.arange(300.0 * 400).reshape(1, 300, 400)
    patch, mask = module._patch(image, image.clone(), 256, 256, torch.Generator().manual_seed(3))
    assert patch.shape == (1, 256, 256) and torch.equal(patch, mask) and patch[0, 0, 0] > 0


@pytest.mark.parametrize("slices", [[], [drawn(1), drawn(2, channels=3)]])
def test_no_slice_and_slices_of_two_kinds_are_refused(slices):
    with pytest.raises(InputError, match="give"):
        train_few_shot(slices, FewShotRecipe(seconds=0))


def test_each_object_counts_the_same_in_the_loss_however_small_it_is():
    masks = torch.zeros(1, 2, 32, 32)
    masks[:, 0, :, :16], masks[:, 1, 0, 0] = 1, 1
    right = torch.where(masks > 0, 20.0, -20.0)
    missed = right.clone()
    missed[:, 1] = -20.0
    assert several_loss(right, masks) < 0.01 and several_loss(missed, masks) > 0.24


def test_mirroring_can_be_switched_off_without_changing_what_else_is_drawn():
    image = torch.rand(8, 1, 32, 32)
    halves = torch.zeros(8, 1, 32, 32)
    halves[..., :16] = 1
    _, plain = augment(image, halves, torch.Generator().manual_seed(1), flip=False)
    _, mirrored = augment(image, halves, torch.Generator().manual_seed(1))
    assert (plain[..., 16, 4] == 1).all() and (mirrored[..., 16, 4] == 0).any()
    kept = mirrored[:, 0, 16, 4] == 1
    assert torch.equal(plain[kept], mirrored[kept])
