"""Everything that a slice shows: what segment-anything's own generator finds, on every backbone, within limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import engine_doubles  # noqa: F401 - skips where a package is missing
from ProxyPromptSegmentLib.errors import DeviceError, UsageError
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.inference.by_hand import everything
from ProxyPromptSegmentLib.inference.by_hand.duplicates import apart, box_of, distinct
from ProxyPromptSegmentLib.inference.by_hand.everything import everything_on, grid_points
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice, FoundMask
from ProxyPromptSegmentLib.inference.by_hand.labels import LinkedLabels
from ProxyPromptSegmentLib.progress import CancelToken
from torchvision_guard import ensure_torchvision_importable, plain_nms

ensure_torchvision_importable()

LOOSE = EverythingChoice(points=8, quality=0.3, stability=0.5, least_pixels=1, apart=False)
SIDE = 256


@pytest.fixture(scope="module")
def encoder():
    from ProxyPromptSegmentLib.inference.loading import load

    return load("sam-compact", "cpu").segmenter


@pytest.fixture(scope="module")
def encoded(encoder):
    return encoder.encode(pelvis_phantom(3, (5, SIDE, SIDE))[0].array[2:3])


def packages_masks(encoder, encoded, choice):
    """What segment-anything's generator finds on the same embedding with the same points."""
    from segment_anything import SamAutomaticMaskGenerator

    grid = (
        grid_points(choice.points, (SIDE, SIDE))
    ) / SIDE  # the package takes shares of the side, and adds half a pixel
    generator = SamAutomaticMaskGenerator(
        encoder.model.backbone.sam, points_per_side=None, point_grids=[grid], pred_iou_thresh=choice.quality,
        stability_score_thresh=choice.stability, points_per_batch=16,
    )  # fmt: skip
    predictor = generator.predictor

    def set_image(image):
        predictor.features, predictor.is_image_set = encoded.features.top, True
        predictor.original_size = predictor.input_size = (SIDE, SIDE)

    predictor.set_image = set_image
    return generator.generate(np.zeros((SIDE, SIDE, 3), np.uint8))


def test_the_masks_are_those_of_the_packages_own_generator(encoder, encoded):
    theirs = packages_masks(encoder, encoded, LOOSE)
    ours = everything_on(encoder, encoded, LOOSE)
    assert len(theirs) > 5
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine.mask, its["segmentation"])
        assert mine.quality == pytest.approx(its["predicted_iou"], abs=1e-4)
        assert mine.stability == pytest.approx(its["stability_score"], abs=1e-3)


@pytest.mark.parametrize("name", ["sam2-compact"])
def test_sam2_finds_everything_too(name):
    pytest.importorskip("sam2")
    from ProxyPromptSegmentLib.inference.loading import load

    encoder = load(name, "cpu").segmenter
    image = np.zeros((1, 96, 128), np.float32)
    image[0, 20:60, 30:70], image[0, 70:90, 90:120] = 1, 0.6
    found = everything_on(encoder, encoder.encode(image), EverythingChoice(points=6, quality=0.3, stability=0.5))
    assert found is not None
    assert all(one.mask.shape == (96, 128) for one in found)


def test_small_batches_and_a_full_one_find_the_same(encoder, encoded):
    whole, parts = (everything_on(encoder, encoded, replace(LOOSE, batch=batch)) for batch in (64, 7))
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_the_limits_hold(encoder, encoded):
    plain = everything_on(encoder, encoded, LOOSE)
    few = everything_on(encoder, encoded, replace(LOOSE, most=3))
    assert [one.quality for one in few] == [one.quality for one in plain[:3]]
    large = everything_on(encoder, encoded, replace(LOOSE, least_pixels=200))
    assert large and all(one.mask.sum() >= 200 for one in large)
    good = everything_on(encoder, encoded, replace(LOOSE, quality=float(np.median([one.quality for one in plain]))))
    assert 0 < len(good) < len(plain)


def test_the_batch_is_halved_when_memory_runs_out_and_a_single_point_ends_it(encoder, encoded, monkeypatch):
    plain, passing, sizes = everything_on(encoder, encoded, LOOSE), everything._passing, []

    def little(made, given, points, choice):
        sizes.append(len(points))
        if len(points) > most:
            raise RuntimeError("out of memory")
        return passing(made, given, points, choice)

    monkeypatch.setattr(everything, "_passing", little)
    most = 10
    found = everything_on(encoder, encoded, LOOSE)
    assert sizes[:4] == [64, 32, 16, 8]
    assert [one.quality for one in found] == pytest.approx([one.quality for one in plain], abs=1e-5)
    most = 0
    with pytest.raises(DeviceError, match="a single point does not fit"):
        everything_on(encoder, encoded, LOOSE)


