"""Support tiles: from all supports, from everywhere, with every object, and not too many."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.inference.tiling.cut import BACKGROUND, support_tiles
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from tile_cases import vessel_pair, vessel_support


def pair_of(masks, seed=0):
    image = np.random.default_rng(seed).uniform(0, 1, masks.shape[1:]).astype(np.float32)
    return SupportPair(image, masks, (1.0, 1.0), (0.0, 1.0))


def test_a_tile_is_the_part_of_its_pair_that_it_says_with_the_window_of_the_whole_case():
    support = vessel_support((1, 2), shape=(200, 160))
    for tile in support_tiles(support, [0], 4.0):
        pair = support.pairs[tile.pair]
        (top, left), (height, width) = tile.corner, tile.image.shape
        np.testing.assert_array_equal(tile.image, pair.image[top : top + height, left : left + width])
        np.testing.assert_array_equal(tile.masks, pair.masks[:, top : top + height, left : left + width])
        assert (tile.window, tile.spacing_mm) == (pair.window, pair.spacing_mm)
        assert tile.center == ((top + height / 2) / 200, (left + width / 2) / 160)


def test_few_tiles_are_all_taken():
    support = vessel_support(shape=(200, 200))
    assert len(support_tiles(support, [0], 4.0)) == 25
    assert len({tile.corner for tile in support_tiles(support, [0], 4.0)}) == 25


@pytest.mark.parametrize("seeds", [(1, 2, 3), tuple(range(8))])
def test_many_tiles_are_bounded_and_come_from_all_supports_and_all_places(seeds):
    tiles = support_tiles(vessel_support(seeds, shape=(200, 200)), [0], 4.0, most=32)
    assert len(tiles) == 32
    assert {tile.pair for tile in tiles} == set(range(len(seeds)))
    centers = np.array([tile.center for tile in tiles])
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)):
        assert np.linalg.norm(centers - corner, axis=1).min() < 0.35


def test_most_tiles_show_the_structure_and_some_show_background():
    mask = np.zeros((1, 200, 200), np.uint8)
    mask[:, 60:64, :] = 1
    tiles = support_tiles(SupportSet((pair_of(mask), pair_of(mask, 1)), ("line",)), [0], 6.0, most=10)
    empty = [not tile.masks.any() for tile in tiles]
    assert sum(empty) == round(BACKGROUND * 10)


def test_a_structure_everywhere_leaves_no_background_to_show():
    mask = np.ones((1, 200, 200), np.uint8)
    tiles = support_tiles(SupportSet((pair_of(mask), pair_of(mask, 1)), ("all",)), [0], 4.0, most=10)
    assert len(tiles) == 10
    assert all(tile.masks.any() for tile in tiles)


def test_a_single_spot_is_filled_up_with_background():
    mask = np.zeros((1, 200, 200), np.uint8)
    mask[:, 20:23, 20:23] = 1
    tiles = support_tiles(SupportSet((pair_of(mask),), ("spot",)), [0], 4.0, most=10)
    assert len(tiles) == 10
    assert sum(bool(tile.masks.any()) for tile in tiles) == 1


@pytest.mark.parametrize("most", [1, 2, 8])
def test_every_object_is_shown_however_few_tiles_are_taken(most):
    masks = np.zeros((3, 200, 200), np.uint8)
    for number, place in enumerate((10, 90, 180)):
        masks[number, place : place + 3, place : place + 3] = 1
    masks[2, :, 0] = 1
    tiles = support_tiles(SupportSet((pair_of(masks),), ("a", "b", "c")), [0, 1, 2], 4.0, most)
    assert np.any([tile.masks.any(axis=(1, 2)) for tile in tiles], axis=0).all()
    assert len(tiles) <= max(most, 3)


def test_tiles_have_only_the_objects_that_are_segmented_in_tiles():
    pair = vessel_pair(shape=(200, 200))
    organ = np.zeros_like(pair.masks[0])
    organ[50:100, 50:100] = 1
    both = SupportPair(pair.image, np.stack([organ, pair.masks[0]]), (1.0, 1.0), pair.window)
    for tile in support_tiles(SupportSet((both,), ("organ", "vessel")), [1], 4.0):
        (top, left), (height, width) = tile.corner, tile.image.shape
        np.testing.assert_array_equal(tile.masks, pair.masks[:, top : top + height, left : left + width])


def test_colour_is_kept():
    tiles = support_tiles(vessel_support(shape=(100, 100), channels=(3,)), [0], 2.0)
    assert {tile.image.shape[2:] for tile in tiles} == {(3,)}
