"""Stitching: no seams, no cut borders, and a presence, quality and confidence of the slice that make sense."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.inference.results import SlicePrediction, empty_result
from ProxyPromptSegmentLib.inference.tiling.grid import TileGrid
from ProxyPromptSegmentLib.inference.tiling.stitch import Stitcher

GRID = TileGrid.of((240, 200), (1.0, 1.0), 3.0)


def stitched(tiles, grid=GRID, objects=1):
    stitcher = Stitcher(grid, objects)
    for number, tile in enumerate(tiles):
        stitcher.add(number, tile)
    return stitcher.prediction(7)


def tile_of(probability, presence=1.0, quality=0.9):
    return SlicePrediction(index=0, probability=probability, presence=np.array([presence]), quality=np.array([quality]))


def flat(value=1.0, presence=1.0, quality=0.9, grid=GRID):
    return tile_of(np.full((1, *grid.tile), value, np.float32), presence, quality)


def gated(prediction):
    return prediction.probability[0] * prediction.presence[0]


def test_tiles_of_one_picture_are_that_picture():
    whole = np.random.default_rng(0).uniform(0, 1, GRID.shape).astype(np.float32)
    found = stitched([tile_of(tile[None]) for tile in GRID.take(whole)])
    np.testing.assert_allclose(found.probability[0], whole, atol=1e-6)
    assert found.index == 7


def test_tiles_that_disagree_leave_no_seam():
    chance = np.random.default_rng(1)
    found = stitched([flat(chance.uniform(0, 1), chance.uniform(0.5, 1)) for _ in range(len(GRID))])
    picture = gated(found)
    steps = [np.abs(np.diff(picture, axis=axis)).max() for axis in (0, 1)]
    assert np.ptp(picture) > 0.2
    assert max(steps) < 0.1  # the values of neighbours differ by up to 1 over some 20 pixels


def test_the_order_of_the_tiles_does_not_matter():
    chance = np.random.default_rng(2)
    tiles = [flat(chance.uniform(0, 1), chance.uniform(0, 1)) for _ in range(len(GRID))]
    forwards, backwards = Stitcher(GRID, 1), Stitcher(GRID, 1)
    for number, tile in enumerate(tiles):
        forwards.add(number, tile)
    for number, tile in reversed(list(enumerate(tiles))):
        backwards.add(number, tile)
    np.testing.assert_allclose(forwards.prediction(0).probability, backwards.prediction(0).probability, atol=1e-6)


def test_a_tile_that_shows_only_the_end_of_a_structure_does_not_cut_it():
    """The neighbour sees a sliver in its margin and calls it absent; the tile that shows the rest decides."""
    number = len(GRID.columns) + 1  # in the middle
    rows, columns = GRID.box(number)
    presences = [1.0 if n == number else 0.0 for n in range(len(GRID))]
    found = gated(stitched([flat(1.0, presence) for presence in presences]))
    # Up to the middle of the margins that it shares with its neighbours, the tile's own presence holds.
    shared = rows.stop - GRID.rows[2], columns.stop - GRID.columns[2]
    inner = (
        slice(rows.start + shared[0] // 2 + 1, rows.stop - shared[0] // 2 - 1),
        slice(columns.start + shared[1] // 2 + 1, columns.stop - shared[1] // 2 - 1),
    )
    assert found[inner].min() > 0.99
    assert found[0, 0] == found[-1, -1] == 0


def test_a_spurious_piece_in_a_tile_that_shows_nothing_is_damped():
    presences = [1.0, *[0.02] * (len(GRID) - 1)]
    found = stitched([flat(0.9, presence) for presence in presences])
    assert found.presence[0] == 1
    assert gated(found)[-1, -1] == pytest.approx(0.9 * 0.02, abs=1e-6)
    assert gated(found)[0, 0] == pytest.approx(0.9, abs=1e-6)


def test_a_slice_shows_what_any_of_its_tiles_shows():
    assert stitched([flat(0.9, presence) for presence in np.linspace(0.1, 0.8, len(GRID))]).presence[
        0
    ] == pytest.approx(0.8)


def test_where_all_tiles_are_equally_sure_the_probability_is_theirs():
    np.testing.assert_allclose(stitched([flat(0.7, 0.6)] * len(GRID)).probability, 0.7, atol=1e-6)
    nothing = stitched([flat(0.0, 0.0)] * len(GRID))
    assert np.isfinite(nothing.probability).all()
    assert nothing.probability.max() == 0


def test_quality_is_that_of_the_tiles_which_draw_something():
    tiles = [flat(0.0, 0.01, quality=0.1) for _ in range(len(GRID))]
    tiles[4] = flat(1.0, 0.9, quality=0.8)
    assert stitched(tiles).quality[0] == pytest.approx(0.8, abs=1e-3)
    assert stitched([flat(0.0, 0.0, quality=0.3)] * len(GRID)).quality[0] == pytest.approx(0.3, abs=1e-3)


def test_confidence_in_a_stitched_mask_is_that_of_the_tiles_which_draw_it():
    result = empty_result(("vessel",), 1, GRID.shape, across_slices=False)
    found = stitched([flat(0.9, 0.8, quality=0.7)] * len(GRID))
    result.probability[0], result.presence[0], result.quality[0] = found.probability, found.presence, found.quality
    result.done[0] = True
    assert result.masks().all()
    assert result.confidence()[0, 0] == pytest.approx(0.7, abs=1e-5)


def test_objects_are_stitched_apart():
    stitcher = Stitcher(GRID, 2)
    for number in range(len(GRID)):
        probability = np.stack([np.full(GRID.tile, 0.2, np.float32), np.full(GRID.tile, 0.9, np.float32)])
        prediction = SlicePrediction(
            index=0, probability=probability, presence=np.array([0.5, 1.0]), quality=np.array([0.1, 0.6])
        )
        stitcher.add(number, prediction)
    found = stitcher.prediction(0)
    np.testing.assert_allclose(found.probability.reshape(2, -1).mean(axis=1), [0.2, 0.9], atol=1e-6)
    np.testing.assert_allclose(found.presence, [0.5, 1.0])
    np.testing.assert_allclose(found.quality, [0.1, 0.6], atol=1e-5)
