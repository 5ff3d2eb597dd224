"""What is segmented in tiles is decided from the support alone, and the user is informed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.inference.tiling.plan import (
    ENOUGH,
    MAGNIFICATIONS,
    MARGIN,
    MOST_TILES,
    TOO_LITTLE,
    coarse_mask,
    decide,
    kept_dice,
)
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from tile_cases import FUNDUS, vessel_support, vessel_tree

SIDE = 128


def disc(radius, shape=FUNDUS, center=(0.5, 0.5)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    away = np.hypot(rows - center[0] * shape[0], columns - center[1] * shape[1])
    return (away <= radius).astype(np.uint8)


def support_of(*masks, spacing=(1.0, 1.0), names=("a", "b", "c")):
    pair = SupportPair(np.zeros(masks[0].shape, np.float32), np.stack(masks), spacing, (0.0, 1.0))
    return SupportSet((pair,), names[: len(masks)])


def marked(support):
    return [(pair.masks, pair.spacing_mm) for pair in support.pairs]


def plan_of(support, choice="auto", shape=FUNDUS, side=SIDE, spacing=(1.0, 1.0)):
    return decide(support, shape, spacing, side, TileChoice.of(choice))


def test_an_organ_is_segmented_in_whole_slices_without_a_word():
    plan = plan_of(support_of(disc(60)))
    assert plan.whole_dice[0] > 0.99
    assert (plan.tiled, plan.tiles, plan.magnification, plan.notes()) == ((False,), 0, 1.0, [])


def test_thin_vessels_are_segmented_in_tiles_and_the_user_is_informed():
    plan = plan_of(vessel_support())
    assert plan.whole_dice[0] < TOO_LITTLE
    assert plan.tiled == plan.thin == (True,)
    assert plan.tiled_dice[0] >= ENOUGH
    (note,) = plan.notes()
    assert f"a Dice of {plan.whole_dice[0]:.2f} on the supports" in note.text
    assert f"{plan.tiles} overlapping tiles per slice, {plan.magnification:g} times larger" in note.text
    assert note.remedy.kind == RemedyKind.CHOOSE_TILES


def test_a_structure_that_is_too_small_is_segmented_in_tiles_and_is_not_thin():
    plan = plan_of(support_of(disc(3)))
    assert plan.tiled == (True,)
    assert plan.thin == (False,)


def test_a_long_line_is_thin_however_few_pixels_it_has():
    line = np.zeros(FUNDUS, np.uint8)
    line[100:102, 20:540] = 1
    assert plan_of(support_of(line)).thin == (True,)
    assert plan_of(support_of(line), "off").thin == (False,)  # whole slices are treated as ever


def test_the_smallest_magnification_that_keeps_the_structure_is_chosen():
    sizes = [plan_of(support_of(disc(radius, (1024, 1024))), "on", (1024, 1024)).magnification for radius in (200, 6)]
    assert sizes[0] == 2.0
    assert sizes[1] > sizes[0]


def test_the_structure_survives_on_a_grid_twice_as_coarse_as_that_of_the_tiles():
    support = vessel_support(widest=7.0)
    plan = plan_of(support, "on")
    before = MAGNIFICATIONS[MAGNIFICATIONS.index(plan.magnification) - 1]
    dice = [kept_dice(marked(support), 0, round(SIDE * m / MARGIN)) for m in (plan.magnification, before)]
    assert dice[0] >= ENOUGH > dice[1]


@pytest.mark.parametrize("shape", [(6000, 6000), (800, 6000)])
def test_the_number_of_tiles_is_bounded_whatever_the_size_of_the_target(shape):
    plan = plan_of(support_of(np.pad(np.ones((1, 5000), np.uint8), ((2500, 2499), (0, 0)))), shape=shape)
    assert 1 < plan.tiles <= MOST_TILES


def test_what_is_chosen_by_the_user_is_done():
    organ, vessels = support_of(disc(60)), vessel_support()
    assert plan_of(vessels, "off").tiles == 0
    assert plan_of(organ, "on").tiles == 9
    assert plan_of(organ, "4").tiles == 25
    assert plan_of(vessels, 2).magnification == 2.0
    assert plan_of(organ, "16").tiles > MOST_TILES  # a bound on what is chosen automatically
    (off,), (on,) = plan_of(vessels, "off").notes(), plan_of(organ, "on").notes()
    assert "Tiles are turned off." in off.text
    assert off.remedy is None
    assert on.text == "'a' is segmented in 9 overlapping tiles per slice, 2 times larger, as chosen."
    assert plan_of(organ, "off").notes() == []


def test_of_several_objects_only_the_thin_ones_are_cut():
    vessels = vessel_tree()
    plan = plan_of(support_of(disc(60), vessels, disc(40)))
    assert plan.tiled == (False, True, False)
    assert (plan.in_whole, plan.in_tiles) == ((0, 2), (1,))
    assert "'b' is too thin" in plan.notes()[0].text
    both = plan_of(support_of(vessels, disc(60), vessels))
    assert "'a' and 'c' are too thin" in both.notes()[0].text


def test_tracking_says_that_it_does_not_use_tiles():
    (note,) = plan_of(vessel_support(), "off").notes(tracked=True)
    assert note.text.endswith("Tracking does not use tiles.")
    assert note.remedy.kind == RemedyKind.SEGMENT_IN_TILES
    assert plan_of(support_of(disc(60)), "off").notes(tracked=True) == []


def test_all_supports_decide_together_by_their_pixels():
    organ, tip = disc(60), disc(1)
    pairs = tuple(SupportPair(np.zeros(FUNDUS, np.float32), m[None], (1.0, 1.0), (0.0, 1.0)) for m in (organ, tip, tip))
    assert plan_of(SupportSet(pairs, ("organ",))).tiles == 0
    assert plan_of(SupportSet(pairs[1:], ("organ",))).tiles > 0


def test_a_grid_that_is_not_coarser_than_the_slice_keeps_every_pixel():
    support = vessel_support(shape=(120, 100))
    assert kept_dice(marked(support), 0, SIDE) == 1.0
    assert plan_of(support, shape=(120, 100)).tiles == 0
    assert kept_dice(marked(support), 0, 60) < 1


def test_a_support_that_does_not_show_an_object_says_nothing_about_it():
    masks = np.stack([disc(60), disc(60)])
    with_both = SupportPair(np.zeros(FUNDUS, np.float32), masks, (1.0, 1.0), (0.0, 1.0))
    masks = masks.copy()
    masks[1] = 0
    one = SupportPair(np.zeros(FUNDUS, np.float32), masks, (1.0, 1.0), (0.0, 1.0))
    assert kept_dice(marked(SupportSet((with_both, one), ("a", "b"))), 1, SIDE) > 0.99


def test_the_grid_lies_in_the_letterbox_so_that_pixels_that_are_not_square_count_by_their_mm():
    line = np.zeros((400, 400), np.uint8)
    line[:, 200:204] = 1
    square, flat = (kept_dice(marked(support_of(line, spacing=s)), 0, SIDE) for s in ((1.0, 1.0), (1.0, 0.25)))
    assert flat < square  # the columns share a quarter of the grid


def test_a_coarse_mask_keeps_the_place_of_what_is_large():
    mask = disc(60)
    found = coarse_mask(mask, (1.0, 1.0), SIDE)
    assert np.count_nonzero(found ^ (mask > 0)) < 0.02 * mask.sum()
