"""AutoMedSAM as a row of a table: what it is trained on, and that a training is shared and kept."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

import original_sets  # noqa: E402
from broad_cases import BroadFolder, spots  # noqa: E402
from class_doubles import mark_model  # noqa: E402
from compared_cases import drawn_case  # noqa: E402
from ProxyPromptSegmentLib.errors import UsageError  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.loading import Division, load  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed  # noqa: E402
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson  # noqa: E402
from ProxyPromptSegmentLib.training.vocabulary import system  # noqa: E402

SETS = (
    DataNeed(title="One", stand_in="toy", objects={"prostate": "rim + core", "polyp": "core"}),
    DataNeed(title="Two", stand_in="absent", objects={"lungs": "lungs"}),
)


@pytest.fixture
def data(tmp_path):
    folder = BroadFolder(tmp_path / "data")
    for n in range(6):
        folder.add_picture("toy", f"i{n}", spots((200, 120), n), "1 rim; 2 core", "test" if n > 4 else "train")
    return folder.path


@pytest.fixture
def trained(monkeypatch):
    """Trainings as they were asked for, in the place of trainings."""
    asked = []

    def train(recipe, data, out, **more):
        asked.append((recipe, out, more["read"](data, next(iter(recipe.classes[0].sets)))))
        return out / "made.safetensors"

    monkeypatch.setattr(system, "train_vocabulary", train)
    monkeypatch.setattr(system, "load_model", lambda path: (mark_model(), {}))
    return asked


def lesson(case, seconds=60.0):
    return Lesson(few=(case,), seconds=seconds)


def made(data, tmp_path, **more):
    more = {"sets": SETS, "division": Division(patients=0), **more}
    return system.TrainedClasses(model="sam-compact", data=data, folder=tmp_path / "kept", **more)


def test_it_learns_the_columns_of_the_sets_that_are_there_in_the_papers_form(data, tmp_path, trained):
    case = drawn_case(0)
    case = dataclasses.replace(case, objects=("prostate",), masks=case.masks[:, :1])
    changes = {"losses": {"dice": False, "transfer": False}, "generator": {"branches": "sparse"}}
    masks = made(data, tmp_path, changes=changes).fit(lesson(case)).segment(case)
    assert masks.shape == case.masks.shape
    recipe, out, parts = trained[0]
    assert {one.about.name: one.sets for one in recipe.classes} == {
        "prostate": {"toy": ("prostate",)}, "polyp": {"toy": ("polyp",)},
    }  # fmt: skip
    assert not recipe.losses.dice and recipe.losses.bce and recipe.decode_from == 0
    assert recipe.generator["branches"] == "sparse" and recipe.generator["readout"] is False
    assert recipe.minutes == 1 and out.parent == tmp_path / "kept"
    whole = parts.train[0]
    assert whole.objects == ("prostate", "polyp") and whole.masks[0, 0].sum() == 2 * whole.masks[0, 1].sum()


def test_rows_of_one_training_share_it_and_a_change_is_another_one(data, tmp_path, trained):
    case = drawn_case(0)
    case = dataclasses.replace(case, objects=("polyp",), masks=case.masks[:, :1])
    kept: dict = {}
    for changes in ({}, {}, {"losses": {"bce": False}}):
        made(data, tmp_path, changes=changes, kept=kept).fit(lesson(case))
    assert len(trained) == 2 and trained[0][1] != trained[1][1]
    with pytest.raises(UsageError, match="holds none of the data sets that are learned from: One, Two"):
        made(tmp_path / "nothing", tmp_path).fit(lesson(case))


def test_it_learns_from_no_patient_that_its_table_tests(tmp_path, trained):
    original_sets.polyps(tmp_path, "Kvasir-SEG", count=12)
    need = DataNeed(original="kvasir_seg", title="Kvasir-SEG", objects={"polyp": "polyp"})
    case = dataclasses.replace(drawn_case(0), objects=("polyp",), masks=drawn_case(0).masks[:, :1])
    for seed in (0, 3):
        division = Division(patients=2, whole=True, seed=seed)
        tested = {item.patient for item in load(need, tmp_path, division).parts["test"]}
        made(tmp_path, tmp_path, sets=(need,), division=division).fit(lesson(case))
        learned = {one.patient for one in trained[-1][2].train}
        assert len(learned) == 10 and tested and not learned & tested
    assert trained[0][1] != trained[1][1]  # each is kept by itself
