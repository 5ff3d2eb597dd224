"""A click changes a mask where it lies: pieces at the click are taken, others stay, the clicked pixel obeys."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.inference.by_hand.local import SAID, changed_at, place_of
from ProxyPromptSegmentLib.inference.by_hand.prompts import Point
from ProxyPromptSegmentLib.networks.letterbox import Letterbox

BOX = Letterbox(64, (64, 64))


def logits(*areas, side=64):
    made = torch.full((side, side), -3.0)
    for rows, columns in areas:
        made[slice(*rows), slice(*columns)] = 3.0
    return made


def test_only_the_piece_at_the_click_is_taken():
    before, after = logits(((10, 20), (10, 20))), logits(((10, 30), (10, 20)), ((50, 60), (50, 60)))
    found = changed_at(before, after, Point(25, 15), BOX)
    torch.testing.assert_close(found, logits(((10, 30), (10, 20))))


def test_what_the_click_does_not_ask_for_stays():
    before, after = logits(((10, 20), (10, 20))), logits(((15, 30), (10, 20)))
    # The decoder takes a part away and adds another: a positive click takes the addition, a negative one the rest.
    torch.testing.assert_close(changed_at(before, after, Point(25, 15), BOX), logits(((10, 30), (10, 20))))
    torch.testing.assert_close(changed_at(before, after, Point(12, 15, False), BOX), logits(((15, 20), (10, 20))))


@pytest.mark.parametrize("inside", [True, False])
def test_a_decoder_that_does_not_follow_is_overruled_around_the_click(inside):
    before = logits(((10, 20), (10, 20)))
    point = Point(40, 40) if inside else Point(15, 15, False)
    found = changed_at(before, before, point, BOX)
    changed = torch.nonzero((found > 0) != (before > 0))
    assert found[int(point.row), int(point.column)] == (SAID if inside else -SAID)
    assert 1 <= len(changed) <= 9  # REACH is a share of 64 pixels here
    assert ((changed - torch.tensor([point.row, point.column])).abs() <= 2).all()


def test_a_click_that_is_right_already_changes_nothing_without_a_new_piece():
    before = logits(((10, 20), (10, 20)))
    torch.testing.assert_close(changed_at(before, before, Point(15, 15), BOX), before)


@pytest.mark.parametrize(("shape", "spacing"), [((64, 64), (1, 1)), ((40, 200), (1, 1)), ((100, 30), (2.0, 0.5))])
@pytest.mark.parametrize("side", [16, 64])
def test_a_click_at_the_borders_lies_on_a_pixel_of_the_square(shape, spacing, side):
    box = Letterbox(64, shape, spacing)
    rows, columns = box.valid
    assert place_of(Point(-0.5, -0.5), box, side) == (0, 0)
    row, column = place_of(Point(shape[0] - 1, shape[1] - 1), box, side)
    assert row in (int(rows * side / 64) - 1, int(rows * side / 64)) and row < side
    assert column in (int(columns * side / 64) - 1, int(columns * side / 64)) and column < side
