"""In context and mask followed, on drawn data where each score is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from broad_cases import BRIGHT, DIM, BroadFolder, spots, square
from broad_models import CopyingModel
from command_cases import InContextModel
from engine_doubles import EchoModel
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.small_sets import load_small_set
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.broad import in_context, mask_followed
from ProxyPromptSegmentLib.evaluation.broad.answers import ask
from ProxyPromptSegmentLib.evaluation.broad.mask_changes import CHANGES
from ProxyPromptSegmentLib.evaluation.broad.records import Record, ScoreFile
from ProxyPromptSegmentLib.evaluation.broad.run import Plan, measure
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.evaluation.broad.tasks import Task
from ProxyPromptSegmentLib.inference.results import empty_result
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack

FACTS = {"model": "made", "part": "test"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> BroadFolder:
    """Bright squares at one place in six volumes, of which one test volume is dim; pictures of two small sets."""
    monkeypatch.setitem(splits.COUNTS, "promise12", (3, 1))
    names = splits.split_patients([f"case{n}" for n in range(6)], "promise12")
    made = BroadFolder(tmp_path / "data")
    for n in range(6):
        dim = f"case{n}" == names["test"][1]
        made.add_volume("promise12", f"case{n}", square(DIM if dim else BRIGHT, seed=n))
    for n in range(12):
        made.add_picture("toy", f"i{n:02d}", spots((200, 120), n), "1 cell; 2 core", "test" if n > 8 else "train")
    return made


def measured(model, folder: BroadFolder, **plan) -> list[Record]:
    file = ScoreFile(None, FACTS)
    measure(Segmenter(model, "cpu", across_slices=False), Plan(data=folder.path, part="test", **plan), file)
    return file.scores.records


def test_in_context_scores_each_target_and_keeps_its_slices(folder):
    found = measured(InContextModel(), folder, measures=["context"], sets=["promise12"], supports=(1, 2))
    assert [(record.supports, record.draw) for record in found] == [(1, 0), (2, 0)] * 2
    bright, dim = found[0], found[2]
    assert bright.score == pytest.approx(1, abs=0.01) and dim.score == 0, "the dim square is not what was marked"
    assert bright.slices["truth"] == [0, 1, 1, 0] == bright.slices["drawn"] and dim.slices["drawn"] == [0] * 4
    assert dim.slices["dice"] == [1, 0, 0, 1] and bright.slices["dice"][1] > 0.99
    assert bright.slices["confidence"][1] > 0.6 and dim.slices["confidence"][1] > 0.6
    assert bright.slices["presence"][1] > 0.7 > 0.3 > dim.slices["presence"][1]
    assert bright.patient == bright.case and bright.method == "model" and bright.measure == in_context.NAME


def test_objects_of_a_small_set_are_asked_for_one_by_one(folder):
    found = measured(InContextModel(), folder, measures=["context"], sets=["toy"], supports=(1,))
    assert [record.object for record in found] == ["cell"] * 3 + ["core"] * 3
    # The closer look at so few pixels blurs the intensities by which this double knows them.
    assert min(record.score for record in found) > 0.9


def test_objects_that_are_asked_for_at_once_are_scored_one_by_one(folder):
    parts = load_small_set(folder.path, "toy").parts
    task = Task(dataset="toy", objects=("cell", "core"), targets=parts["test"], pool=parts["train"])
    found = in_context.score_in_context(Segmenter(InContextModel(), "cpu"), task, task.targets[0], 2, 0)
    assert [record.object for record in found] == ["cell", "core"]
    assert min(record.score for record in found) > 0.95 and min(record.slices["dice"][0] for record in found) > 0.95


def lines(number: int) -> Case:
    """A picture of bright lines of one pixel, too thin for the model's 64 pixels."""
    labels = np.zeros((256, 256), np.uint8)
    for place in range(20 + number, 240, 24):
        labels[place, 20:236] = 1
    picture = np.where(labels, 200.0, 60.0)
    picture[:3] = 250
    return Case(
        dataset="made",
        patient=f"p{number}",
        images=picture[None].astype(np.float32),
        masks=labels[None, None],
        objects=("vessel",),
        spacing_mm=None,
        name=f"p{number}",
    )


