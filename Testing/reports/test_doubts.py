"""The slices to review first: how many, in which order, and for which reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.reports.doubts import DOUBTFUL, MOST, doubt_table, judged, slices_to_look_at
from ProxyPromptSegmentLib.reports.results_table import csv_text
from result_cases import SMOOTH, findings


def reasons(found, **more):
    """The reasons of the doubts that a high threshold lists."""
    listed = slices_to_look_at(found, **{"most": 100, "threshold": 0.94, **more})
    return {(d.index, d.name): d.reason for d in listed}


def test_a_smooth_and_sure_object_has_no_slice_to_look_at():
    sure = np.full(8, 0.95)
    sure[5] = DOUBTFUL + 0.01
    assert slices_to_look_at(findings(SMOOTH, sure)) == []


def test_the_least_sure_slices_come_first_and_no_more_than_asked_for():
    sure = np.array([1.0, 0.8, 1.0, 0.6, 1.0, 0.9, 0.99, 0.4]) * DOUBTFUL
    doubts = slices_to_look_at(findings(SMOOTH, sure))
    assert [d.index for d in doubts] == [7, 3, 1, 5, 6]
    assert doubts[0].reason == f"the model is not sure that 'gland' is absent ({0.4 * DOUBTFUL:.2f})"
    assert doubts[1].reason == f"the model is not sure of the contour ({0.6 * DOUBTFUL:.2f})"
    assert [d.index for d in slices_to_look_at(findings(SMOOTH, sure), most=2)] == [7, 3]
    assert slices_to_look_at(findings(SMOOTH, sure), most=0) == []


def test_a_case_has_at_most_a_handful_however_many_objects_it_has():
    areas = np.tile(np.array(SMOOTH)[:, None], 4)
    doubts = slices_to_look_at(findings(areas, np.full(8, 0.1), names=("a", "b", "c", "d")))
    assert len(doubts) == MOST <= 6


def test_the_threshold_can_be_chosen():
    sure = np.full(8, 0.95)
    sure[[2, 5]] = 0.8, 0.5
    assert [d.index for d in slices_to_look_at(findings(SMOOTH, sure), threshold=0.81)] == [5, 2]
    assert [d.index for d in slices_to_look_at(findings(SMOOTH, sure), threshold=0.51)] == [5]


@pytest.mark.parametrize(
    ("areas", "place", "said"),
    [
        ([0, 60, 80, 0, 80, 60, 0], 3, "not found here, but on slices 2 and 4"),
        ([0, 60, 0, 0, 0, 60, 0], 2, "not found here, but on slices 1 and 5"),
        ([0, 0, 0, 60, 0, 0, 0], 3, "found only on this slice"),
        ([0, 60, 80, 60, 0, 0, 0, 9, 0], 7, "not found on the neighbouring slices"),
        ([0, 60, 80, 200, 80, 60, 0], 3, "its area jumps: 200 pixels here, 80 pixels and 80 pixels on its neighbours"),
        ([0, 60, 80, 30, 90, 60, 0], 3, "its area jumps: 30 pixels here, 80 pixels and 90 pixels on its neighbours"),
        ([0, 0, 90, 100, 100, 60, 30, 0], 2, "it ends abruptly: nothing on slice 1"),
    ],
)
def test_what_the_masks_give_away_is_said(areas, place, said):
    found = reasons(findings(areas))
    assert said in found[(place, "gland")]


@pytest.mark.parametrize(
    "areas",
    [
        [0, 30, 60, 90, 100, 90, 60, 30, 0],  # tapering to both ends
        [100, 100, 90, 60, 30, 0],  # cut by the end of the volume
        [0, 60, 80, 60, 30, 0, 0, 0, 0, 30, 60, 40, 0],  # two parts far apart
        [100],
    ],
)
def test_ordinary_shapes_raise_no_suspicion(areas):
    assert slices_to_look_at(findings(areas)) == []


def test_slices_that_were_not_computed_say_nothing():
    areas, done = [60, 0, 80, 0, 90, 0, 60], [1, 0, 1, 0, 1, 0, 1]
    assert reasons(findings(areas, done=done)) == {}
    assert slices_to_look_at(findings(areas, 0.1, done=[0] * 7)) == []
    assert [one.doubt.index for one in judged(findings(areas, done=done))] == [0, 2, 4, 6]


def test_several_reasons_are_one_entry_and_make_it_less_sure():
    sure = np.full(7, 0.9)
    sure[3] = 0.5
    agreement = np.full((7, 1), np.nan, np.float32)
    agreement[3], agreement[1] = 0.2, 0.4
    found = findings([0, 60, 80, 200, 80, 60, 0], sure, agreement=agreement)
    doubts = slices_to_look_at(found, threshold=0.6)
    assert [d.index for d in doubts] == [3, 1]
    assert doubts[0].reason.split("; ") == [
        "the model is not sure of the contour (0.50)",
        "proxy prompt and memory disagree (agreement 0.20)",
        "its area jumps: 200 pixels here, 80 pixels and 80 pixels on its neighbours",
    ]
    assert doubts[0].sure == pytest.approx(0.5 * 0.2 / 2.5) and doubts[0].confidence == pytest.approx(0.5)


def test_an_object_that_was_not_found_points_to_where_it_would_be_whatever_the_threshold():
    found = findings([[0, 60], [0, 80], [0, 60]], names=("stone", "gland"))
    found.presence[1, 0] = 0.31
    said = "'stone' was not found; if present at all, most likely on this slice (presence 0.31)"
    assert reasons(found)[(1, "stone")] == reasons(found, threshold=0.0)[(1, "stone")] == said


def test_areas_are_in_millimetres_where_they_are_known():
    assert "400 mm² here, 160 mm²" in reasons(findings([0, 60, 80, 200, 80, 60, 0], pixel_mm2=2.0))[(3, "gland")]


def test_slices_are_named_with_their_position():
    names = SliceNames("S", -9.0, 3.0)
    found = replace(findings([0, 60, 80, 0, 80, 60, 0], voxel_mm3=2.0), names=names)
    doubt = next(d for d in slices_to_look_at(found, threshold=0.94) if d.index == 3)
    assert doubt.where == "3 (S 0.0 mm)"
    assert "not found here, but on slices 2 (S -3.0 mm) and 4 (S 3.0 mm)" in doubt.reason


def test_the_table_of_doubts_has_a_row_for_each():
    doubts = slices_to_look_at(findings(SMOOTH, 0.1))
    rows = csv_text(doubt_table(doubts, frames=True)).splitlines()
    assert rows[0].startswith("Frame,") and [row.split(",")[0] for row in rows[1:]] == [str(d.index) for d in doubts]
