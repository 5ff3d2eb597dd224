"""The measurements of a model that knows classes: methods beside it, refusals, the table and its file."""

from __future__ import annotations

import numpy as np
import pytest

from described_discs import write_discs

torch = pytest.importorskip("torch")

from class_doubles import CLASSES, MarkConfig, MarkGenerator  # noqa: E402
from engine_doubles import tiny_backbone  # noqa: E402
from ProxyPromptSegmentLib.data.parts import load_parts  # noqa: E402
from ProxyPromptSegmentLib.errors import CheckpointError  # noqa: E402
from ProxyPromptSegmentLib.evaluation.broad.records import Record, ScoreFile  # noqa: E402
from ProxyPromptSegmentLib.evaluation.statistics.surfaces import surface_dice  # noqa: E402
from ProxyPromptSegmentLib.evaluation.without_support import (  # noqa: E402
    ABSENT,
    BOX,
    DICE,
    MODEL,
    STRANGE,
    ClassPlan,
    Lesson,
    boxed_masks,
    measure_classes,
)
from ProxyPromptSegmentLib.evaluation.without_support_table import classes_table  # noqa: E402
from ProxyPromptSegmentLib.inference.segmenter import Segmenter  # noqa: E402
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel  # noqa: E402

RECIPE = {
    "classes": [
        {"about": {"name": "prostate"}, "sets": {"discs": ["disc"]}},
        {"about": {"name": "polyp"}, "sets": {"colons": ["polyp"]}},
        {"about": {"name": "bladder"}, "sets": {"bladders": ["bladder"]}},
    ],
    "alike": [["discs", "bladders"]],
}


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(ProxyPromptModel(tiny_backbone(), MarkGenerator(MarkConfig())).eval(), "cpu")


@pytest.fixture
def data(tmp_path):
    return write_discs(tmp_path / "discs", 6, test=["case4", "case5"], validation=["case3"]).parent


def test_held_back_patients_alone_are_measured_by_every_method_and_resumed(segmenter, data, tmp_path):
    file = ScoreFile(tmp_path / "scores.jsonl", {"model": "x"})
    lesson = Lesson.of({"recipe": {**RECIPE, "classes": RECIPE["classes"][:1]}})
    plan = ClassPlan(data=data, part="test")
    measure_classes(segmenter, lesson, plan, file, None)
    dices = [r for r in file.scores.records if r.measure == DICE]
    assert {r.case for r in dices} == {"case4", "case5"} and {r.object for r in dices} == {"prostate"}
    assert {r.method for r in dices} == {MODEL, "copied mean mask"}
    assert all(0 <= r.score <= 1 for r in file.scores.records)
    count = len(file.scores.records)
    again = ScoreFile(tmp_path / "scores.jsonl", {"model": "x"})
    measure_classes(segmenter, lesson, plan, again, None)
    assert len(again.scores.records) == count


def test_classes_of_other_images_are_asked_for_and_kin_are_not():
    lesson = Lesson.of({"recipe": RECIPE})
    assert lesson.strangers("discs") == ["polyp"]
    assert lesson.strangers("colons") == ["prostate", "bladder"]


def test_a_class_that_stays_empty_counts_as_1(segmenter, data, monkeypatch):
    file = ScoreFile(None, {})
    monkeypatch.setattr("ProxyPromptSegmentLib.evaluation.without_support._scored", lambda *_: iter(()))
    measure_classes(segmenter, Lesson.of({"recipe": RECIPE}), ClassPlan(data=data, part="test", sets=("discs",)), file)
    found = [r for r in file.scores.records if r.measure == ABSENT]
    assert len(found) == 2 and {r.score for r in found} <= {0.0, 1.0}


def test_a_box_around_the_truth_is_drawn_where_the_truth_is(segmenter, data):
    case = load_parts(data, "discs").test[0]
    masks = boxed_masks(segmenter, case, {})
    assert masks.shape == case.masks[:, 0].shape and masks.dtype == np.uint8
    empty = case.masks[:, :1] * 0
    object.__setattr__(case, "masks", empty)
    assert not boxed_masks(segmenter, case, {}).any()


def test_a_file_without_its_recipe_is_rejected():
    with pytest.raises(CheckpointError, match="does not say"):
        Lesson.of({"recipe": {"name": "compact"}})


def record(method: str, patient: int, score: float, measure: str = DICE) -> Record:
    return Record(
        measure=measure,
        dataset="discs",
        object=STRANGE if measure == ABSENT else "prostate",
        method=method,
        supports=0,
        case=f"c{patient}",
        patient=f"p{patient}",
        score=score,
    )


def test_the_table_has_paired_differences_and_counts_classes_above_the_mean_mask():
    records = [record(MODEL, n, 0.8 + 0.01 * n) for n in range(5)]
    records += [record("copied mean mask", n, 0.5 + 0.01 * n) for n in range(5)]
    records += [record(BOX, n, 0.9) for n in range(5)] + [record(MODEL, n, 1.0, ABSENT) for n in range(5)]
    text = classes_table(records)
    assert "+0.300 [+0.300, +0.300]" in text and "| 5 |" in text and "0.900" in text
    few = classes_table([r for r in records if r.patient in ("p0", "p1")])
    assert "| 2 | 0.805 [n = 2] | 0.505 | +0.300 [n = 2] |" in few and "0 of 1 classes" in few
    assert "1 of 1 classes" in text and "stay empty: 1.000" in text
    assert len(CLASSES) == 3


def test_the_surface_dice_is_the_share_of_both_borders_within_the_tolerance():
    truth, other = np.zeros((2, 1, 20, 20), np.uint8)
    truth[0, 5:12, 5:12] = 1
    other[0, 5:12, 7:14] = 1  # moved by two columns
    assert surface_dice(truth, truth, 0) == 1
    assert surface_dice(truth, other, 2) == 1
    # Of 24 border pixels each, those on the rows that both borders share lie on each other.
    same = 2 * 5 * 2 + 0
    assert surface_dice(truth, other, 0) == pytest.approx(same / 48)
    assert surface_dice(truth, truth * 0, 3) == 0
    assert surface_dice(truth * 0, truth * 0, 0) == 1
