"""Empty slices inside an object: found, filled where the mask itself supports it, and named."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.inference.gaps import LONGEST_FILLED, frame_names, gaps, left_empty, notes_on_gaps
from ProxyPromptSegmentLib.inference.results import SegmentResult
from ProxyPromptSegmentLib.inference.volume_result import notes_on
from ProxyPromptSegmentLib.remedies import RemedyKind

SIDE = 40


def disc(radius, row=20, column=20):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(rows - row, columns - column) <= radius


def a_result(probabilities, presence, one_piece=(True,), **more):
    """A prediction of one object with these masks ``(H, W)`` and presences by slice."""
    probability = np.stack([0.98 * np.asarray(one, np.float32) for one in probabilities])[:, None]
    shown = np.asarray(presence, np.float32)[:, None]
    return SegmentResult(
        objects=("gland",),
        probability=probability,
        presence=shown,
        quality=np.full_like(shown, 0.9),
        done=np.ones(len(shown), bool),
        one_piece=one_piece,
        **more,
    )


RADII = (0, 8, 10, 11, 11, 11, 10, 8, 0)
FOUND = (0.1, 0.99, 0.99, 0.9, 0.1, 0.9, 0.99, 0.99, 0.1)


def a_volume(presence=FOUND, **more):
    return a_result([disc(radius) if radius else np.zeros((SIDE, SIDE)) for radius in RADII], presence, **more)


def test_gaps_lie_between_finished_slices_that_show_the_object():
    shown = np.array([0, 1, 0, 0, 1, 1, 0, 1, 0], bool)
    assert gaps(shown, np.ones(9, bool)) == [(1, 4, [2, 3]), (5, 7, [6])]
    done = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1], bool)
    assert gaps(shown, done) == [(1, 4, [3])]
    assert left_empty(shown, done) == [3]
    assert gaps(np.zeros(9, bool), done) == []


def test_a_slice_without_presence_is_filled_with_its_own_mask_and_no_other_slice_changes():
    result = a_volume()
    kept = a_volume(fill_gaps=False).masks()
    assert not kept[4].any() and kept[3].any() and kept[5].any()
    masks, filled = result.masks_and_filled()
    np.testing.assert_array_equal(np.flatnonzero(filled), [4])
    np.testing.assert_array_equal(masks[4, 0], disc(11))
    masks[4] = 0
    np.testing.assert_array_equal(masks, kept)


def test_each_slice_alone_fills_nothing():
    masks, filled = a_volume(across_slices=False).masks_and_filled()
    assert not masks[4].any() and not filled.any()


@pytest.mark.parametrize(
    "mask", [np.zeros((SIDE, SIDE)), disc(11, 8, 33), disc(2)], ids=["nothing", "elsewhere", "a speck"]
)
def test_a_mask_that_does_not_fit_between_its_neighbours_is_not_filled_in(mask):
    shapes = [disc(radius) if radius else np.zeros((SIDE, SIDE)) for radius in RADII]
    shapes[3:6] = [shapes[3], mask, shapes[5]]
    result = a_result(shapes, FOUND)
    masks, filled = result.masks_and_filled()
    assert not filled.any() and not masks[4].any()


def test_parts_apart_from_the_object_are_not_filled_in_with_it():
    result = a_volume()
    result.probability[4, 0, 2:5, 2:5] = 3.0  # a bright speck, above the threshold after smoothing
    assert not result.masks()[4, 0, :6, :6].any()
    result.one_piece = (False,)
    assert result.masks()[4, 0, :6, :6].any()


def test_a_long_gap_separates_two_parts_and_stays_empty():
    for length, is_filled in ((LONGEST_FILLED, True), (LONGEST_FILLED + 1, False)):
        presence = [0.99, 0.99, *[0.1] * length, 0.99, 0.99]
        result = a_result([disc(11)] * len(presence), presence)
        empty = [n for n, shown in enumerate(a_gated(result)) if not shown]
        assert len(empty) == length
        assert result.masks_and_filled()[1].any() == is_filled


def a_gated(result):
    return [result.slice_masks(index).any() for index in range(len(result.done))]


def test_notes_name_what_was_filled_and_what_was_left_empty_with_the_positions_of_slicer():
    names = SliceNames("S", 10.0, 3.0).names
    shown = np.array([[1, 1], [0, 1], [1, 1], [0, 0], [0, 0], [1, 0]], bool)
    filled = np.zeros_like(shown)
    filled[1:3, 1] = True
    left, made = notes_on_gaps(("gland", "stone"), shown, filled, np.ones(6, bool), names)
    assert left.text.startswith("'gland' is empty on slices 1 (S 13.0 mm), 3-4 (S 19.0 to 22.0 mm), between others")
    assert left.remedy is None
    assert made.text.startswith("'stone' was filled in on slices 1-2 (S 13.0 to 16.0 mm):")
    assert made.remedy is not None and made.remedy.kind == RemedyKind.KEEP_GAPS


def test_frames_are_named_as_frames():
    assert frame_names([7, 3, 4]) == "frames 3-4, 7"
    assert frame_names([3]) == "frame 3"


def test_a_result_says_what_it_left_empty_and_nothing_where_there_is_no_gap():
    result = a_volume(fill_gaps=False)
    masks, filled = result.masks_and_filled()
    (note,) = notes_on(result, masks, 0.5, filled)
    assert "'gland' is empty on slice 4, between others" in note.text
    result = a_volume([0.1, *[0.99] * 7, 0.1])
    masks, filled = result.masks_and_filled()
    assert notes_on(result, masks, 0.5, filled) == []
