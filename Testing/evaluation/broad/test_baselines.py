"""Baselines: the copied mean of the masks, at whatever size, and matching of features."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from broad_cases import BRIGHT, square
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad import trunk_matching as matching
from ProxyPromptSegmentLib.evaluation.broad.baselines import MATCHING, MEAN_MASK, copied_mean, score_baselines, stretch
from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
from ProxyPromptSegmentLib.evaluation.in_context import pair_of


def a_case(number: int, column: int = 20) -> Case:
    images, labels = square(BRIGHT, column=column, seed=number)
    return Case(
        dataset="made",
        patient=f"p{number}",
        images=images.astype(np.float32),
        masks=(labels > 0)[:, None].astype(np.uint8),
        objects=("organ",),
        spacing_mm=None,
        name=f"p{number}",
    )


def test_masks_are_stretched_to_the_targets_size():
    mask = np.zeros((1, 4, 6), np.uint8)
    mask[0, :2, 3:] = 1
    large = stretch(mask, (8, 18))
    assert large.shape == (1, 8, 18) and large[0, :4, 9:].all() and large.sum() == 4 * 9
    np.testing.assert_array_equal(stretch(large, (4, 6)), mask)
    np.testing.assert_array_equal(stretch(mask, (4, 6)), mask)
    rows = np.arange(4, dtype=np.uint8)[None, :, None].repeat(4, axis=2)
    assert stretch(rows, (2, 4))[0, :, 0].tolist() == [1, 3], "the pixel at the centre"


def test_the_copied_mean_is_scored_with_the_supports_that_the_model_is_given():
    pool = [a_case(0), a_case(1, 28), a_case(2, 28), a_case(3, 28)]
    task = Task(dataset="made", objects=("organ",), targets=pool[:1], pool=pool)
    (record,) = score_baselines(task, pool[0], 3, 0)
    # Three squares shifted by half, on four slices; the truth is on two.
    assert record.method == MEAN_MASK and record.score == pytest.approx(2 * 0.5 * 2 / (2 + 4))
    assert record.slices["drawn"] == [1] * 4 and record.slices["truth"] == [0, 1, 1, 0]
    assert "confidence" not in record.slices and score_baselines(task, pool[0], 9, 0) == []
    assert copied_mean([pair_of(pool[1], 1)], pool[0]).shape == (4, 1, 64, 64)


def test_labels_are_taken_over_from_the_positions_that_look_alike():
    keys = torch.eye(3)
    labels = torch.tensor([[1.0, 0.0, 0.5]])
    features = torch.tensor([[1.0, 0.0, 0.0, 0.7], [0.0, 1.0, 0.0, 0.7], [0.0, 0.0, 1.0, 0.0]])
    found = matching.transfer(features, keys, labels)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, 0.5, 0.5]]))


class GreyTrunk:
    """Three levels that know nothing but how bright a place is."""

    def __call__(self, images):
        grey = torch.nn.functional.adaptive_avg_pool2d(images[:, :1], 32)
        level = torch.cat([torch.cos(grey * 1.5), torch.sin(grey * 1.5)], dim=1)
        return [images, level, level, torch.nn.functional.avg_pool2d(level, 2)]


def test_matching_finds_what_is_as_bright_as_the_marked_part():
    pool = [a_case(number, 20 + 4 * number) for number in range(4)]
    task = Task(dataset="made", objects=("organ",), targets=pool[:1], pool=pool)
    trunk = matching.TrunkMatching(GreyTrunk())
    records = score_baselines(task, pool[0], 2, 0, trunk)
    assert [record.method for record in records] == [MEAN_MASK, MATCHING]
    assert records[1].score > 0.9 and records[1].slices["drawn"] == [0, 1, 1, 0]
    wide = Case(**{**vars(pool[0]), "images": pool[0].images[:, :40], "masks": pool[0].masks[:, :, :40], "name": "w"})
    assert trunk.segment(wide, [pair_of(pool[1], 1)]).shape == (4, 1, 40, 64)
