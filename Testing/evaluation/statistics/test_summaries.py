"""Scores, their summaries by patient, paired tests and tables, against numbers that can be worked out by hand."""

from __future__ import annotations

import csv
import io
import itertools
import json

import numpy as np
import pytest

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.statistics.measuring import scores_of
from ProxyPromptSegmentLib.evaluation.statistics.paired import compare, holm, paired
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.summaries import ALL_OBJECTS, by_patient, lines_of
from ProxyPromptSegmentLib.evaluation.statistics.tables import table_of, to_csv, to_dict, to_markdown


def a_score(system: str = "ours", patient: str = "p1", dice: float = 0.5, **more) -> Score:
    wanted = {"table": "T", "dataset": "set", "object": "organ", "case": patient, "iou": dice / (2 - dice)}
    return Score(**{**wanted, **more}, system=system, patient=patient, dice=dice)


def test_a_mask_is_scored_object_by_object():
    masks = np.zeros((2, 2, 8, 8), np.uint8)
    masks[:, 0, 2:6, 2:6] = 1
    masks[:, 1, :2] = 1
    case = Case(
        dataset="set",
        patient="p",
        images=np.zeros((2, 8, 8), np.float32),
        masks=masks,
        objects=("a", "b"),
        spacing_mm=(2.0, 0.5, 0.5),
        name="one",
    )
    drawn = masks.copy()
    drawn[:, 0, 2:4] = 0
    drawn[:, 1] = 0
    first, second = scores_of(drawn, case, table="T", system="s", draw=2, seconds=1.23456, confidence=(0.7, None))
    assert (first.object, first.patient, first.case, first.draw, first.unit) == ("a", "p", "one", 2, "mm")
    assert first.dice == pytest.approx(2 / 3, abs=1e-6) and first.iou == pytest.approx(1 / 2, abs=1e-6)
    assert first.hd95 == pytest.approx(1.0) and first.surface == 1 and first.confidence == 0.7
    assert first.seconds == 1.235
    assert (second.dice, second.iou, second.hd95, second.surface, second.confidence) == (0, 0, None, 0, None)
    with pytest.raises(InputError, match=r"s drew masks of shape \(2, 1, 8, 8\) on one"):
        scores_of(drawn[:, :1], case, table="T", system="s")
    with pytest.raises(InputError, match="0 to 1"):
        scores_of(drawn, case, table="T", system="s", confidence=(7, 0.5))


def test_draws_and_cases_are_averaged_before_patients_are_counted():
    scores = [
        a_score(patient="p1", case="a", draw=0, dice=0.2),
        a_score(patient="p1", case="a", draw=1, dice=0.4),
        a_score(patient="p1", case="b", dice=0.9),
        a_score(patient="p2", dice=0.8, hd95=3.0),
    ]
    assert by_patient(scores) == pytest.approx({"p1": (0.3 + 0.9) / 2, "p2": 0.8})
    (line,) = lines_of(scores)
    summary = line.summary()
    assert summary is not None and (summary.count, summary.missing) == (2, 0)
    assert summary.mean == pytest.approx(0.7) and summary.sd == pytest.approx(0.1), "of the population"
    assert (summary.low, summary.high) == pytest.approx((0.6, 0.8))
    (distance,) = lines_of(scores, "hd95")
    found = distance.summary()
    assert found is not None and (found.mean, found.count, found.missing) == (3.0, 1, 1)
    assert lines_of([a_score()], "hd95")[0].summary() is None


def test_the_mean_of_all_objects_is_over_patients_who_have_all_of_them():
    scores = [
        a_score(patient="p1", dice=0.2),
        a_score(patient="p1", object="other", dice=0.6),
        a_score(patient="p2", dice=0.9),
        a_score(dataset="single", dice=0.1),
    ]
    lines = lines_of(scores)
    assert [(line.dataset, line.object) for line in lines] == [
        ("set", "organ"),
        ("set", "other"),
        ("set", ALL_OBJECTS),
        ("single", "organ"),
    ]
    assert lines[2].patients == pytest.approx({"p1": 0.4}) and lines[2].undefined == 1


