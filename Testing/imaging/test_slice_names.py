"""Slices are named by index and position, in every sentence the same way."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import GeometryError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames

AXIAL = VolumeGeometry((4, 5, 30), (1.0, 1.0, 3.0), (10.0, 20.0, -1.5))


def test_an_axial_slice_has_its_s_coordinate():
    names = SliceNames.of(AXIAL, "k")
    assert names.name(12) == "slice 12 (S 34.5 mm)"
    assert names.position(0) == "S -1.5 mm"


def test_coronal_and_sagittal_slices_have_a_and_l_coordinates():
    """In LPS, j runs to posterior and i to the left: the offset falls along j and grows along i."""
    assert SliceNames.of(AXIAL, "j").name(2) == "slice 2 (A -22.0 mm)"
    assert SliceNames.of(AXIAL, "i").name(3) == "slice 3 (L 13.0 mm)"


def test_stacks_stored_the_other_way_have_the_same_positions():
    flipped = VolumeGeometry((4, 5, 30), (1.0, 1.0, 3.0), (10.0, 20.0, 85.5), np.diag([1.0, -1.0, -1.0]))
    assert SliceNames.of(flipped, "k").position(29 - 12) == SliceNames.of(AXIAL, "k").position(12)


def test_neighbouring_slices_never_share_a_name():
    for spacing in (5.0, 0.3, 0.05, 0.004):
        names = SliceNames.of(VolumeGeometry((4, 5, 30), (1.0, 1.0, spacing)), "k")
        assert len({names.position(n) for n in range(30)}) == 30


def test_the_origin_is_not_minus_zero():
    assert SliceNames.of(VolumeGeometry((4, 5, 3), (1.0, 1.0, 3.0), (0.0, 0.0, -0.01)), "k").position(0) == "S 0.0 mm"


def test_an_oblique_normal_has_the_nearest_direction_and_the_distance_from_the_origin():
    turn = np.array([[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]])
    geometry = VolumeGeometry((40, 40, 12), (1.0, 1.0, 4.0), (-20.0, 30.0, -50.0), turn)
    names = SliceNames.of(geometry, "k")
    assert names.direction == "S"
    for index in (0, 7):
        centre = geometry.index_to_lps([19.5, 19.5, index])
        assert names.offset_mm(index) == pytest.approx(float(turn[:, 2] @ centre))


def test_several_slices_are_named_as_runs():
    names = SliceNames.of(AXIAL, "k")
    assert names.names([4]) == "slice 4 (S 10.5 mm)"
    assert names.names([5, 3, 4, 9]) == "slices 3-5 (S 7.5 to 13.5 mm), 9 (S 25.5 mm)"
    assert names.names(range(0, 30, 2)).endswith(", 10 (S 28.5 mm) and more")


def test_a_picture_has_no_position():
    names = SliceNames.of(None, "k")
    assert names.name(0) == "slice 0" and names.position(0) == "" and names.names([5, 3, 4, 9]) == "slices 3-5, 9"


def test_an_unknown_axis_is_refused():
    with pytest.raises(GeometryError, match="'z'"):
        SliceNames.of(AXIAL, "z")
