"""Halves and the core of a mask, as they can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.evaluation.broad.mask_changes import CHANGES, change_masks, core


def box(rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((40, 50), np.uint8)
    mask[10 : 10 + rows, 20 : 20 + columns] = 1
    return mask


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("whole", (10, 20), (20, 32)),
        ("left half", (10, 20), (20, 26)),
        ("right half", (10, 20), (26, 32)),
        ("anterior half", (10, 15), (20, 32)),
        ("posterior half", (15, 20), (20, 32)),
    ],
)
def test_halves_lie_on_the_side_that_they_are_named_after(name, rows, columns):
    expected = np.zeros((40, 50), np.uint8)
    expected[slice(*rows), slice(*columns)] = 1
    np.testing.assert_array_equal(CHANGES[name](box(10, 12)), expected)


def test_two_halves_make_the_whole_even_where_the_centre_lies_on_a_pixel():
    mask = box(9, 11)
    for one, other in (("left half", "right half"), ("anterior half", "posterior half")):
        first, second = CHANGES[one](mask), CHANGES[other](mask)
        assert not (first & second).any() and ((first | second) == mask).all() and second.any()


def test_the_core_is_eroded_from_every_edge_to_about_half_of_the_area():
    y, x = np.mgrid[:81, :81]
    disc = (np.hypot(y - 40, x - 40) <= 30).astype(np.uint8)
    found = core(disc)
    assert found.sum() == pytest.approx(disc.sum() / 2, rel=0.05)
    away = np.hypot(y - 40, x - 40)
    assert found[away <= 20].all() and not found[away > 22].any()
    at_border = np.zeros((20, 20), np.uint8)
    at_border[:, :10] = 1
    assert not core(at_border)[0].any() and not core(at_border)[:, 0].any(), "the border of the image is an edge"


def test_an_empty_mask_stays_empty_and_stacks_are_changed_slice_by_slice():
    stack = np.stack([box(10, 12), np.zeros((40, 50), np.uint8), box(4, 4)])[:, None]
    for name, change in CHANGES.items():
        changed = change_masks(stack, change)
        assert changed.shape == stack.shape and changed.dtype == np.uint8 and not changed[1].any(), name
        assert (changed <= stack).all() and changed[0].any() and changed[2].any(), name
