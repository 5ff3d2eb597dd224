"""A protocol is measured row by row and case by case, resumed after a stop, and shown with the published figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paper_cases import NEED, ROWS, ToyMaker, protocol, toy_folder
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError, OutputError, UsageError
from ProxyPromptSegmentLib.evaluation.paper.chosen import chosen_rows, chosen_sets
from ProxyPromptSegmentLib.evaluation.paper.lessons import Budget
from ProxyPromptSegmentLib.evaluation.paper.panels import KeptMasks
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed, Few, Row, View
from ProxyPromptSegmentLib.evaluation.paper.run import (
    SIDE_PART,
    Plan,
    _scored,
    limited,
    run_protocol,
    score_file,
)
from ProxyPromptSegmentLib.evaluation.paper.table import by_draw, columns_of, rows_as_values, to_markdown
from ProxyPromptSegmentLib.evaluation.report.standard import grid_of
from ProxyPromptSegmentLib.evaluation.statistics.tables import explained, table_of
from ProxyPromptSegmentLib.evaluation.systems.system import Kind

FACTS = {"table": "T2", "model": "toy"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setitem(splits.COUNTS, "promise12", (4, 1))
    return toy_folder(tmp_path / "data")


def test_rows_segment_the_same_targets_and_the_table_has_the_published_figures_beside(data, tmp_path):
    file, make = score_file(tmp_path / "T2.jsonl", FACTS), ToyMaker()
    outcome = run_protocol(protocol(), Plan(data=data), make, file)
    assert {(s.system, s.dice > 0.9) for s in file.records} == {("threshold", True), ("nothing", False)}
    assert len(make.made["threshold"].segmented) == 3 and len(file.records) == 6
    assert make.made["threshold"].segmented == make.made["nothing"].segmented
    assert len(make.made["threshold"].lessons[0].few) == 2
    learned = {case.patient for case in make.made["threshold"].lessons[0].few}
    assert not learned & {score.patient for score in file.records}  # by patient
    text = to_markdown(protocol(), outcome, file, "Frozen start: a toy.")
    assert "Not there" not in text
    assert "| Upper | - | - (0.881) |" in text and "* Upper: as published, not run here." in text
    threshold = next(line for line in text.splitlines() if line.startswith("| threshold"))
    assert "(0.800)" in threshold and "| 2 |" in threshold
    assert "never made, not run on promise12: this system is not a part of this version" in text
    assert "PROMISE12 (reduced: promise12): gland" in text and "Frozen start: a toy." in text
    rows = rows_as_values(protocol(), file.records, columns_of(protocol(), outcome.sets))
    assert rows[1]["run"] and rows[1]["PROMISE12 (reduced: promise12): gland"]["published"] == 0.8
    assert outcome.splits["promise12"]["few"]["draw 0"] and len(outcome.splits["promise12"]["test"]) == 3


def test_a_run_that_was_stopped_resumes_with_the_case_that_it_was_at(data, tmp_path):
    path, first = tmp_path / "T2.jsonl", ToyMaker()
    first.made["nothing"] = nothing = first(_asked("nothing"))
    nothing.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        run_protocol(protocol(), Plan(data=data), first, score_file(path, FACTS))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"unit": "cut off')
    again = ToyMaker()
    run_protocol(protocol(), Plan(data=data), again, score_file(path, FACTS))
    assert "threshold" not in again.made  # a row that was complete is not trained again
    assert len(again.made["nothing"].segmented) == 2
    whole = [json.loads(line) for line in path.read_text().splitlines()]
    assert len([line for line in whole[1:] if line["records"]]) == 6
    idle = ToyMaker()
    run_protocol(protocol(), Plan(data=data), idle, score_file(path, FACTS))
    assert not idle.made
    with pytest.raises(OutputError, match="holds scores with model 'toy', not 'other'"):
        score_file(path, {**FACTS, "model": "other"})


def test_a_row_that_ended_early_says_on_how_many_patients_and_has_no_average(data):
    make, file = ToyMaker(), score_file(None, FACTS)
    make.made["threshold"] = early = make(_asked("threshold"))
    early.stop_after, early.error = 1, InputError("the second target cannot be read.")
    outcome = run_protocol(protocol(), Plan(data=data), make, file)
    lines = {line.split("|")[1].strip(): line for line in to_markdown(protocol(), outcome, file, "").splitlines()[2:7]}
    assert "[n = 1]" in lines["threshold"] and "n =" not in lines["nothing"]
    assert [cell.strip() for cell in lines["threshold"].split("|")][4] == "-"
    assert [cell.strip() for cell in lines["nothing"].split("|")][4] == "0.000"


def _asked(name):
    class Making:
        row = Row(title=name, system=name)

    return Making()


def test_rows_and_targets_can_be_chosen(data):
    file, make = score_file(None, FACTS), ToyMaker()
    run_protocol(protocol(), Plan(data=data, rows=["Threshold"], limit=1), make, file)
    assert [score.system for score in file.records] == ["threshold"]
    with pytest.raises(UsageError, match="T2 has no row 'Upper' that is run here; choose some of: threshold; nothing"):
        run_protocol(protocol(), Plan(data=data, rows=["Upper"]), make, file)
    assert limited(list(range(9)), 3) == [0, 4, 8]
    both = protocol(sets=(NEED, DataNeed(title="Other", stand_in="acdc", objects={"heart": "myocardium"})))
    assert [one.title for one in chosen_sets(both, ["PROMISE12"])] == ["PROMISE12"]
    assert [one.title for one in chosen_sets(both, ["ACDC"])] == ["Other"] and len(chosen_sets(both, ())) == 2
    with pytest.raises(UsageError, match="T2 has no data set 'drive'; choose some of: PROMISE12; Other"):
        run_protocol(both, Plan(data=data, sets=["drive"]), make, file)


def test_each_draw_has_supports_of_its_own_and_what_needs_none_is_drawn_once(data):
    rows = (
        Row(title="few", system="few", few=Few(images=3, support=2)),
        Row(title="truth", system="truth"),
    )
    drawn, file = protocol(rows=rows, draws=3, few=Few(images=2)), score_file(None, FACTS)
    make = ToyMaker(truth=Kind.TRUTH)
    run_protocol(drawn, Plan(data=data, limit=1), make, file)
    lessons = make.made["few"].lessons
    assert len(lessons) == 3 and len({tuple(case.name for case in one.few) for one in lessons}) > 1
    assert {tuple(case.name for case in one.full) for one in lessons} == {tuple(c.name for c in lessons[0].full)}
    assert len(make.made["truth"].lessons) == 1
    assert set(by_draw(file.records, "few")) == {0, 1, 2} and set(by_draw(file.records, "truth")) == {0}
    again = ToyMaker(truth=Kind.TRUTH)
    run_protocol(drawn, Plan(data=data, limit=1), again, file)
    assert not again.made["truth"].lessons and "few" not in again.made
    for view, words in ((View.SPREAD, "| few | 3 |"), (View.DRAWS, "S3, Dice / IoU")):
        outcome = run_protocol(drawn, Plan(data=data, limit=1), make, file)
        assert words in to_markdown(protocol(rows=rows, draws=3, view=view), outcome, file, "")


def test_a_system_of_the_whole_set_is_given_all_training_cases(data):
    make = ToyMaker(threshold=Kind.FULL)
    run_protocol(protocol(full=True), Plan(data=data, limit=1), make, score_file(None, FACTS))
    assert len(make.made["threshold"].lessons[0].full) == 4 and make.made["nothing"].lessons[0].full == ()


def test_slices_are_scored_as_well_where_the_paper_does(data):
    file = score_file(None, FACTS)
    outcome = run_protocol(protocol(by_slice=True), Plan(data=data, limit=1), ToyMaker(), file)
    slices = [score for score in file.records if score.table == "T2, by slice" and score.system == "nothing"]
    assert len(slices) == 4 and [score.dice for score in slices] == [1, 0, 0, 1]  # empty slices are right
    assert "By slice" in to_markdown(protocol(by_slice=True), outcome, file, "")


def test_masks_of_the_first_targets_are_kept_and_drawn_after_a_stop(data, tmp_path):
    kept = KeptMasks(tmp_path / "masks")
    run_protocol(protocol(), Plan(data=data, limit=2), ToyMaker(), score_file(None, FACTS), keep_masks=kept.keep)
    panels = KeptMasks(tmp_path / "masks").shown(["threshold", "nothing", "absent"], 1)
    assert [one.title for one in panels] == ["promise12, target 0"]
    truth, threshold, nothing = panels[0].panels
    assert (threshold.caption, nothing.caption) == ("threshold", "nothing")
    assert truth.jpeg == nothing.jpeg != threshold.jpeg
    assert KeptMasks(None).shown(["threshold"], 1) == []


def test_masks_of_another_target_of_the_same_number_are_not_mixed_in(data, tmp_path):
    kept = KeptMasks(tmp_path / "masks")
    for limit, rows in ((2, ["threshold"]), (3, ["nothing"])):  # the second of 2 is the last, and not the second of 3
        plan = Plan(data=data, limit=limit, rows=rows)
        run_protocol(protocol(), plan, ToyMaker(), score_file(None, FACTS), keep_masks=kept.keep)
    shown = {one.title: [panel.caption for panel in one.panels[1:]] for one in kept.shown(["threshold", "nothing"], 4)}
    assert shown["promise12, target 0"] == ["threshold", "nothing"] and shown["promise12, target 1"] == ["nothing"]


def test_the_tolerance_of_the_surface_dice_is_in_the_unit_of_the_distances():
    masks = np.zeros((4, 1, 32, 32), np.uint8)
    masks[1:3, 0, 8:20, 8:20] = 1
    case = Case(
        dataset="d",
        patient="p",
        images=np.zeros((4, 32, 32), np.float32),
        masks=masks,
        objects=("o",),
        spacing_mm=(3.0, 0.5, 0.5),
        name="c",
    )
    found = {}
    for surface in (False, True):
        found[surface] = next(_scored(protocol(surface=surface), ROWS[1], case, np.roll(masks, 3, 3), 0, 0.0))
    assert found[False].unit == "mm" and found[False].surface == 1, "3 pixels are 1.5 mm, which lie within 2 mm"
    assert found[True].unit == "px" and found[True].surface < 1, "3 pixels are more than half a pixel"
    assert "tolerance 2 mm." in explained(table_of([found[False]]))
    shown = grid_of(table_of([found[True]]), tolerance=SIDE_PART)
    assert "tolerance 1/64 of the longer side of an image." in shown.caption


def test_without_any_of_its_data_it_says_what_it_needs(tmp_path):
    with pytest.raises(InputError, match=r"holds no data of T2, which needs PROMISE12 \(promise12\)"):
        run_protocol(protocol(), Plan(data=tmp_path), ToyMaker(), score_file(None, FACTS))


def test_an_original_set_is_used_before_what_stands_for_it_and_divided_by_seed(tmp_path):
    pytest.importorskip("SimpleITK")
    import original_sets

    original_sets.promise12(tmp_path, 8)
    found = []
    for seed in (0, 0, 1):
        file = score_file(None, FACTS)
        plan = Plan(data=tmp_path, budget=Budget(1.0, seed, 1))
        outcome = run_protocol(protocol(sets=(NEED,)), plan, ToyMaker(), file)
        assert outcome.sets[0].original and outcome.sets[0].title == "PROMISE12"
        assert {score.unit for score in file.records} == {"mm"}
        parts = outcome.splits["promise12"]
        assert len(parts["train"]) == 2 and len(parts["validation"]) == 1 and len(parts["test"]) == 5
        found.append(tuple(parts["train"]))
    assert found[0] == found[1] != found[2]
    make = ToyMaker(threshold=Kind.FULL)
    run_protocol(protocol(sets=(NEED,), full=True), Plan(data=tmp_path, limit=1), make, score_file(None, FACTS))
    assert len(make.made["threshold"].lessons[0].full) == 6  # the whole set is more than what the few-shot rows need


KILLED = """
import os, signal, sys
from pathlib import Path
from paper_cases import Toy, ToyMaker, protocol
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.evaluation.paper import run

