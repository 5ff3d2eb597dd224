"""The closer look is decided from the support's masks, and its crop lies around what was found."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.inference.closer.choice import FIELD, crop_around, enlarged, objects_to_enlarge
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

SIDE = 128


def disc(shape, middle, radius, spacing=(1.0, 1.0)):
    rows, columns = np.indices(shape)
    apart = ((rows - middle[0]) * spacing[0]) ** 2 + ((columns - middle[1]) * spacing[1]) ** 2
    return (apart <= radius**2).astype(np.uint8)


def marked(*masks, spacing=(1.0, 1.0)):
    return [(np.stack(masks), spacing)]


def test_a_small_structure_in_one_piece_is_looked_at_closer_and_a_large_one_is_not():
    small, large = disc((200, 200), (60, 140), 20), disc((200, 200), (100, 100), 70)
    assert objects_to_enlarge(marked(small), (0,), SIDE) == (0,)
    assert objects_to_enlarge(marked(large), (0,), SIDE) == ()


def test_structures_are_looked_at_together_so_that_far_ones_are_not():
    near = marked(disc((200, 200), (90, 90), 12), disc((200, 200), (110, 112), 12))
    far = marked(disc((200, 200), (20, 20), 12), disc((200, 200), (180, 180), 12))
    assert objects_to_enlarge(near, (0, 1), SIDE) == (0, 1)
    assert objects_to_enlarge(far, (0, 1), SIDE) == ()
    assert objects_to_enlarge(far, (1,), SIDE) == (1,)  # the other is segmented in tiles


def test_scattered_structures_are_not_looked_at_closer():
    scattered = disc((200, 200), (80, 80), 8) + disc((200, 200), (110, 110), 8)
    whole = disc((200, 200), (95, 95), 10)
    assert objects_to_enlarge(marked(scattered), (0,), SIDE) == ()
    assert objects_to_enlarge(marked(scattered, whole), (0, 1), SIDE) == (1,)


def test_the_size_is_that_in_the_networks_square_whatever_the_pixels_are():
    mask = disc((100, 400), (50, 200), 20, (2.0, 1.0))  # 20 mm in a field of 200 x 400 mm
    assert objects_to_enlarge(marked(mask, spacing=(2.0, 1.0)), (0,), SIDE) == (0,)
    narrow = disc((100, 100), (50, 50), 20)
    assert objects_to_enlarge(marked(narrow), (0,), SIDE) == (0,)
    assert objects_to_enlarge(marked(narrow), (0,), 256) == ()  # of a network that draws finer


def test_without_a_mask_there_is_nothing_to_look_at():
    assert objects_to_enlarge(marked(np.zeros((50, 50), np.uint8)), (0,), SIDE) == ()
    assert objects_to_enlarge(marked(disc((50, 50), (25, 25), 5)), (), SIDE) == ()
    assert crop_around(np.zeros((50, 50), bool), (1.0, 1.0)) is None


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0), (0.5, 1.5)])
def test_the_crop_is_a_square_in_millimetres_around_the_mask(spacing):
    shape = (round(300 / spacing[0]), round(300 / spacing[1]))
    middle = (160 / spacing[0], 140 / spacing[1])
    crop = crop_around(disc(shape, middle, 25, spacing) > 0, spacing)
    lengths = [(part.stop - part.start) * mm for part, mm in zip(crop, spacing, strict=True)]
    assert lengths == pytest.approx([FIELD * 50] * 2, rel=0.06)
    for part, at in zip(crop, middle, strict=True):
        assert (part.start + part.stop - 1) / 2 == pytest.approx(at, abs=1.01)


def test_the_crop_stays_in_the_slice_and_one_that_shows_nearly_all_of_it_is_not_made():
    crop = crop_around(disc((100, 120), (3, 117), 10) > 0, (1.0, 1.0))
    assert crop[0].start == 0 and crop[1].stop == 120
    assert crop_around(disc((100, 100), (50, 50), 21) > 0, (1.0, 1.0)) is None
    tiny = np.zeros((100, 100), bool)
    tiny[40, 60] = True
    crop = crop_around(tiny, (1.0, 1.0))
    assert [part.stop - part.start for part in crop] == [16, 16]
    assert tiny[crop].sum() == 1
    single = np.ones((5, 7), bool)
    assert crop_around(single, (1.0, 1.0)) is None


def test_supports_are_cut_around_the_same_objects_and_keep_their_intensities():
    masks = np.stack([disc((200, 200), (60, 60), 10), disc((200, 200), (64, 75), 8), disc((200, 200), (150, 150), 30)])
    image = np.random.default_rng(0).uniform(0, 9, (200, 200)).astype(np.float32)
    without = SupportPair(image, np.stack([masks[0] * 0, masks[1] * 0, masks[2]]), (1.0, 1.0), (0.0, 9.0))
    support = SupportSet((SupportPair(image, masks, (1.0, 1.0), (0.0, 9.0)), without), ("a", "b", "c"))
    cut = enlarged(support, (0, 1))
    crop = crop_around(masks[:2].any(axis=0), (1.0, 1.0))
    assert cut.objects == ("a", "b")
    np.testing.assert_array_equal(cut.pairs[0].image, image[crop])
    np.testing.assert_array_equal(cut.pairs[0].masks, masks[:2][(slice(None), *crop)])
    assert cut.pairs[0].window == (0.0, 9.0)
    assert len(cut.pairs) == 1  # the other shows neither
    assert support.pairs[0].image.shape == (200, 200)
