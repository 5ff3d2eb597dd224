"""A point of the target's file hits its very pixel, in every plane, orientation and spacing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.geometry import AXES, SliceView, VolumeGeometry, slice_view
from ProxyPromptSegmentLib.inference.by_hand.prompts import (
    Box,
    ByHand,
    HandPrompt,
    Point,
    VoxelBox,
    VoxelMask,
    VoxelPoint,
    only_outside,
)
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, points_to_square

SHAPE = (4, 5, 7)  # K, J, I
TURNS = list(product((False, True), repeat=3))


def ijk_of(kji):
    return tuple(reversed([int(n) for n in kji]))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("turn", TURNS)
def test_every_voxel_is_hit_in_every_plane_and_orientation(axis, turn):
    view = SliceView(axis, *turn, (0.5, 2.0))
    voxels = np.zeros(SHAPE, np.uint8)
    for kji in np.ndindex(SHAPE):
        voxels[:] = 0
        voxels[kji] = 1
        (said,) = ByHand((VoxelPoint(ijk_of(kji)),)).on_slices(view, SHAPE, ("a",)).items()
        number, point = said[0], said[1][0].points[0]
        assert view.take(voxels)[number, int(point.row), int(point.column)] == 1


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1.0, -1, 1]), np.eye(3)[[2, 0, 1]], np.eye(3)[[1, 2, 0]]])
@pytest.mark.parametrize("axis", AXES)
def test_a_place_in_the_body_hits_the_voxel_that_lies_there(direction, axis):
    geometry = VolumeGeometry((7, 5, 4), (0.4, 1.5, 3.0), (12.5, -40.0, 7.0), direction)
    view, places = slice_view(geometry, axis), np.zeros((*SHAPE, 3))
    for kji in np.ndindex(SHAPE):
        places[kji] = geometry.index_to_lps(ijk_of(kji))
    for kji in [(0, 0, 0), (3, 4, 6), (0, 4, 6), (2, 1, 3)]:
        index = tuple(geometry.lps_to_index(places[kji]))
        ((number, said),) = ByHand((VoxelPoint(index),)).on_slices(view, SHAPE, ("a",)).items()
        point = said[0].points[0]
        found = view.take(places)[number, int(np.floor(point.row + 0.5)), int(np.floor(point.column + 0.5))]
        np.testing.assert_allclose(found, places[kji])


@pytest.mark.parametrize("shape", [(200, 80), (80, 200), (64, 64), (33, 47), (5, 300)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (3.0, 0.7)])
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_the_middle_and_the_edges_of_a_pixel_keep_their_place_in_the_square(shape, spacing, keep_aspect):
    box = Letterbox(256, shape, spacing, keep_aspect)
    rows, columns = box.valid
    corners = np.array([(0, 0), (shape[1] - 1, 0), (0, shape[0] - 1), (shape[1] - 1, shape[0] - 1)], float)
    placed = points_to_square(corners, box)
    # In the square a pixel of the slice is columns / W wide and rows / H high, beginning at the upper left corner.
    expected = (corners + 0.5) * (columns / shape[1], rows / shape[0]) - 0.5
    np.testing.assert_allclose(placed, expected, rtol=1e-6)
    assert (placed > -0.5).all() and (placed < (columns - 0.5, rows - 0.5)).all()
    np.testing.assert_allclose(points_to_square(np.array([(-0.5, -0.5)]), box), [(-0.5, -0.5)], atol=1e-6)
    end = points_to_square(np.array([(shape[1] - 0.5, shape[0] - 0.5)]), box)
    np.testing.assert_allclose(end, [(columns - 0.5, rows - 0.5)], rtol=1e-6)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("turn", TURNS)
def test_a_box_has_its_voxels_and_no_others_on_each_slice_that_it_spans(axis, turn):
    view = SliceView(axis, *turn, (1.0, 1.0))
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:3, 1:4, 2:6] = 1
    said = ByHand(boxes=(VoxelBox((2, 1, 1), (5, 3, 2)),)).on_slices(view, SHAPE, ("a",))
    slices = view.take(voxels)
    assert sorted(said) == np.flatnonzero(slices.any(axis=(1, 2))).tolist()
    for number, hands in said.items():
        box, inside = hands[0].box, np.zeros(slices.shape[1:], np.uint8)
        inside[int(box.top) : int(box.bottom) + 1, int(box.left) : int(box.right) + 1] = 1
        np.testing.assert_array_equal(inside, slices[number])


@pytest.mark.parametrize("axis", AXES)
def test_a_mask_prompts_the_slices_on_which_it_is_marked(axis):
    view = SliceView(axis, True, False, True, (1.0, 1.0))
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2, 1:3, 4] = 1
    said = ByHand(masks=(VoxelMask(voxels, "a"),)).on_slices(view, SHAPE, ("a",))
    for number, hands in said.items():
        np.testing.assert_array_equal(hands[0].mask, view.take(voxels)[number])
    assert sorted(said) == np.flatnonzero(view.take(voxels).any(axis=(1, 2))).tolist()


VIEW = SliceView("k", False, False, False, (1.0, 1.0))


@pytest.mark.parametrize("ijk", [(-0.6, 0, 0), (6.5, 0, 0), (0, 4.5, 0), (0, 0, 4), (float("nan"), 0, 0)])
def test_a_point_outside_of_the_image_is_refused_with_what_the_image_has(ijk):
    with pytest.raises(UsageError, match=r"lies outside of the image: [ijk] is .*, the image has [ijk] from 0 to \d"):
        ByHand((VoxelPoint(ijk),)).on_slices(VIEW, SHAPE, ("a",))


@pytest.mark.parametrize("ijk", [(-0.5, 0, 0), (6.49, 4.49, 3.49), (0, 0, 2.5)])
def test_the_outer_half_of_a_border_voxel_belongs_to_it(ijk):
    ((number, said),) = ByHand((VoxelPoint(ijk),)).on_slices(VIEW, SHAPE, ("a",)).items()
    assert 0 <= number < 4
    assert said[0].points[0].row == ijk[1]


def test_a_reversed_box_is_refused_with_its_axis():
    with pytest.raises(UsageError, match="box a=5,0,0,2,3,0 runs backwards along i, from 5 to 2; give its lowest"):
        ByHand(boxes=(VoxelBox((5, 0, 0), (2, 3, 0), "a"),)).on_slices(VIEW, SHAPE, ("a",))


def test_a_box_that_is_a_line_or_lies_outside_is_refused():
    with pytest.raises(UsageError, match="only a line on slices along k"):
        ByHand(boxes=(VoxelBox((2, 0, 0), (2, 3, 0)),)).on_slices(VIEW, SHAPE, ("a",))
    with pytest.raises(UsageError, match="j is 7, the image has j from 0 to 4"):
        ByHand(boxes=(VoxelBox((1, 0, 0), (2, 7, 0)),)).on_slices(VIEW, SHAPE, ("a",))


def test_an_unknown_object_and_one_left_out_among_several_are_refused_with_the_names():
    with pytest.raises(UsageError, match="no object 'liver' to be marked by hand; the objects are a, b"):
        ByHand((VoxelPoint((0, 0, 0), object="liver"),)).on_slices(VIEW, SHAPE, ("a", "b"))
    with pytest.raises(UsageError, match="names no object, but there are 2: a, b; write the name"):
        ByHand((VoxelPoint((0, 0, 0)),)).on_slices(VIEW, SHAPE, ("a", "b"))


def test_what_is_said_of_one_object_on_one_slice_is_joined_in_its_order():
    said = ByHand(
        (VoxelPoint((1, 2, 3)), VoxelPoint((4, 2, 3), False, "B"), VoxelPoint((6, 1, 3), False, "a")),
        (VoxelBox((0, 0, 3), (5, 4, 3), "a"),),
    )
    with pytest.raises(UsageError):
        said.on_slices(VIEW, SHAPE, ("a", "b"))
    said = ByHand((VoxelPoint((1, 2, 3), object="A"), *said.points[1:]), said.boxes)
    (found,) = said.on_slices(VIEW, SHAPE, ("a", "b")).values()
    assert found[0].points == (Point(2, 1), Point(1, 6, False))
    assert found[0].box == Box(0, 0, 4, 5)
    assert found[1].points == (Point(2, 4, False),)
    assert said.objects == ("A", "B", "a")


def test_only_clicks_outside_say_nowhere_that_an_object_is_there():
    outside, inside = HandPrompt((Point(0, 0, False),)), HandPrompt((Point(0, 0, False), Point(1, 1)))
    assert only_outside({2: {0: outside, 1: inside}}, ("a", "b")) == "a"
    assert only_outside({2: {0: outside}, 3: {0: inside}}, ("a", "b")) is None
    assert only_outside({}, ("a",)) is None
    assert not HandPrompt(mask=np.zeros((2, 2), np.uint8)).says_there
    assert HandPrompt(box=Box(0, 0, 1, 1)).says_there
