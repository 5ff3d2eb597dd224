"""Confidence, missed slices and calibration, as they can be worked out by hand."""

from __future__ import annotations

import math

import pytest

from ProxyPromptSegmentLib.evaluation.broad.confidence import calibration, gaps, judged, ranking, spearman
from ProxyPromptSegmentLib.evaluation.broad.confidence_table import confidence_markdown, confidence_rows
from ProxyPromptSegmentLib.evaluation.broad.records import Record, Scores


def a_record(case: str = "one", dataset: str = "set", measure: str = "in context", condition: str = "", **slices):
    return Record(
        measure=measure,
        condition=condition,
        dataset=dataset,
        object="organ",
        supports=4,
        case=case,
        patient=case,
        score=0.5,
        slices=slices,
    )


def test_the_rank_correlation_sees_order_alone_and_shares_ranks_of_ties():
    assert spearman([0.1, 0.2, 0.9], [5, 6, 700]) == pytest.approx(1)
    assert spearman([0.1, 0.2, 0.9], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9487, abs=1e-4)
    assert math.isnan(spearman([1, 1], [1, 2])) and math.isnan(spearman([], []))


def test_ranking_is_over_slices_with_an_interval_over_cases():
    records = [
        a_record("a", confidence=[0.9, 0.5], dice=[0.8, 0.4], drawn=[1, 1]),
        a_record("b", confidence=[0.7, 0.1], dice=[0.6, 0.0], drawn=[1, 0]),
        a_record("c", confidence=[0.3, 0.99], dice=[0.2, 0.1], drawn=[1, 0]),
        a_record("d", drawn=[1], dice=[0.3]),
    ]
    found = ranking(records)
    assert found.count == 6 and found.low < found.correlation < found.high and found.correlation < 0.9
    drawn = ranking(records, drawn_only=True)
    assert (drawn.correlation, drawn.count) == (pytest.approx(1), 4)
    assert math.isnan(ranking([]).correlation)


def test_missed_ends_and_slices_between_drawn_ones_are_counted():
    volume = a_record(truth=[0, 1, 1, 1, 1, 1, 0], drawn=[1, 1, 1, 0, 1, 0, 0])
    other = a_record(truth=[0, 1, 1, 1, 0], drawn=[1, 0, 0, 0, 0])
    image = a_record(truth=[1], drawn=[0])
    nothing = a_record(truth=[0, 0], drawn=[1, 1])
    found = gaps([volume, other, image, nothing])
    # Of the first, slice 5 is missed behind the last drawn one, and 3 between two; of the other all are missed.
    assert (found.ends, found.ends_missed) == (4, 3 / 4)
    assert (found.gaps, found.missed, found.shown) == (1, 2 + 3 + 1, 5 + 3 + 1)
    assert math.isnan(gaps([image]).ends_missed)


def test_calibration_compares_presence_with_the_share_of_slices_that_show_the_object():
    records = [a_record(presence=[0.95, 0.95, 0.95, 1.0], truth=[1, 1, 0, 1]), a_record(presence=[0.15], truth=[0])]
    error, bins = calibration(records)
    assert [(b.low, b.count, round(b.presence, 4), b.shown) for b in bins] == [
        (0.1, 1, 0.15, 0),
        (0.9, 4, 0.9625, 0.75),
    ]
    assert error == pytest.approx((0.15 + 4 * 0.2125) / 5)
    assert math.isnan(calibration([a_record(truth=[1])])[0])


def test_only_the_models_own_records_are_judged_and_other_organs_count_for_presence():
    slices = {"confidence": [0.9, 0.2], "dice": [0.8, 0.1], "drawn": [1, 1], "truth": [1, 1], "presence": [0.9, 0.8]}
    foreign = a_record(
        measure="nothing drawn", condition="support of another organ", truth=[0], drawn=[0], presence=[0.25]
    )
    records = [a_record("a", **slices), a_record("b", "other", **slices), foreign, a_record("x", measure="prompt")]
    context, others = judged(records, 4)
    assert [record.case for record in context] == ["a", "b"] and others == [foreign]
    scores = Scores(facts={"model": "made"}, records=records)
    rows = confidence_rows(scores, 4)
    assert [(row["dataset"], row["slices"], row["spearman"], row["missed"]) for row in rows] == [
        ("set", 2, 1.0, 0),
        ("other", 2, 1.0, 0),
    ]
    text = confidence_markdown(scores, 4)
    assert "### Confidence: made" in text and "| 0.2 to 0.3 | 1 | 0.250 | 0.000 |" in text
    assert "| set | 2 | 1.000 [1.000, 1.000] | 1.000 | 0.000 | 0 | 0/2 | 0.150 |" in text
    assert confidence_markdown(scores, 8) == ""
