"""Tiles cover a slice, overlap, and are blended without steps, whatever the slice's shape."""

from __future__ import annotations

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from ProxyPromptSegmentLib.inference.tiling.grid import OVERLAP, SMALLEST_TILE, TileGrid

grids = st.builds(
    TileGrid.of,
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    st.floats(1, 16),
)


def blended(grid):
    """The sum of all tiles' weights."""
    total = np.zeros(grid.shape)
    rows, columns = grid.ramps()
    for number in range(len(grid)):
        total[grid.box(number)] += rows[number // len(columns)][:, None] * columns[number % len(columns)]
    return total


@given(grids)
@settings(max_examples=150, deadline=None)
def test_tiles_of_one_size_cover_the_slice_and_neighbours_overlap(grid):
    assert len(grid.rows) * len(grid.columns) == len(grid)
    for starts, side, pixels in zip((grid.rows, grid.columns), grid.tile, grid.shape, strict=True):
        assert (starts[0], starts[-1] + side) == (0, pixels)
        shared = side - np.diff(starts)
        assert (shared >= OVERLAP * side - 1).all()  # starts are whole pixels
        assert (shared < side).all()
        assert side == pixels or side >= SMALLEST_TILE
    boxes = {grid.corner(number) for number in range(len(grid))}
    assert len(boxes) == len(grid)


@given(grids)
@settings(max_examples=60, deadline=None)
def test_every_pixel_has_a_weight_and_lies_well_inside_some_tile(grid):
    assert (blended(grid) > 0).all()
    for weights, starts, side, pixels in zip(
        grid.ramps(), (grid.rows, grid.columns), grid.tile, grid.shape, strict=True
    ):
        best = np.zeros(pixels)
        for one, start in zip(weights, starts, strict=True):
            best[start : start + side] = np.maximum(best[start : start + side], one)
        assert (best >= 0.5 - 1e-6).all()


def test_a_tile_shows_the_slice_as_much_larger_as_was_asked_for():
    grid = TileGrid.of((584, 565), (1.0, 1.0), 4.0)
    assert grid.tile == (146, 146)
    assert len(grid) == 25
    assert TileGrid.of((584, 565), (0.2, 0.2), 4.0) == grid


def test_tiles_are_square_in_mm_and_not_in_pixels():
    assert TileGrid.of((100, 400), (2.0, 0.5), 2.0).tile == (50, 200)


def test_a_narrow_slice_has_tiles_of_its_own_width():
    grid = TileGrid.of((60, 600), (1.0, 1.0), 4.0)
    assert grid.tile == (60, 150)
    assert grid.rows == (0,)


def test_a_magnification_of_one_is_the_slice_itself():
    grid = TileGrid.of((40, 56), (1.0, 1.3), 1.0)
    assert (grid.tile, len(grid)) == ((40, 56), 1)
    assert (blended(grid) == 1).all()


def test_weights_of_neighbours_sum_to_one_and_never_jump():
    grid = TileGrid.of((600, 600), (1.0, 1.0), 4.0)
    np.testing.assert_allclose(blended(grid), 1, atol=1e-5)
    rows, _ = grid.ramps()
    assert rows[1, 0] < 0.01  # a tile's edge has next to no weight inside the slice
    assert rows[0, 0] == rows[-1, -1] == 1  # and full weight at the edge of the slice
    assert np.abs(np.diff(rows, axis=1)).max() < 0.06


def test_tiles_are_cut_from_grey_and_colour_slices_where_their_boxes_say():
    grid = TileGrid.of((64, 48), (1.0, 1.0), 2.0)
    grey, colour = np.arange(64 * 48.0).reshape(64, 48), np.arange(64 * 48 * 3.0).reshape(64, 48, 3)
    for image in (grey, colour):
        tiles = grid.take(image)
        assert tiles.shape == (len(grid), *grid.tile, *image.shape[2:])
        for number, tile in enumerate(tiles):
            np.testing.assert_array_equal(tile, image[grid.box(number)])


def test_the_tile_nearest_to_a_point_is_the_one_that_shows_it_best():
    grid = TileGrid.of((600, 600), (1.0, 1.0), 3.0)
    for number, center in enumerate(grid.centers() * 600 - 0.5):
        assert grid.nearest(*center) == number
    assert grid.nearest(0, 599) == len(grid.columns) - 1