def test_distances_in_two_units_are_never_averaged():
    scores = [a_score(patient="p1", hd95=1.0, unit="mm"), a_score(patient="p2", hd95=1.0, unit="px")]
    assert lines_of(scores)[0].summary() is not None
    with pytest.raises(InputError, match="partly in mm and partly in px"):
        lines_of(scores, "hd95")
    with pytest.raises(InputError, match="choose one of dice"):
        lines_of(scores, "volume")


@pytest.mark.parametrize("count", [3, 6, 9])
def test_few_patients_are_tested_exactly_by_all_signs(count: int):
    rng = np.random.default_rng(count)
    gains = np.round(rng.normal(0.1, 0.1, count), 2)
    one = {f"p{n}": 0.5 + gain for n, gain in enumerate(gains)}
    found = paired(one, dict.fromkeys(one, 0.5))
    order = np.abs(gains)
    ranks = np.array([np.mean(np.flatnonzero(np.sort(order) == value)) + 1 for value in order])[gains != 0]
    seen = abs(float(ranks @ np.sign(gains[gains != 0])))
    sums = [abs(float(ranks @ np.array(signs))) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    assert found is not None and found.count == count
    assert found.p == pytest.approx(np.mean([total >= seen - 1e-9 for total in sums]))
    assert found.mean == pytest.approx(gains.mean())


def test_many_patients_are_tested_as_scipy_does():
    stats = pytest.importorskip("scipy.stats")
    gains = np.random.default_rng(5).normal(0.02, 0.1, 30)
    one = {f"p{n:02d}": 0.5 + gain for n, gain in enumerate(gains)}
    found = paired(one, dict.fromkeys(one, 0.5))
    assert found is not None and found.p == pytest.approx(float(stats.wilcoxon(gains).pvalue), abs=1e-6)


def test_three_patients_never_show_a_difference_and_six_just_can():
    def p_of(count: int) -> float:
        found = paired({f"p{n}": 1.0 for n in range(count)}, {f"p{n}": 0.1 + n / 100 for n in range(count)})
        assert found is not None
        return found.p

    assert (p_of(3), p_of(5), p_of(6)) == (0.25, 0.0625, 0.03125)
    same = paired({"a": 0.3, "b": 0.4}, {"b": 0.4, "a": 0.1 + 0.2})
    assert same is not None and (same.p, same.mean) == (1.0, pytest.approx(0)), "rounding is no difference"
    assert paired({"a": 1.0}, {"b": 1.0}) is None


def test_holm_steps_down_and_never_lets_a_larger_p_pass_a_smaller_one():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == []


def a_table() -> list[Score]:
    return [
        a_score(system, f"p{n}", value + n / 100, hd95=None if n == 0 else 2.0, unit="mm", seconds=1.5)
        for system, value in (("ours", 0.8), ("theirs", 0.6), ("a | b", 0.7))
        for n in range(6)
    ]


def test_tables_compare_by_patient_and_correct_for_their_number():
    rows = table_of(a_table(), "ours")
    assert [row.system for row in rows] == ["ours", "theirs", "a | b"]
    assert rows[0].comparison is None and rows[1].comparison is not None
    assert rows[1].comparison.paired.mean == pytest.approx(0.2)
    assert rows[1].comparison.paired.p == 0.03125 and rows[1].comparison.holm == 0.0625
    assert len(compare(lines_of(a_table()), "ours")) == 2 and compare(lines_of(a_table()), "nobody") == []


def test_a_table_is_the_same_as_markdown_csv_and_json():
    rows = table_of(a_table(), "ours")
    text = to_markdown(rows, "ours")
    assert "| set | organ | ours | 6 | 0.825 ± 0.017 [" in text and "HD95 [mm]" in text and "a \\| b" in text
    assert "2.0 ± 0.0 [2.0, 2.0] (of 5)" in text and "+0.200 [+0.200, +0.200] | 0.062 |" in text
    assert "tolerance 2 mm" in text and "Holm" in text
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert len(read) == 3 * 5 and read[0]["mean"] == "0.825" and read[2]["undefined"] == "1"
    assert read[5]["reference_minus_this"] == "0.2" and read[5]["p_holm"] == "0.0625"
    values = json.loads(json.dumps(to_dict(rows), allow_nan=False))
    assert values[1]["reference_minus_this"]["p"] == 0.03125 and values[0]["hd95"]["missing"] == 1
    assert to_markdown(table_of([a_score()])).count("Dice of") == 0
