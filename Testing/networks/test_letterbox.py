"""Letterboxes: image and mask go the same way into the square, and logits come back the same way."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from ProxyPromptSegmentLib.networks.letterbox import (
    Letterbox,
    images_to_tensor,
    logits_to_slice,
    masks_to_tensor,
    valid_tokens,
)


def ellipse(shape, center=(0.5, 0.5), radii=(0.3, 0.3)):
    """A filled ellipse; center and radii in shares of the sides."""
    rows, columns = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return ((((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2) <= 1).astype(np.uint8)


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize(
    ("shape", "spacing", "valid"),
    [
        ((100, 100), (1, 1), (64, 64)),
        ((100, 50), (1, 1), (64, 32)),
        ((50, 100), (1, 1), (32, 64)),
        ((50, 100), (2, 1), (64, 64)),  # square in millimetres
        ((100, 100), (1, 3), (21, 64)),
        ((1000, 1), (1, 1), (64, 1)),
    ],
)
def test_a_slice_fills_the_square_by_its_physical_size(shape, spacing, valid):
    assert Letterbox(64, shape, spacing).valid == valid


@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    spacing=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
    size=st.sampled_from([64, 128, 1024]),
)
@settings(max_examples=100, deadline=None)
def test_a_slice_always_touches_one_side_and_never_leaves_the_square(shape, spacing, size):
    rows, columns = Letterbox(size, shape, spacing).valid
    assert max(rows, columns) == size
    assert min(rows, columns) >= 1


def test_images_lie_in_the_upper_left_corner_and_padding_is_zero():
    tensor = images_to_tensor(np.full((2, 20, 10), 50.0), (0, 100), Letterbox(64, (20, 10)))
    assert tensor.shape == (2, 3, 64, 64)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[..., :32], torch.full((2, 3, 64, 32), 0.5))
    assert tensor[..., 32:].abs().max() == 0


def test_a_slice_of_the_squares_own_size_is_not_resampled():
    image = np.random.default_rng(0).uniform(size=(1, 64, 64)).astype(np.float32)
    tensor = images_to_tensor(image, (0, 1), Letterbox(64, (64, 64), (0.7, 0.7)))
    assert torch.equal(tensor[0, 1], torch.from_numpy(image[0]))


def test_colours_keep_their_channel():
    image = np.zeros((1, 8, 8, 3))
    image[..., 2] = 255
    tensor = images_to_tensor(image, (0, 255), Letterbox(16, (8, 8)))
    torch.testing.assert_close(tensor[0].amax(dim=(1, 2)), torch.tensor([0.0, 0.0, 1.0]))
    gray = np.random.default_rng(0).uniform(size=(2, 9, 12))
    box = Letterbox(16, (9, 12))
    coloured = images_to_tensor(np.repeat(gray[..., None], 3, axis=-1), (0, 1), box)
    torch.testing.assert_close(coloured, images_to_tensor(gray, (0, 1), box))


def test_image_and_mask_go_to_the_same_place():
    shape, spacing = (60, 130), (1.7, 0.8)
    box, mask = Letterbox(128, shape, spacing), ellipse((60, 130), (0.3, 0.7), (0.2, 0.15))
    image = images_to_tensor(mask[None].astype(np.float32), (0, 1), box)[0, 0] > 0.5
    placed = masks_to_tensor(mask[None, None], box)[0, 0] > 0.5
    assert overlap(image.numpy(), placed.numpy()) > 0.97


def test_masks_are_binary_and_padding_is_outside():
    tensor = masks_to_tensor(np.ones((1, 2, 33, 77), np.uint8), Letterbox(64, (33, 77)))
    assert tensor.shape == (1, 2, 64, 64)
    assert set(tensor.unique().tolist()) == {0.0, 1.0}
    assert tensor[..., :27, :].min() == 1
    assert tensor[..., 27:, :].max() == 0


def test_a_vessel_thinner_than_a_pixel_does_not_vanish_and_an_empty_mask_stays_empty():
    masks = np.zeros((1, 2, 512, 512), np.uint8)
    masks[0, 0, :, 256] = 1
    tensor = masks_to_tensor(masks, Letterbox(64, (512, 512)))
    assert tensor[0, 0].amax(dim=1).min() == 1
    assert tensor[0, 0].sum(dim=1).max() <= 2
    assert tensor[0, 1].max() == 0


@given(
    rows=st.integers(24, 160),
    ratio=st.floats(0.5, 2.0),
    row_mm=st.floats(0.3, 3.0),
    column_mm=st.floats(0.7, 1.4),
    center=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
    radii=st.tuples(st.floats(0.2, 0.3), st.floats(0.2, 0.3)),
    size=st.sampled_from([128, 192]),
)
@settings(max_examples=80, deadline=None)
def test_a_mask_comes_back_from_the_square_to_where_it_was(rows, ratio, row_mm, column_mm, center, radii, size):
    shape = (rows, max(16, round(rows * ratio)))
    box = Letterbox(size, shape, (row_mm, row_mm * column_mm))
    mask = ellipse(shape, center, radii)
    back = logits_to_slice(masks_to_tensor(mask[None, None], box) - 0.5, box)[0, 0] > 0
    assert back.shape == shape
    assert overlap(back.numpy(), mask.astype(bool)) > 0.9


def test_coarse_logits_come_back_without_a_shift():
    box, mask = Letterbox(128, (128, 96)), ellipse((128, 96), (0.35, 0.6), (0.25, 0.25))
    square = masks_to_tensor(mask[None, None], box)
    coarse = torch.nn.functional.avg_pool2d(square, 4) - 0.5
    back = (logits_to_slice(coarse, box)[0, 0] > 0).numpy()
    assert overlap(back, mask.astype(bool)) > 0.93
    for axis in (0, 1):
        assert np.mean(np.nonzero(back)[axis]) == pytest.approx(np.mean(np.nonzero(mask)[axis]), abs=0.3)


def test_any_leading_axes_of_logits_are_kept():
    box = Letterbox(64, (20, 30))
    logits = torch.randn(2, 3, 16, 16)
    back = logits_to_slice(logits, box)
    assert back.shape == (2, 3, 20, 30)
    torch.testing.assert_close(back[1, 2], logits_to_slice(logits[1, 2], box))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((100, 51), 8, 5),  # 33 columns of 64: four tokens of 8 and one pixel
        ((51, 100), 5, 8),
        ((100, 50), 8, 4),  # 32 columns end where a token ends
        ((50, 100), 4, 8),
        ((100, 3), 8, 1),
        ((3, 100), 1, 8),
        ((7, 7), 8, 8),
    ],
)
def test_feature_positions_are_valid_where_they_see_some_of_the_slice(shape, rows, columns):
    inside = valid_tokens(Letterbox(64, shape), 8)
    assert inside.dtype == torch.bool
    assert inside.any(dim=1).tolist() == [True] * rows + [False] * (8 - rows)
    assert inside.any(dim=0).tolist() == [True] * columns + [False] * (8 - columns)
    assert inside[:rows, :columns].all()


# Squashed to a square, as the official weights of SAM 2 want it.

SQUASHED = {"keep_aspect": False}


@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    spacing=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
    size=st.sampled_from([64, 128, 1024]),
)
@settings(max_examples=30, deadline=None)
def test_a_squashed_slice_fills_the_square_whatever_its_shape_and_spacing(shape, spacing, size):
    box = Letterbox(size, shape, spacing, **SQUASHED)
    assert box.valid == (size, size)
    assert valid_tokens(box, size // 16).all()


def test_the_aspect_is_kept_unless_told_otherwise():
    assert Letterbox(64, (20, 10)) == Letterbox(64, (20, 10), keep_aspect=True)
    assert Letterbox(64, (20, 10)) != Letterbox(64, (20, 10), **SQUASHED)


def test_a_squashed_image_is_that_of_the_sam2_package():
    from torchvision_guard import ensure_torchvision_importable

    ensure_torchvision_importable()
    transforms = pytest.importorskip("sam2.utils.transforms").SAM2Transforms(64, 0.0)
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    ours = images_to_tensor(image[None], (0, 255), Letterbox(64, (50, 90), (2.0, 0.5), **SQUASHED))[0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transforms.mean, transforms.std))
    torch.testing.assert_close((ours - mean) / std, transforms(image), atol=1e-5, rtol=1e-5)


def test_a_squashed_image_and_its_mask_go_to_the_same_place_and_reach_both_far_corners():
    box, mask = Letterbox(128, (60, 130), (1.7, 0.8), **SQUASHED), ellipse((60, 130), (0.3, 0.7), (0.2, 0.15))
    image = images_to_tensor(mask[None].astype(np.float32), (0, 1), box)[0, 0] > 0.5
    placed = masks_to_tensor(mask[None, None], box)[0, 0] > 0.5
    assert overlap(image.numpy(), placed.numpy()) > 0.97
    # shares of the sides stay shares of the sides
    assert overlap(placed.numpy(), ellipse((128, 128), (0.3, 0.7), (0.2, 0.15)).astype(bool)) > 0.95
    full = masks_to_tensor(np.ones((1, 1, 33, 77), np.uint8), Letterbox(64, (33, 77), **SQUASHED))
    assert full.min() == 1


@given(
    rows=st.integers(24, 160),
    ratio=st.floats(0.5, 2.0),
    center=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
    radii=st.tuples(st.floats(0.2, 0.3), st.floats(0.2, 0.3)),
)
@settings(max_examples=40, deadline=None)
def test_a_mask_comes_back_from_the_squashed_square_to_where_it_was(rows, ratio, center, radii):
    shape = (rows, max(16, round(rows * ratio)))
    box = Letterbox(128, shape, (3.0, 0.7), **SQUASHED)
    mask = ellipse(shape, center, radii)
    back = logits_to_slice(masks_to_tensor(mask[None, None], box) - 0.5, box)[0, 0] > 0
    assert back.shape == shape
    assert overlap(back.numpy(), mask.astype(bool)) > 0.9


def test_a_squashed_slice_of_the_squares_own_size_is_not_resampled():
    image = np.random.default_rng(0).uniform(size=(1, 64, 64)).astype(np.float32)
    tensor = images_to_tensor(image, (0, 1), Letterbox(64, (64, 64), (0.7, 2.0), **SQUASHED))
    assert torch.equal(tensor[0, 1], torch.from_numpy(image[0]))
