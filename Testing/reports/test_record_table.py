"""A run record as a table: every fact is a row in words."""

from __future__ import annotations

from ProxyPromptSegmentLib.reports.record_table import record_table

RECORD = {
    "program": "proxyprompt",
    "state": "complete",
    "nothing_found": False,
    "model": {"name": "sam-compact", "sha256": "ab" * 32},
    "inputs": {"supports": [{"axis": "k", "slices": [{"slice": 3, "objects": ["prostate"]}]}], "target": {"axis": "k"}},
    "objects": [{"name": "prostate", "volume_ml": 35.8123456789, "slices_found": [4, 6, 7, 8]}],
    "notes": ["One.", "Two."],
    "memory": [],
    "settings": {"objects": None, "fill_gaps": True},
}


def test_each_fact_is_a_row_and_what_is_read_most_comes_first():
    table = record_table(RECORD)
    rows = dict(table.rows)
    assert table.columns == ("What", "Value")
    assert table.rows[0] == ["State", "complete"]
    assert rows["Model: name"] == "sam-compact"
    assert rows["Structure prostate: volume ml"] == "35.8123"
    assert rows["Structure prostate: slices found"] == "4, 6-8"
    assert rows["Input: support 1: slices 1: structure"] == "prostate"
    assert rows["Note"] == "One.; Two."
    assert rows["Steps because of memory"] == "none"
    assert rows["Setting: fill gaps"] == "yes"


def test_nothing_is_left_out():
    told = " ".join(str(cell) for row in record_table(RECORD).rows for cell in row)
    for word in ("proxyprompt", "ab" * 32, "prostate", "no"):
        assert word in told
