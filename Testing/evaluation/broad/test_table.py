"""The table: means over patients with intervals, models side by side, and the score for choosing."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.evaluation.broad.records import Record, Scores
from ProxyPromptSegmentLib.evaluation.broad.rows import (
    EACH_SET,
    HALVES_AND_CORE,
    SHARE,
    SMALL_SETS,
    difference,
    rows_of,
)
from ProxyPromptSegmentLib.evaluation.broad.table import choice_score, table_dict, to_markdown


def records(dataset: str, scores: dict[str, list[float]], **more) -> list[Record]:
    """Records of patients, one for each of their scores."""
    fields = {"measure": "in context", "object": "organ", "supports": 4, **more}
    return [
        Record(dataset=dataset, case=f"{patient}{n}", patient=patient, score=score, **fields)
        for patient, found in scores.items()
        for n, score in enumerate(found)
    ]


def a_model(name: str, sha256: str, gain: float = 0.0) -> Scores:
    one = {"a": [0.6 + gain, 0.8 + gain], "b": [0.5 + gain], "c": [0.6 + gain]}
    found = records("promise12", one)
    found += records("toy", {"a": [0.2]}, object="cell") + records("toy", {"a": [0.4]}, object="core")
    found += records("toy", {"a": [0.9]}, object="cell", supports=8)
    for condition, score in (("whole", 0.9), ("left half", 0.5), ("core", 0.7)):
        found += records("promise12", {"a": [score], "b": [score]}, measure="mask followed", condition=condition)
    return Scores(facts={"model": name, "sha256": sha256}, records=found)


def test_a_patient_counts_once_however_many_images_he_has():
    rows = rows_of(a_model("made", "ab"))
    row = rows["in context", "promise12", "organ", "", "model", 4]
    assert row.patients() == pytest.approx({"a": 0.7, "b": 0.5, "c": 0.6})
    summary = row.summary()
    assert (summary.mean, summary.count) == (pytest.approx(0.6), 3) and 0.5 <= summary.low < 0.6 < summary.high <= 0.7


def test_halves_and_core_have_a_row_of_their_own_without_the_whole_mask():
    row = rows_of(a_model("made", "ab"))["mask followed", "promise12", "organ", HALVES_AND_CORE, "model", 4]
    assert row.patients() == pytest.approx({"a": 0.6, "b": 0.6})


def test_the_score_for_choosing_counts_every_set_once():
    score = choice_score(a_model("made", "ab"))
    assert score["sets"] == {"promise12": 0.6, "toy": 0.3} and score["supports"] == 4
    assert (score["choice"], score["first sets"], score["small sets"]) == (0.45, 0.6, 0.3)
    assert score["mask followed"] == 0.6 and choice_score(a_model("made", "ab"), 8)["sets"] == {"toy": 0.9}
    nothing = choice_score(Scores(facts={}))
    assert nothing["choice"] is None and nothing["sets"] == {}


def test_small_sets_have_a_row_in_which_each_set_counts_once():
    made = a_model("made", "ab")
    made.records += records("other", {"a": [0.5], "b": [0.7]}) + records("other", {"a": [0.1]}, method="copied")
    rows = rows_of(made)
    row = rows["in context", SMALL_SETS, EACH_SET, "", "model", 4]
    assert row.patients() == pytest.approx({"toy": 0.3, "other": 0.6}) and row.summary().count == 2
    assert rows["in context", SMALL_SETS, EACH_SET, "", "copied", 4].summary().mean == pytest.approx(0.1)
    assert choice_score(made)["sets"] == {"promise12": 0.6, "toy": 0.3, "other": 0.6}


def test_two_models_are_compared_by_patient():
    before, after = a_model("made", "ab"), a_model("made", "cd", gain=0.1)
    name = ("in context", "promise12", "organ", "", "model", 4)
    gain = difference(rows_of(after)[name], rows_of(before)[name])
    assert gain is not None and (gain.mean, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))
    after.records = [record for record in after.records if record.patient != "c"]
    gain = difference(rows_of(after)[name], rows_of(before)[name])
    back = difference(rows_of(before)[name], rows_of(after)[name])
    assert gain is not None and back is not None and gain.count == back.count == 2, "patients of both"
    assert back.mean == pytest.approx(-0.1)


def test_cases_and_draws_that_only_one_model_has_are_left_out_of_the_comparison():
    before, after = a_model("made", "ab"), a_model("made", "cd", gain=0.1)
    after.records += records("promise12", {"a": [0.0]}, draw=1) + records("promise12", {"b": [0, 0.9]}, draw=2)
    name = ("in context", "promise12", "organ", "", "model", 4)
    gain = difference(rows_of(after)[name], rows_of(before)[name])
    assert gain is not None and gain.mean == pytest.approx(0.1)


def test_the_share_of_the_tokens_is_that_of_the_means():
    whole = records("promise12", {"a": [0.9], "b": [0.1]}, measure="prompt", condition="whole prompt")
    tokens = records("promise12", {"a": [0.45], "b": [0.1]}, measure="prompt", condition="tokens alone")
    rows = rows_of(Scores(facts={}, records=whole + tokens))
    summary = rows["prompt", "promise12", "organ", SHARE, "model", 4].summary()
    assert summary.mean == pytest.approx(0.55) and summary.low == pytest.approx(0.5)
    assert summary.high == pytest.approx(1) and summary.count == 2


def test_the_markdown_has_a_column_for_each_model_and_one_for_their_difference():
    lines = to_markdown([a_model("made", "abcdef1"), a_model("made", "cdefab2", gain=0.1)]).splitlines()
    assert lines[0] == "### In context"
    head = "| set | object | condition | method | K | n | made abcdef | made cdefab | made cdefab minus made abcdef |"
    assert lines[2] == head
    row = next(line for line in lines if line.startswith("| promise12 | organ |  | model | 4 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[5] == "3" and cells[6].startswith("0.600 [0.5") and cells[7].startswith("0.700 [")
    assert cells[8] == "+0.100 [+0.100, +0.100]"
    rows = lines[: lines.index("### Confidence: made")]
    assert {line.count("|") for line in rows if line.startswith("|")} == {10}
    assert lines[-1].startswith("made cdefab: mean over sets 0.500 (first sets 0.700, small sets 0.300), mask followed")
    alone = to_markdown([Scores(facts={"model": "empty"})])
    assert alone.endswith("empty: mean over sets - (first sets -, small sets -), mask followed -; K = 0.\n")


def test_methods_and_numbers_of_supports_of_one_object_stand_together():
    made = a_model("made", "ab")
    made.records += records("promise12", {"a": [0.2]}, supports=8) + records("promise12", {"a": [0.1]}, method="copied")
    made.records += records("promise12", {"a": [0.3]}, supports=1)
    lines = to_markdown([made]).splitlines()
    rows = [line.split(" | ")[3:5] for line in lines if line.startswith("| promise12 | organ |  |")]
    assert rows == [["model", "1"], ["model", "4"], ["copied", "4"], ["model", "8"]]


def test_rows_are_written_for_programs_too():
    table = table_dict(a_model("made", "ab"))
    first = table["rows"][0]
    assert (first["measure"], first["dataset"], first["supports"], first["n"]) == ("in context", "promise12", 4, 3)
    assert first["mean"] == 0.6 and len(first["ci95"]) == 2 and table["choice"]["choice"] == 0.45