def test_a_cancel_ends_between_batches_and_points_are_counted(encoder, encoded):
    counted, cancel = [], CancelToken()
    everything_on(encoder, encoded, replace(LOOSE, batch=20), on_points=counted.append)
    assert counted == [20, 20, 20, 4]
    counted.clear()

    def stop(count):
        counted.append(count)
        cancel.cancel()

    assert everything_on(encoder, encoded, replace(LOOSE, batch=20), cancel, stop) is None
    assert counted == [20]


@pytest.mark.parametrize(
    "wrong",
    [{"points": 0}, {"points": 500}, {"quality": 1.0}, {"stability": -0.1}, {"most": 0}, {"least_pixels": -1}],
)
def test_values_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError, match=r"allowed are|give at least"):
        EverythingChoice(**wrong)


def test_the_grid_has_the_middles_of_equal_parts_of_the_slice():
    np.testing.assert_allclose(grid_points(2, (4, 8)), [(1.5, 0.5), (5.5, 0.5), (1.5, 2.5), (5.5, 2.5)])


def test_of_masks_that_cut_each_other_the_best_is_kept_and_parts_stay(encoder, encoded):
    whole, part, across, beside, again = (np.zeros((20, 20), bool) for _ in range(5))
    whole[2:14, 2:14], part[4:8, 4:8], across[10:18, 8:18], beside[16:19, 1:6] = True, True, True, True
    again[2:14, 2:13] = True
    masks, scores = [across, whole, again, part, beside], [0.5, 0.9, 0.8, 0.3, 0.2]
    assert apart(masks, scores) == [1, 3, 4]
    assert apart(masks, [0.9, 0.5, 0.8, 0.3, 0.2]) == [0, 3, 4]
    found = everything_on(encoder, encoded, replace(LOOSE, apart=True))
    every = everything_on(encoder, encoded, LOOSE)
    assert 0 < len(found) < len(every) and {one.quality for one in found} < {one.quality for one in every}


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_are_left_out_as_by_torchvision(seed):
    chance = np.random.default_rng(seed)
    low = chance.random((60, 2)) * 30
    boxes = np.concatenate([low, low + chance.random((60, 2)) * 30], axis=1).round()
    scores = chance.random(60).round(1)
    expected = plain_nms(torch.tensor(boxes), torch.tensor(scores), 0.4).tolist()
    assert distinct(boxes.tolist(), scores.tolist(), 0.4) == expected
    assert distinct([], [], 0.5) == []


def test_the_box_of_a_mask_ends_on_its_last_pixels():
    mask = np.zeros((6, 9), bool)
    mask[2:5, 3:8] = True
    assert box_of(mask) == (3, 2, 7, 4)


def found(rows, columns, quality=0.9, shape=(20, 20)):
    mask = np.zeros(shape, bool)
    mask[slice(*rows), slice(*columns)] = True
    return FoundMask(mask=mask, quality=quality, stability=1.0, row=0.0, column=0.0)


def test_smaller_masks_lie_above_larger_ones_and_hidden_ones_get_no_label():
    labels = LinkedLabels(1, (20, 20))
    small, large, hidden = found((2, 5), (2, 5)), found((0, 12), (0, 12)), found((2, 5), (2, 5), 0.5)
    drawn = labels.add(0, [small, large, hidden])
    assert labels.count == 2
    assert drawn[3, 3] != drawn[8, 8] and drawn[3, 3] and drawn[8, 8] and drawn[15, 15] == 0
    assert len(labels.qualities) == 2


def test_the_same_thing_on_neighbouring_slices_has_one_label_and_another_thing_its_own():
    labels = LinkedLabels(4, (20, 20))
    labels.add(1, [found((2, 8), (2, 8)), found((12, 18), (12, 18))])
    labels.add(2, [found((13, 19), (12, 18)), found((3, 8), (2, 8))])
    labels.add(0, [found((2, 7), (2, 8)), found((2, 8), (12, 18))])
    labels.add(3, [found((0, 20), (0, 20))])
    assert labels.labels[0, 4, 4] == labels.labels[1, 4, 4] == labels.labels[2, 4, 4]
    assert labels.labels[1, 15, 15] == labels.labels[2, 15, 15] != labels.labels[0, 4, 15] != 0
    assert labels.count == 4 and labels.done.all()


def test_labels_end_at_their_largest_number():
    labels = LinkedLabels(1, (20, 20), most=1)
    labels.add(0, [found((0, 5), (0, 5)), found((8, 18), (8, 18))])
    assert labels.count == 1 and labels.left_out == 1
    assert set(np.unique(labels.labels)) == {0, 1}
