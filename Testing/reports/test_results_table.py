"""Tables of what was found and where to look first: the masks' own numbers, and the reasons that were planted."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from frames_cases import a_frames_result
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.reports.results_table import (
    ResultArrays,
    Table,
    arrays_of,
    csv_text,
    doubt_table,
    measure,
    object_table,
    slices_to_look_at,
)
from ProxyPromptSegmentLib.wording import ranges


def findings(areas, confidence=0.95, done=None, names=("gland",), **more):
    """ResultArrays whose masks have so many pixels on each slice: ``areas`` (S,) or (S, N)."""
    areas = np.array(areas).reshape(len(areas), -1)
    masks = (np.arange(400) < areas[..., None]).astype(np.uint8).reshape(*areas.shape, 20, 20)
    sure = np.broadcast_to(np.asarray(confidence, np.float32).reshape(-1, 1), areas.shape).copy()
    presence = np.where(areas > 0, 0.97, 0.02).astype(np.float32)
    known = np.ones(len(areas), bool) if done is None else np.asarray(done, bool)
    return ResultArrays(objects=tuple(names), masks=masks, confidence=sure, presence=presence, done=known, **more)


def reasons(found, **more):
    return {(d.index, d.name): d.reason for d in slices_to_look_at(found, **more)}


SMOOTH = [0, 60, 80, 100, 100, 90, 60, 0]


def test_a_smooth_and_sure_object_has_one_slice_to_look_at_and_nothing_against_it():
    sure = np.full(8, 0.95)
    sure[5] = 0.91
    doubts = slices_to_look_at(findings(SMOOTH, sure))
    assert [(d.index, d.name, d.object_index) for d in doubts] == [(5, "gland", 0)]
    assert doubts[0].reason == "lowest confidence of all slices of 'gland'; nothing else is suspicious"
    assert doubts[0].confidence == doubts[0].sure == pytest.approx(0.91)


def test_the_least_sure_slices_come_first_and_no_more_than_asked_for():
    sure = [0.9, 0.5, 0.9, 0.3, 0.9, 0.6, 0.69, 0.1]
    doubts = slices_to_look_at(findings(SMOOTH, sure))
    assert [d.index for d in doubts] == [7, 3, 1, 5, 6]
    assert doubts[0].reason == "the model is not sure that 'gland' is absent (0.10)"
    assert doubts[1].reason == "the model is not sure of the contour (0.30)"
    assert [d.index for d in slices_to_look_at(findings(SMOOTH, sure), most=2)] == [7, 3]
    assert slices_to_look_at(findings(SMOOTH, sure), most=0) == []


@pytest.mark.parametrize(
    ("areas", "place", "told"),
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
def test_what_the_masks_give_away_is_told(areas, place, told):
    found = reasons(findings(areas))
    assert told in found[(place, "gland")]


@pytest.mark.parametrize(
    "areas",
    [
        [0, 30, 60, 90, 100, 90, 60, 30, 0],  # tapering to both ends
        [100, 100, 90, 60, 30, 0],  # cut by the end of the volume
        [0, 60, 80, 60, 30, 0, 0, 0, 0, 30, 60, 40, 0],  # two parts far apart
        [100],
        [0, 60, 0],
    ],
)
def test_ordinary_shapes_raise_no_suspicion(areas):
    alone = areas == [0, 60, 0]
    doubts = slices_to_look_at(findings(areas))
    assert len(doubts) == 1
    assert ("only on this slice" in doubts[0].reason) == alone


def test_slices_that_were_not_computed_say_nothing():
    areas, done = [60, 0, 80, 0, 90, 0, 60], [1, 0, 1, 0, 1, 0, 1]
    found = reasons(findings(areas, done=done))
    assert list(found.values()) == ["lowest confidence of all slices of 'gland'; nothing else is suspicious"]
    assert slices_to_look_at(findings(areas, done=[0] * 7)) == []


def test_several_reasons_are_one_entry_and_make_it_less_sure():
    sure = np.full(7, 0.9)
    sure[3] = 0.6
    agreement = np.full((7, 1), np.nan, np.float32)
    agreement[3], agreement[1] = 0.2, 0.4
    doubts = slices_to_look_at(findings([0, 60, 80, 200, 80, 60, 0], sure, agreement=agreement))
    assert [d.index for d in doubts] == [3, 1]
    assert doubts[0].reason.split("; ") == [
        "the model is not sure of the contour (0.60)",
        "proxy prompt and memory disagree (agreement 0.20)",
        "its area jumps: 200 pixels here, 80 pixels and 80 pixels on its neighbours",
    ]
    assert doubts[0].sure == pytest.approx(0.6 * 0.2 / 2.5) and doubts[0].confidence == pytest.approx(0.6)


def test_an_object_that_was_not_found_points_to_where_it_would_be():
    found = findings([[0, 60], [0, 80], [0, 60]], names=("stone", "gland"))
    found.presence[1, 0] = 0.31
    assert reasons(found)[(1, "stone")] == (
        "'stone' was not found; if present at all, most likely on this slice (presence 0.31)"
    )


def test_areas_are_in_millimetres_where_they_are_known():
    assert "400 mm² here, 160 mm²" in reasons(findings([0, 60, 80, 200, 80, 60, 0], pixel_mm2=2.0))[(3, "gland")]


def test_the_table_of_objects_counts_what_the_masks_hold():
    sure = [0.9, 0.8, 0.7, 0.75, 0.9]
    found = findings([[0, 5], [10, 0], [20, 0], [0, 0], [30, 0]], sure, names=("gland", "stone"), voxel_mm3=2.0)
    table = object_table(found)
    assert table.columns[:5] == ("Object", "Volume", "Voxels", "Slices", "Found on")
    assert table.units[1] == "ml"
    assert table.rows == [
        ["gland", 0.12, 60, 3, "1-2, 4", pytest.approx(0.7), 2, ""],
        ["stone", 0.01, 5, 1, "0", pytest.approx(0.9), 0, ""],
    ]
    assert all(type(value) in (str, int, float) for row in table.rows for value in row)
    assert table.as_dicts()[1]["Voxels"] == 5
    assert measure(found, 0, least=2).least == [(2, pytest.approx(0.7)), (1, pytest.approx(0.8))]


def test_nothing_found_leaves_cells_empty():
    row = object_table(findings([0, 0]), None).rows[0]
    assert row == ["gland", None, 0, 0, "", None, None, None]
    assert csv_text(object_table(findings([0, 0]))).splitlines()[1] == "gland,,0,0,,,,"


def test_frames_have_areas_instead_of_a_volume():
    masks = findings([0, 10, 30]).masks
    result = a_frames_result(("vessel",), masks, agreement=[[np.nan], [0.1], [1]])
    found = arrays_of(result, spacing_mm=(0.5, 0.5))
    assert object_table(found).as_dicts()[0] == {
        "Object": "vessel",
        "Frames": 2,
        "Found on": "1-2",
        "Smallest": 10,
        "Largest": 30,
        "Smallest area": 2.5,
        "Largest area": 7.5,
        "Lowest confidence": pytest.approx(0.9),
        "On frame": 1,
    }
    assert object_table(result).rows[0][5] is None
    doubts = slices_to_look_at(result)
    assert doubts[0].reason == "proxy prompt and memory disagree (agreement 0.10)"
    assert doubt_table(doubts, frames=True).columns[0] == "Frame"


def test_csv_text_is_read_back_as_it_was_written():
    found = findings([[0, 5], [10, 0]], names=('gland, "left"', "Blase\nä"), voxel_mm3=1.0)
    rows = list(csv.reader(StringIO(csv_text(object_table(found)))))
    assert rows[0][1] == "Volume [ml]" and rows[1][0] == 'gland, "left"' and rows[2][0] == "Blase\nä"
    doubts = slices_to_look_at(found)
    rows = list(csv.reader(StringIO(csv_text(doubt_table(doubts)))))
    assert [row[0] for row in rows[1:]] == [str(d.index) for d in doubts]


def test_ranges_are_short():
    assert ranges([9, 3, 4, 5]) == "3-5, 9"
    assert ranges([]) == ""


def test_an_outcome_of_the_engine_gives_the_same_numbers_as_the_report():
    pytest.importorskip("torch")
    from command_cases import GRID, InContextModel, a_case
    from plain_run import run
    from ProxyPromptSegmentLib.inference.job import plan
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.reports.report import describe_object
    from ProxyPromptSegmentLib.support.case import SupportCase

    job = plan([SupportCase(*a_case(1))], a_case(2)[0])
    result = run(Segmenter(InContextModel(), "cpu", across_slices=False), job)
    table = object_table(result, job).as_dicts()
    truth = a_case(2)[1].segments[0].mask
    assert table[0]["Object"] == "gland" and table[0]["Voxels"] == truth.sum()
    assert table[0]["Volume"] == pytest.approx(truth.sum() * np.prod(GRID.spacing_mm) / 1000, abs=1e-3)
    described = describe_object(job, result, 0, 1)
    assert (described["voxels"], described["volume_ml"]) == (table[0]["Voxels"], table[0]["Volume"])
    assert described["lowest_confidence"][0]["slice"] == table[0]["On slice"]
    assert arrays_of(result, job).pixel_mm2 == pytest.approx(0.81)
    assert slices_to_look_at(result, job=job)[0].name in ("gland", "stone")


def test_the_brief_table_keeps_what_a_panel_has_room_for():
    table = Table(("Object", "Volume", "Voxels", "On slice"), ("", "ml", "", ""), [["a", 1.5, 300, 4]])
    assert table.brief() == Table(("Object", "Volume"), ("", "ml"), [["a", 1.5]])


def test_slices_are_named_with_their_position():
    names = SliceNames("S", -9.0, 3.0)
    found = replace(findings([0, 60, 80, 0, 80, 60, 0], voxel_mm3=2.0), names=names)
    doubt = next(d for d in slices_to_look_at(found) if d.index == 3)
    assert doubt.where == "3 (S 0.0 mm)"
    assert "not found here, but on slices 2 (S -3.0 mm) and 4 (S 3.0 mm)" in doubt.reason
    row = object_table(found).as_dicts()[0]
    assert row["Position"] == names.position(row["On slice"])
