"""Whether a support shows an object in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece


def pair(*boxes):
    mask = np.zeros((1, 40, 40), np.uint8)
    for top, left, side in boxes:
        mask[0, top : top + side, left : left + side] = 1
    return SupportPair(np.random.default_rng(0).random((40, 40), np.float32), mask, (1.0, 1.0), (0.0, 1.0))


def test_two_pieces_on_one_support_slice_make_an_object_of_several_pieces():
    assert one_piece(SupportSet((pair((5, 5, 10)), pair((3, 3, 8))), ("a",))) == (True,)
    assert one_piece(SupportSet((pair((5, 5, 10)), pair((3, 3, 8), (20, 20, 8))), ("a",))) == (False,)


def test_a_speck_of_the_annotator_does_not_make_two_pieces():
    assert one_piece(SupportSet((pair((5, 5, 12), (30, 30, 1)),), ("a",))) == (True,)


@pytest.mark.parametrize(("voxels", "whole"), [(1, True), (2, False), (3, False), (10, False)])
def test_a_part_of_two_percent_of_what_is_marked_on_the_slice_is_a_piece(voxels, whole):
    support = SupportSet((pair((5, 5, 3)),), ("a",))
    mask = support.pairs[0].masks[0]
    mask[:] = 0
    mask[2:9, 2:16] = 1  # 98 pixels
    mask[30, 2 : 2 + voxels] = 1
    assert one_piece(support) == (whole,)