splits.COUNTS["promise12"] = (4, 1)
make, done = ToyMaker(), []
def killed(row, dataset, number, total):
    done.append(number)
    if len(done) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
file = run.score_file(Path(sys.argv[2]), {"table": "T2", "model": "toy"})
run.run_protocol(protocol(), run.Plan(data=Path(sys.argv[1])), make, file, killed)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be killed this way there")
def test_a_killed_run_resumes(data, tmp_path):
    path = tmp_path / "T2.jsonl"
    here = [str(Path(__file__).parents[2] / "helpers"), str(Path(__file__).parents[3])]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(data), str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(here)},
        capture_output=True,
        timeout=120,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    file, make = score_file(path, FACTS), ToyMaker()
    before = len(file.records)
    run_protocol(protocol(), Plan(data=data), make, file)
    assert before == 4 and len(file.records) == 6
    assert "threshold" not in make.made and len(make.made["nothing"].segmented) == 2


def test_a_title_is_its_row_alone_a_system_all_of_its_rows_and_rows_may_be_left_out():
    table = protocol(rows=(Row(title="a", system="a"), Row(title="a, longer", system="a"), Row(title="b", system="c")))

    def titles(*names, without=()):
        return [row.title for row in chosen_rows(table, names, without)]

    assert titles() == ["a", "a, longer", "b"] and titles("A") == ["a"] and titles("C") == ["b"]
    assert titles(without=["a"]) == ["a, longer", "b"] and titles("a", "b", without=["c"]) == ["a"]
    with pytest.raises(UsageError, match="no row 'd'"):
        titles(without=["d"])
