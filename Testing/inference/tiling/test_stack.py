"""Slices in tiles: what the network's grid cannot hold is found, and what it can is segmented as ever."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, tiny_model
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from tile_cases import FUNDUS, PerfectModel, picture_of, vessel_support, vessel_tree

WINDOW = (0.0, 220.0)


@pytest.fixture
def perfect():
    return Segmenter(PerfectModel(), "cpu")


@pytest.fixture(scope="module")
def random_model():
    return tiny_model(**EVERYTHING)


def found(segmenter, mask, choice="auto", support=None, channels=(), spacing=(1.0, 1.0)):
    images = picture_of(mask, 5, channels)[None]
    support = support or vessel_support(shape=mask.shape, channels=channels)
    result = segment_stack(segmenter, images, support, WINDOW, spacing, TileChoice.of(choice))
    return result, dice(mask, result.masks()[0, 0])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_perfect_network_finds_a_vessel_tree_in_tiles_and_not_in_whole_slices(perfect, channels):
    mask = vessel_tree(2)
    assert mask.shape == (584, 565)
    whole, tiled = found(perfect, mask, "off", channels=channels), found(perfect, mask, channels=channels)
    assert whole[1] < 0.5
    assert tiled[1] >= 0.85
    assert "overlapping tiles" in tiled[0].notes[0].text
    assert tiled[0].presence[0, 0] > 0.99
    assert tiled[0].quality[0, 0] > 0.99
    assert tiled[0].confidence()[0, 0] > 0.99


def test_what_tiles_find_lies_where_it_is_whatever_the_spacing_and_the_shape(perfect):
    for shape, spacing in (((300, 500), (1.0, 1.0)), ((500, 250), (0.5, 1.0)), ((90, 700), (1.0, 1.0))):
        mask = vessel_tree(3, shape)
        assert found(perfect, mask, 4, spacing=spacing)[1] > 0.9, (shape, spacing)


def test_a_supports_picture_may_have_another_size_than_the_target(perfect):
    assert found(perfect, vessel_tree(4, (700, 600)), support=vessel_support(shape=(500, 480)))[1] >= 0.85


def test_each_target_tile_reads_a_few_tiles_and_the_supports_tiles_are_bounded(perfect):
    found(perfect, vessel_tree(2), support=vessel_support((1, 6, 7)))
    chosen = [row for call in perfect.model.read for row in call]
    assert {len(row) for row in chosen} == {4}
    assert {len(set(row)) for row in chosen} == {4}
    assert max(map(max, chosen)) < 32
    assert len({number for row in chosen for number in row}) > 8  # not always the same ones


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_picture_that_is_not_thin_is_segmented_bit_by_bit_as_without_tiles(random_model, channels):
    images = np.random.default_rng(0).uniform(0, 100, (3, 90, 70, *channels)).astype(np.float32)
    masks = np.zeros((1, 90, 70), np.uint8)
    masks[:, 20:70, 15:50] = 1
    support = SupportSet((SupportPair(images[0], masks, (1.0, 1.0), (0.0, 100.0)),), ("organ",))
    segmenter = Segmenter(random_model, "cpu", batch=1)
    before = segmenter.segment(images, support)
    after = segment_stack(segmenter, images, support)
    assert np.ptp(before.probability) > 1e-3
    for field in ("probability", "presence", "quality", "done"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    np.testing.assert_array_equal(after.masks(), before.masks())
    assert after.notes == []


def test_beside_a_thin_object_another_is_segmented_bit_by_bit_as_without_tiles(random_model):
    vessels = vessel_tree(1, (120, 110), widest=2.0)
    organ = np.zeros_like(vessels)
    organ[30:90, 20:80] = 1
    image = picture_of(vessels)
    support = SupportSet((SupportPair(image, np.stack([organ, vessels]), (1.0, 1.0), WINDOW),), ("organ", "vessel"))
    segmenter = Segmenter(random_model, "cpu", batch=1)
    images = picture_of(vessel_tree(2, (120, 110)), 2)[None]
    before, after = (segment_stack(segmenter, images, support, WINDOW, choice=TileChoice(c)) for c in ("off", "auto"))
    assert len(after.notes) == 1
    np.testing.assert_array_equal(after.probability[:, 0], before.probability[:, 0])
    np.testing.assert_array_equal(after.presence[:, 0], before.presence[:, 0])
    assert np.abs(after.probability[:, 1] - before.probability[:, 1]).max() > 1e-3


def test_tiles_in_batches_are_tiles_alone(random_model):
    mask = vessel_tree(2, (120, 110))
    alone, together = (found(Segmenter(random_model, "cpu", batch=batch), mask, 3)[0] for batch in (1, 7))
    np.testing.assert_allclose(together.probability, alone.probability, atol=1e-5)
    np.testing.assert_allclose(together.presence, alone.presence, atol=1e-5)


def test_small_parts_of_thin_objects_are_kept(perfect):
    """A gap of a pixel tears a vessel apart, although the support shows it in one piece."""
    mask = vessel_tree(2)
    mask[:, 250:253] = 0
    mask[560:562, 5:60] = 1
    line = np.zeros(FUNDUS, np.uint8)
    line[100:102, 20:540] = 1
    whole = SupportSet((SupportPair(picture_of(line), line[None], (1.0, 1.0), WINDOW),), ("vessel",))
    result, score = found(perfect, mask, support=whole)
    assert (result.one_piece, result.thin) == ((True,), (True,))
    assert score >= 0.85
    assert result.masks()[0, 0, 560:562, 5:60].mean() > 0.9


def test_thin_objects_of_neighbouring_slices_do_not_blur_each_other(perfect):
    """A vessel lies elsewhere on the next slice; averaged, it would be lost on both."""
    trees = np.stack([vessel_tree(seed, (300, 280), widest=2.2) for seed in (2, 3, 4)])
    images = np.stack([picture_of(tree) for tree in trees])
    support = vessel_support(shape=(300, 280), widest=2.2)
    result = segment_stack(perfect, images, support, WINDOW)
    result.probability *= 0.8  # a network that is less sure
    assert result.across_slices
    assert dice(trees, result.masks()[:, 0]) >= 0.85
    np.testing.assert_array_equal(result.slice_masks(1), result.masks()[1])
    np.testing.assert_allclose(result.confidence()[1], result.quality[1], atol=1e-6)
    result.thin = ()
    assert dice(trees[1], result.masks()[1, 0]) < 0.5


def test_small_parts_beside_a_compact_object_are_removed_in_tiles_too(perfect):
    organ = np.zeros(FUNDUS, np.uint8)
    organ[200:300, 200:320] = 1
    support = SupportSet((SupportPair(picture_of(organ), organ[None], (1.0, 1.0), WINDOW),), ("organ",))
    target = organ.copy()
    target[500:510, 500:510] = 1
    result, _ = found(perfect, target, "on", support)
    assert result.masks()[0, 0, 500:510, 500:510].max() == 0
    assert result.masks()[0, 0, 250, 250] == 1


def test_a_slice_that_was_cancelled_between_its_tiles_is_not_finished(perfect):
    cancel = CancelToken()
    seen, model = [], perfect.model

    class Counting(PerfectModel):
        def predict(self, features, support, chosen=None):
            seen.append(len(features.top))
            if sum(seen) > 40:
                cancel.cancel()
            return model.predict(features, support, chosen)

    images = np.stack([picture_of(vessel_tree(seed)) for seed in (2, 3)])
    result = segment_stack(
        Segmenter(Counting(), "cpu", batch=4), images, vessel_support(), WINDOW, choice=TileChoice.of(4), cancel=cancel
    )
    assert result.cancelled
    assert result.done.tolist() == [True, False]
    assert result.probability[1].max() == 0
    assert sum(seen) < 50


def test_a_target_without_the_object_stays_empty_and_is_sure_of_it(perfect):
    result, _ = found(perfect, np.zeros(FUNDUS, np.uint8))
    assert result.masks().max() == 0
    assert result.presence[0, 0] < 0.01
    assert result.confidence()[0, 0] > 0.99
