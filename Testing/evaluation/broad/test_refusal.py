"""Refusals: a model that draws what looks like the support draws nothing for another organ."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from broad_cases import BRIGHT, BroadFolder, spots, square
from broad_models import CopyingModel
from command_cases import InContextModel
from engine_doubles import EchoModel
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.data.small_sets import small_set_names
from ProxyPromptSegmentLib.evaluation.broad import answers, refusal
from ProxyPromptSegmentLib.evaluation.broad.records import ScoreFile
from ProxyPromptSegmentLib.evaluation.broad.refusal import EMPTIED, FOREIGN, PROGRAM, STRANGERS
from ProxyPromptSegmentLib.evaluation.broad.rows import ALL_SETS, rows_of
from ProxyPromptSegmentLib.evaluation.broad.run import Plan, measure
from ProxyPromptSegmentLib.evaluation.broad.tasks import FIRST_SETS
from ProxyPromptSegmentLib.inference.segmenter import Segmenter


@pytest.fixture
def folder(tmp_path, monkeypatch) -> BroadFolder:
    """Prostates of one brightness, white blood cells and polyps of others, and a small set of targets."""
    monkeypatch.setitem(splits.COUNTS, "promise12", (3, 1))
    made = BroadFolder(tmp_path / "data")
    for n in range(6):
        made.add_volume("promise12", f"case{n}", square(BRIGHT, seed=n))
    for n in range(9):
        split = "test" if n > 6 else "train"
        made.add_picture("jtsc_wbc", f"i{n}", spots((180,), n), "1 nucleus", split)
        made.add_picture("kvasir_polyp", f"i{n}", spots((180,), n), "1 polyp", split)
        made.add_picture("toy", f"i{n}", spots((120, 90), n), "1 cell; 2 core", split)
    return made


def measured(model, folder: BroadFolder, sets: list[str]) -> ScoreFile:
    file = ScoreFile(None, {})
    plan = Plan(data=folder.path, part="test", measures=["refusal"], sets=sets, supports=(2,))
    measure(Segmenter(model, "cpu", across_slices=False), plan, file)
    return file


def test_what_looks_like_no_support_is_left_empty_and_each_target_meets_several_other_organs(folder):
    records = measured(InContextModel(), folder, ["promise12", "toy"]).scores.records
    foreign = [record for record in records if record.condition == FOREIGN]
    volumes = [record for record in foreign if record.dataset == "promise12"]
    assert {record.note for record in volumes} == {"kvasir_polyp, polyp", "jtsc_wbc, nucleus"}
    assert len(volumes) == 2 * 2 and all(record.score == 1 for record in foreign)
    assert volumes[0].slices == {"truth": [0] * 4, "drawn": [0] * 4, "presence": volumes[0].slices["presence"]}
    small = [record for record in foreign if record.dataset == "small sets"]
    assert {record.case for record in small} == {"toy i7", "toy i8"} and len(small) == 2 * 2, "both objects"


def test_a_model_that_draws_whatever_it_is_shown_is_found_out_by_target_and_by_slice(folder):
    file = measured(EchoModel(), folder, ["promise12"])
    rows = rows_of(file.scores)
    by = {name[2]: row.summary().mean for name, row in rows.items() if name[1] == ALL_SETS and name[3] == FOREIGN}
    assert by["target"] == 0, "it draws the bright bar on every slice"
    assert by["slice"] == 0


def test_a_target_counts_as_drawn_on_when_one_of_its_slices_is(folder):
    for n in range(6):
        folder.add_volume("promise12", f"case{n}", square(730, seed=n))  # as bright as the polyps and the nuclei
    records = measured(InContextModel(), folder, ["promise12"]).scores.records
    foreign = [record for record in records if record.condition == FOREIGN]
    assert all((record.score, record.slices["drawn"]) == (0, [0, 1, 1, 0]) for record in foreign) and foreign


def test_an_empty_result_counts_only_with_a_sentence(folder, monkeypatch):
    monkeypatch.setattr(answers, "notes_on", lambda *args: [])
    records = measured(InContextModel(), folder, ["promise12"]).scores.records
    scores = {record.score for record in records if record.condition == FOREIGN}
    assert scores == {0} and not any(any(record.slices["drawn"]) for record in records if record.condition == FOREIGN)


def test_slices_count_one_by_one(folder):
    file = measured(InContextModel(), folder, ["promise12"])
    record = next(one for one in file.scores.records if one.condition == FOREIGN)
    record.slices["drawn"][:] = [0, 1, 0, 0]
    rows = rows_of(file.scores)
    name = next(name for name in rows if name[1] == ALL_SETS and name[2] == "slice" and name[3] == FOREIGN)
    assert rows[name].summary().mean == pytest.approx(1 - 0.25 / 4)


def test_emptied_masks_are_refused_by_the_program_and_answered_by_the_model(folder):
    records = measured(EchoModel(), folder, ["promise12"]).scores.records
    assert [record.score for record in records if record.condition == EMPTIED] == [0, 0], "it ignores the masks"
    copied = measured(CopyingModel(), folder, ["promise12"]).scores.records
    assert [record.score for record in copied if record.condition == EMPTIED] == [1, 1], "it copies empty masks"
    program = [record for record in records if record.condition == PROGRAM]
    assert [(record.score, record.note) for record in program] == [(1, "refused")] * 2


@pytest.mark.slow
def test_no_set_meets_an_organ_that_it_may_show(shared_data):
    small = small_set_names(shared_data)
    names = {*small, *(one.dataset for one in FIRST_SETS)}
    for one in STRANGERS:
        assert {one.dataset, *one.unlike} <= names if small else one.dataset in names
    assert all(len([one for one in STRANGERS if name not in (one.dataset, *one.unlike)]) >= 3 for name in names)
    if small:
        assert len(refusal.strangers(shared_data)) == len(STRANGERS)
