"""Each target tile reads support tiles that look alike and lie alike, and that show every object."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.inference.tiling.choose import TileChooser
from ProxyPromptSegmentLib.inference.tiling.cut import SupportTile
from ProxyPromptSegmentLib.networks.values import ImageFeatures, PreparedSupport

SIDE, CHANNELS = 4, 6


def tile(center, shows=(True,)):
    masks = np.zeros((len(shows), 8, 8), np.uint8)
    masks[np.array(shows), 2, 2] = 1
    return SupportTile(np.zeros((8, 8), np.float32), masks, (1.0, 1.0), (0.0, 1.0), 0, (0, 0), center)


def prepared(vectors):
    """Prepared tiles whose features are the same everywhere."""
    features = torch.tensor(np.asarray(vectors), dtype=torch.float32).unsqueeze(-1).expand(-1, -1, SIDE**2)
    count = len(features)
    return PreparedSupport(
        features=features,
        aggregated=torch.zeros(count, 1, CHANNELS, SIDE**2),
        occupancy=torch.zeros(count, 1, SIDE**2),
        valid=torch.ones(count, SIDE**2, dtype=torch.bool),
    )


def features(vectors):
    top = torch.tensor(np.asarray(vectors), dtype=torch.float32)[..., None, None].expand(-1, -1, SIDE, SIDE)
    return ImageFeatures(
        top=top,
        positions=torch.zeros(CHANNELS, SIDE, SIDE),
        valid=torch.ones(len(top), SIDE, SIDE, dtype=torch.bool),
    )


CENTERS = [(r, c) for r in (0.1, 0.5, 0.9) for c in (0.1, 0.5, 0.9)]


def test_where_all_tiles_look_alike_the_nearest_are_read():
    chooser = TileChooser([tile(center) for center in CENTERS], prepared(np.ones((9, CHANNELS))), most=3)
    chosen = chooser.choose(features(np.ones((2, CHANNELS))), np.array([[0.1, 0.1], [0.9, 0.8]]))
    assert chosen.shape == (2, 3)
    assert chosen[:, 0].tolist() == [0, 8]
    assert sorted(chosen[0].tolist()) == [0, 1, 3]


def test_where_all_tiles_lie_alike_the_most_similar_are_read():
    vectors = np.eye(CHANNELS)
    chooser = TileChooser([tile((0.5, 0.5))] * CHANNELS, prepared(vectors), most=1)
    chosen = chooser.choose(features(vectors[[4, 1, 3]] * 7), np.full((3, 2), 0.5))
    assert chosen.tolist() == [[4], [1], [3]]


def test_padding_is_not_compared():
    chooser = TileChooser([tile((0.5, 0.5))] * 2, prepared(np.eye(CHANNELS)[:2]), most=1)
    target = features(np.eye(CHANNELS)[[1]])
    target.top = target.top.clone()
    target.top[:, 0, 1:] = 100.0
    target.valid[:, 1:] = False
    assert chooser.choose(target, np.full((1, 2), 0.5)).tolist() == [[1]]


def test_every_object_is_shown_on_a_tile_that_is_read():
    tiles = [tile(center, (number != 8, number == 8)) for number, center in enumerate(CENTERS)]
    chooser = TileChooser(tiles, prepared(np.ones((9, CHANNELS))), most=2)
    assert 8 in chooser.choose(features(np.ones((1, CHANNELS))), np.array([[0.1, 0.1]]))[0].tolist()


def test_more_objects_than_tiles_to_read_are_all_shown():
    tiles = [tile(center, tuple(n == number for n in range(3))) for number, center in enumerate(CENTERS[:3])]
    chooser = TileChooser(tiles, prepared(np.ones((3, CHANNELS))), most=1)
    assert chooser.count == 3
    assert sorted(chooser.choose(features(np.ones((1, CHANNELS))), np.zeros((1, 2)))[0].tolist()) == [0, 1, 2]


def test_no_tile_is_read_twice_and_no_more_than_there_are():
    chooser = TileChooser([tile(center) for center in CENTERS[:2]], prepared(np.ones((2, CHANNELS))), most=4)
    chosen = chooser.choose(features(np.ones((1, CHANNELS))), np.zeros((1, 2)))
    assert sorted(chosen[0].tolist()) == [0, 1]
