"""The protocols: every table and figure is there, with the figures that the paper prints."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.paper.catalogue import is_protocol, measured_as, protocol_of, protocols
from ProxyPromptSegmentLib.evaluation.paper.columns import CUP, DISC, FIVE, PROSTATE
from ProxyPromptSegmentLib.evaluation.paper.listing import listing
from ProxyPromptSegmentLib.evaluation.paper.protocol import AVERAGE


def test_all_tables_and_figures_of_proxy_prompt_and_the_tables_of_the_other_papers_are_there():
    ids = [one.id for one in protocols()]
    assert len(set(ids)) == len(ids)
    assert set(ids) >= {f"T{n}" for n in range(1, 15)} | {f"F{n}" for n in range(4, 14)}
    assert {one.paper for one in protocols()} == {"Proxy Prompt", "AutoSAM", "AutoMedSAM"}


def test_rows_have_distinct_titles_and_say_why_they_are_not_run():
    for one in protocols():
        titles = [row.title for row in one.rows]
        assert len(set(titles)) == len(titles), one.id
        if one.rows and one.run_rows:
            assert all(row.system or row.note == "as published, not run here" for row in one.rows), one.id


@pytest.mark.parametrize(
    ("table", "row", "column", "figure"),
    [
        ("T1", "Proxy Prompt", DISC, 88.0),
        ("T1", "MedSAM (box)", "fetal head", 97.5),
        ("T2", "MLB-Seg", PROSTATE, 78.3),
        ("T3", "Medical SAM 2 (support as template)", AVERAGE, 63.3),
        ("T7", "empty", AVERAGE, 47.9),
        ("T9", "strategy 3: all data sets", "vessel", 74.2),
        ("T12", "without either", CUP, 83.7),
        ("T13", "ResNet", AVERAGE, 83.9),
        ("T14", "MedSAM, proxy prompt", DISC, 94.3),
    ],
)
def test_figures_are_those_of_the_paper(table, row, column, figure):
    found = next(one for one in protocol_of(table).rows if one.title == row)
    assert found.published[column] == figure


def test_averages_of_five_objects_are_those_of_their_figures():
    for one in protocols():
        for row in one.rows:
            if set(FIVE) <= set(row.published) and row.published[AVERAGE] != 74.5:  # MedSAM: the paper's own slip
                mean = sum(row.published[name] for name in FIVE) / len(FIVE)
                assert mean == pytest.approx(row.published[AVERAGE], abs=0.16), (one.id, row.title)


def test_another_view_is_measured_in_the_place_of_its_table_and_ids_are_read_in_either_case():
    assert measured_as(protocol_of("t10")).id == "T3" and measured_as(protocol_of("F6")).id == "F13"
    assert is_protocol("f12") and not is_protocol("promise12")
    for one in protocols():
        assert not measured_as(one).same_as
    with pytest.raises(UsageError, match="there is no table or figure 'T15'; choose one of T1, T2"):
        protocol_of("T15")


def test_the_list_says_what_is_missing(tmp_path):
    text = listing(tmp_path)
    assert "| T2 | Proxy Prompt |" in text and "PROMISE12 or promise12: missing" in text
    assert "58 slices of 3 patients" in text and "2 to 16 images" in text
    assert "missing" not in listing(None)
