"""Tables of what was found and where to look first: the masks' own numbers, and the reasons that were planted."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from frames_cases import a_frames_result
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.reports.doubts import doubt_table, slices_to_look_at
from ProxyPromptSegmentLib.reports.results_table import (
    Table,
    arrays_of,
    csv_text,
    measure,
    object_table,
)
from ProxyPromptSegmentLib.wording import ranges
from result_cases import findings


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
    doubts = slices_to_look_at(found, threshold=0.96)
    assert doubts
    rows = list(csv.reader(StringIO(csv_text(doubt_table(doubts)))))
    assert [row[0] for row in rows[1:]] == [str(d.index) for d in doubts]


def test_slices_are_named_with_their_position():
    names = SliceNames("S", -9.0, 3.0)
    found = replace(findings([0, 60, 80, 0, 80, 60, 0], voxel_mm3=2.0), names=names)
    row = object_table(found).as_dicts()[0]
    assert row["Position"] == names.position(row["On slice"])


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
    assert slices_to_look_at(result, job=job, threshold=1.01)[0].name in ("gland", "stone")


def test_the_brief_table_keeps_what_a_panel_has_room_for():
    table = Table(("Object", "Volume", "Voxels", "On slice"), ("", "ml", "", ""), [["a", 1.5, 300, 4]])
    assert table.brief() == Table(("Object", "Volume"), ("", "ml"), [["a", 1.5]])