def test_thin_structures_are_asked_for_in_tiles_as_in_the_program():
    pool = [lines(number) for number in range(3)]
    segmenter = Segmenter(EchoModel(), "cpu")
    support = support_set(draw_pairs(pool, pool[0], 2, 0), pool[0])
    found, whole = ask(segmenter, pool[0], support), segmenter.segment(pool[0].images, support).masks()
    np.testing.assert_array_equal(found.masks, segment_stack(segmenter, pool[0].images, support).masks())
    assert (found.masks != whole).mean() > 0.01 and found.notes == 1, "the program says that it uses tiles"


def test_gaps_are_filled_in_volumes_and_never_in_time():
    case = replace(lines(0), images=np.zeros((3, 256, 256), np.float32), masks=np.ones((3, 1, 256, 256), np.uint8))

    class Asked:
        calibration = None

        def segment(self, images, support, **more):
            self.result = empty_result(("vessel",), 3, (256, 256))
            return self.result

    for dataset, filled in (("promise12", True), ("ccaus_video", False)):
        segmenter = Asked()
        ask(segmenter, replace(case, dataset=dataset), None)
        assert segmenter.result.fill_gaps is filled


def test_too_few_supports_give_no_score_and_are_not_tried_again(folder):
    file = ScoreFile(None, FACTS)
    plan = Plan(data=folder.path, part="test", measures=["context"], sets=["promise12"], supports=(4, 40))
    measure(Segmenter(InContextModel(), "cpu"), plan, file)
    assert {record.supports for record in file.scores.records} == {4}
    before = len(file.scores.records)
    measure(Segmenter(InContextModel(), "cpu"), plan, file)
    assert len(file.scores.records) == before


def test_a_model_that_follows_the_mask_scores_high_and_one_that_knows_the_organ_does_not(folder):
    follows = measured(CopyingModel(), folder, measures=["followed"], sets=["promise12"], supports=(2,))
    ignores = measured(InContextModel(), folder, measures=["followed"], sets=["promise12"], supports=(2,))
    for measure_name, supports in ((mask_followed.NAME, 2), (mask_followed.OWN, 1)):
        for records, expected in ((follows, 1.0), (ignores, 2 * 0.5 / 1.5)):
            mine = [r for r in records if r.measure == measure_name and r.case == follows[0].case]
            assert [record.condition for record in mine] == list(CHANGES) and mine[0].supports == supports
            scores = {record.condition: record.score for record in mine}
            assert scores["whole"] == pytest.approx(1, abs=0.02)
            halves = [value for name, value in scores.items() if "half" in name]
            np.testing.assert_allclose(halves, expected, atol=0.02)


def test_a_target_that_is_its_own_support_is_found_whatever_its_brightness(folder):
    found = measured(InContextModel(), folder, measures=["followed"], sets=["promise12"], supports=(2,))
    dim = {r.measure: r.score for r in found if r.condition == "whole" and r.case == found[-1].case}
    assert dim[mask_followed.NAME] == 0 and dim[mask_followed.OWN] == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_a_stopped_run_measures_only_the_rest(folder, tmp_path, monkeypatch):
    plan = Plan(data=folder.path, part="test", sets=["promise12", "toy"], supports=(1, 2))
    segmenter = Segmenter(InContextModel(), "cpu")
    whole = ScoreFile(None, FACTS)
    measure(segmenter, plan, whole)
    path = tmp_path / "s.jsonl"
    measure(segmenter, plan, ScoreFile(path, FACTS))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:30], encoding="utf-8")
    asked, real = [], in_context.score_in_context
    monkeypatch.setattr(in_context, "score_in_context", lambda *args: (asked.append(args), real(*args))[1])
    resumed = ScoreFile(path, FACTS)
    measure(segmenter, plan, resumed)
    assert resumed.scores.records == whole.scores.records
    units = [json.loads(line)["unit"] for line in lines[1:]]
    assert len(asked) == sum("in context" in unit for unit in units) - sum("in context" in unit for unit in units[:3])


def test_a_measurement_that_does_not_exist_is_named(folder):
    with pytest.raises(UsageError, match="no measurement 'speed'; choose some of context, followed, prompt"):
        Plan(data=folder.path, measures=["speed"])
