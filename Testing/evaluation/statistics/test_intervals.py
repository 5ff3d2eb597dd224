"""An interval is shown from three patients on, in every table and in the answer on own cases."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.evaluation.statistics.intervals import brackets, ends, interval_text, with_interval
from ProxyPromptSegmentLib.evaluation.statistics.paired import paired
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.tables import table_of, to_csv, to_dict, to_markdown
from ProxyPromptSegmentLib.imaging.metrics import summarize


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_patients_have_no_interval(count: int) -> None:
    found = summarize([0.25, 0.75][:count])
    assert ends(found) is None and brackets(found) == f"[n = {count}]" and interval_text(ends(found)) == "-"
    assert with_interval(found, ".1f") == f"{found.mean:.1f} [n = {count}]"


def test_three_patients_have_one_of_scores_and_of_differences() -> None:
    found = summarize([0.2, 0.4, 0.9])
    assert ends(found) == [0.2, 0.9] and with_interval(found) == "0.500 [0.200, 0.900]"
    apart = paired({"a": 0.3, "b": 0.5, "c": 0.9}, {"a": 0.2, "b": 0.2, "c": 0.2})
    assert apart is not None and with_interval(apart, "+.1f") == "+0.4 [+0.1, +0.7]"


def test_tables_of_two_patients_show_and_store_no_interval() -> None:
    scores = [
        Score(table="T", system=system, dataset="d", object="o", patient=patient, case=patient, dice=dice, iou=dice)
        for system, dices in (("one", (0.25, 0.75)), ("other", (0.2, 0.6)))
        for patient, dice in zip("ab", dices, strict=True)
    ]
    rows = table_of(scores, reference="one")
    text, values, lines = to_markdown(rows, "one"), to_dict(rows), to_csv(rows).splitlines()
    assert "0.500 ± 0.250 [n = 2]" in text and "+0.100 [n = 2]" in text and "[0.2" not in text
    assert values[0]["dice"]["mean"] == 0.5 and values[0]["dice"]["low"] is values[0]["dice"]["high"] is None
    assert values[1]["reference_minus_this"]["low"] is None
    cells = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert [key for key, value in cells.items() if value == "0.25"] == ["sd"], cells
