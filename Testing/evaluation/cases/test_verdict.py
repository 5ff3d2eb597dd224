"""The answer on own cases: supports of other patients alone, and words that say no more than the numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ProxyPromptSegmentLib.evaluation.cases.plan import (
    COPIED,
    Candidate,
    CasesPlan,
    OwnCase,
    draw_supports,
    possible_supports,
    system_name,
)
from ProxyPromptSegmentLib.evaluation.cases.verdict import enough_patients, verdict
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume

A, B = Candidate("a"), Candidate("b")


def a_case(name: str, patient: str) -> OwnCase:
    grid = VolumeGeometry((4, 4, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    truth = Segmentation([Segment("organ", np.ones((1, 4, 4), np.uint8))], grid)
    return OwnCase(name, patient, f"digest of {name}", Volume(np.zeros((1, 4, 4), np.float32), grid, name), truth)


def a_plan(patients: int, candidates: tuple[Candidate, ...] = (A,), supports: tuple[int, ...] = (1, 4)) -> CasesPlan:
    cases = tuple(a_case(f"p{n:02d}", f"p{n:02d}") for n in range(patients))
    return CasesPlan(dataset="set", objects=("organ",), cases=cases, candidates=candidates, supports=supports)


def scored(wanted: CasesPlan, means: dict[tuple[str, int], float]) -> list[Score]:
    """Scores whose means are given, spread by up to 0.03; the copied mean mask has 0.5 if nothing is said."""
    return [
        Score(
            table="cases",
            system=name,
            dataset="set",
            object="organ",
            patient=case.patient,
            case=case.name,
            dice=(value := means.get((one.name, k), 0.5) + 0.03 * np.cos(number)),
            iou=value / (2 - value),
        )
        for one, k, name in wanted.systems()
        for number, case in enumerate(wanted.cases)
    ]


def test_systems_are_compared_on_the_patients_that_all_of_them_segmented():
    wanted = a_plan(8)
    hard = "p00"  # could not be segmented with 4 supports, and is segmented badly with one
    scores = [
        replace(score, dice=0.1) if score.patient == hard else score
        for score in scored(wanted, {("a", 1): 0.8, ("a", 4): 0.8})
        if (score.patient, score.system) != (hard, "a, 4 supports")
    ]
    found = verdict(wanted, scores)
    assert (found.supports, found.system) == (1, "a, 1 support")
    assert "on 7 patients" in found.paragraphs[0]


def test_supports_are_of_other_patients_and_fewer_are_the_first_of_more():
    cases = [a_case("a1", "a"), a_case("a2", "a"), a_case("b1", "b"), a_case("b2", "b"), a_case("c", "c")]
    assert possible_supports(cases, (1, 4, 8)) == ((1, 3), 3), "of a or b, three cases are others'"
    for target in cases:
        for draw in range(5):
            three = draw_supports(cases, target, 3, draw, 0)
            assert target.patient not in {case.patient for case in three} and len(set(map(id, three))) == 3
            assert draw_supports(cases, target, 1, draw, 0) == three[:1]
            two = draw_supports(cases, target, 2, draw, 0)
            assert len({case.patient for case in two}) == 2, "each patient once before any twice"
            assert two == draw_supports(cases, target, 2, draw, 0)
    firsts = {draw_supports(cases, cases[4], 1, draw, seed)[0].name for draw in range(9) for seed in range(3)}
    assert firsts == {"a1", "a2", "b1", "b2"}
    assert system_name(COPIED, 1) == "copied mean mask, 1 support" and system_name(A, 4) == "a, 4 supports"


def test_the_best_model_is_recommended_with_the_fewest_supports_that_suffice():
    wanted = a_plan(12, (A, B), (1, 4, 8))
    means = {("a", 1): 0.8, ("a", 4): 0.899, ("a", 8): 0.905, ("b", 1): 0.7, ("b", 4): 0.75, ("b", 8): 0.8}
    found = verdict(wanted, scored(wanted, means))
    assert (found.candidate, found.supports, found.system) == (A, 4, "a, 4 supports")
    first, spread, supports, other, copied, patients = found.paragraphs
    assert first.startswith(
        "Use a with 4 supports: mean Dice 0.90 on 12 patients. That is good enough as a first contour"
    )
    assert "if" not in first and "none of 12 is below 0.7" in spread
    assert "from 1 to 4 by +0.099" in supports and "4 are recommended because more add less than 0.01" in supports
    assert (
        other.startswith("b reaches 0.75 with 4 supports: 0.15 less")
        and "a difference that these patients show" in other
    )
    assert "without a look at the image, reaches 0.50" in copied
    assert patients == enough_patients(12) and "wide" in patients


def test_nothing_is_recommended_that_copies_reach_too():
    wanted = a_plan(7)
    found = verdict(wanted, scored(wanted, {("a", 1): 0.6, ("a", 4): 0.7, (COPIED.name, 4): 0.71}))
    assert found.system == "" and found.paragraphs[0].startswith("Use none of these models")
    assert not any("Only what lies above" in one for one in found.paragraphs)


@pytest.mark.parametrize(
    ("patients", "dice", "words"),
    [
        (3, 0.9, "in places, if more patients confirm it"),
        (20, 0.9, "in places."),
        (20, 0.75, "as a draft, of which most contours need correction."),
        (20, 0.704, "correction, if the lower end of the interval is enough for you"),
        (20, 0.6, "not good enough to use: most contours would have to be drawn again"),
    ],
)
def test_good_enough_depends_on_the_mean_its_interval_and_the_number_of_patients(patients, dice, words):
    wanted = a_plan(patients, supports=(1,))
    assert words in verdict(wanted, scored(wanted, {("a", 1): dice})).paragraphs[0]


def test_few_patients_prove_nothing_and_the_report_says_so():
    wanted = a_plan(3, (A, B), (1,))
    found = verdict(wanted, scored(wanted, {("a", 1): 0.9, ("b", 1): 0.3}))
    assert any("which 3 patients cannot prove" in one for one in found.paragraphs)
    assert "3 patients say little" in found.paragraphs[-1] and "relied on" in enough_patients(15)


def test_objects_are_averaged_for_the_answer():
    wanted = a_plan(2, supports=(1,))
    scores = scored(wanted, {("a", 1): 0.9})
    more = [Score(**{**vars(score), "object": "other", "dice": score.dice - 0.2}) for score in scores]
    both = CasesPlan(**{**vars(wanted), "objects": ("organ", "other")})
    first = verdict(both, [*scores, *more]).paragraphs[0]
    assert "mean Dice 0.82 on 2 patients, averaged over the objects" in first


@pytest.mark.parametrize("patients", [1, 2])
def test_one_or_two_patients_get_no_interval(patients):
    wanted = a_plan(patients, candidates=(A, B), supports=(1,))
    text = " ".join(verdict(wanted, scored(wanted, {("a", 1): 0.9, ("b", 1): 0.8})).paragraphs)
    assert "interval can be given" in text and "between" not in text and "95 %" not in text
    assert "1 patients" not in text
