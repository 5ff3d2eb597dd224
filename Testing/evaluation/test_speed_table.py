"""The table of speed: what is timed is the work that a row is named after, counted instead of timed."""

from __future__ import annotations

import itertools
import json
import os
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from command_cases import InContextModel
from engine_doubles import EchoBackbone
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.evaluation.speed_table import prompt_rows, subjects, table, timing
from ProxyPromptSegmentLib.evaluation.speed_table.row import Goal, Row
from ProxyPromptSegmentLib.inference.segmenter import Segmenter

ENCODING, DECODING = 100, 1
CPU = torch.device("cpu")


class Worked(EchoBackbone):
    """Counts a slice that is encoded as 100 seconds of work, an object that is decoded as one."""

    seconds = 0

    def encode(self, images, valid=None):
        self.seconds += ENCODING * len(images)
        return super().encode(images, valid)

    def prompt_points(self, points, labels, boxes=None):
        assert points is None and labels is None, "boxes and nothing else"
        return torch.zeros(len(boxes), 2, 4)

    def decode(self, features, prompt):
        self.seconds += DECODING * len(features.top) * prompt.sparse.shape[1]
        return super().decode(features, prompt)


class Model(InContextModel):
    """Its prediction counts as decoded by the backbone."""

    def __init__(self):
        super().__init__()
        self.backbone = Worked()

    def predict(self, features, support, chosen=None):
        self.backbone.seconds += DECODING * len(features.top) * len(support.names)
        return super().predict(features, support, chosen)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Drawn slices of 64 pixels in place of 256, which take a second each."""
    monkeypatch.setattr(subjects, "SIDE", 64)
    monkeypatch.setattr(subjects, "drawn", subjects.drawn.__wrapped__)


@pytest.fixture
def segmenter(monkeypatch):
    """Its processor clock advances only with work."""
    made = Segmenter(Model(), "cpu", 5, most_read=4)
    monkeypatch.setattr(timing.time, "process_time", lambda: float(made.model.backbone.seconds))
    return made


def test_the_rows_of_a_volume_compare_the_same_slices_and_another_support_encodes_nothing(segmenter):
    rows = prompt_rows.volume_rows(segmenter, subjects.target(7), 3, Goal(most=1.5), Goal(most=0.35))
    json.dumps([row.to_dict() for row in rows], allow_nan=False)
    passed, again, fresh = rows
    whole, prompts = 7 * (ENCODING + 2 * DECODING), 7 * 2 * DECODING
    assert passed.seconds == (whole, whole), "the supports are prepared before, and both draw two objects"
    assert again.seconds == (prompts, whole)
    assert fresh.seconds == (prompts + 4 * ENCODING, whole)
    assert passed.ratios == (1.0,) * 3 and passed.goal.met(passed.ratio)
    assert again.ratio == pytest.approx(prompts / whole)


def test_objects_and_supports_are_compared_on_the_same_slices(segmenter):
    (objects,) = prompt_rows.object_rows(segmenter, subjects.target(8), 1)
    assert objects.seconds == (8 * (ENCODING + 4 * DECODING), 8 * (ENCODING + DECODING))
    chosen, every = prompt_rows.support_rows(segmenter, subjects.target(8), 1)
    assert chosen.seconds == every.seconds and chosen.goal.most == 1.3


def test_calls_are_timed_in_turns_after_one_warm_up_of_each(monkeypatch):
    clock, calls = itertools.count(), []
    monkeypatch.setattr(timing.time, "process_time", lambda: float(next(clock)))
    a, b = timing.in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 3, CPU)
    assert "".join(calls) == "ab" * 4
    np.testing.assert_array_equal([a.processor, b.of(timing.PROCESSOR)], np.ones((2, 3)))


def test_drawn_supports_have_as_many_slices_and_objects_as_asked_for():
    for count, objects in ((1, 1), (4, 2), (16, 4)):
        found = subjects.supports(count, objects)
        assert len(found) == count and len(found.objects) == objects
    assert subjects.target(24).images.shape == (24, 64, 64)


def test_a_plain_model_predicts_what_the_model_in_use_predicts_but_for_merged_keys():
    fast, bare = subjects.as_loaded("sam-compact", "cpu"), subjects.plain("sam-compact", "cpu")
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in bare.model.backbone.sam.image_encoder.modules())
    target, support = subjects.target(1), subjects.supports(2, 1)
    one, other = (m.segment(target.images, support, target.window).probability for m in (fast, bare))
    assert np.abs(one - other).mean() < 0.01


def timed(*seconds):
    return timing.Timed(np.ones(len(seconds)), np.array(seconds))


def test_a_row_has_the_median_of_the_ratios_and_whether_the_goal_is_met():
    row = Row.of("a", "b", "cpu", timed(2.0, 3.0, 8.0), timed(1.0, 2.0, 2.0), timing.PROCESSOR, Goal(most=2.0))
    assert row.ratio == 2.0 and row.spread == (1.75, 3.0)
    values = row.to_dict()
    assert values["met"] is True and values["seconds"] == [3.0, 2.0] and values["goal"] == "<= 2"
    assert not Goal(least=0.75, most=1.25).met(1.3) and str(Goal(least=0.75, most=1.25)) == "0.75 to 1.25"
    about = {**table.machine(["cpu"]), "load_before": 0.1, "repeats": 3}
    text = table.to_markdown([row, Row(what="c", against="d", device="cuda", skipped="no card")], about)
    assert "| a | b | cpu | 2.00 [1.75, 3.00] | <= 2 | yes | 3 / 2 |" in text and "skipped: no card" in text


def test_the_command_writes_the_rows_that_are_asked_for_and_skips_those_of_a_card(tmp_path, capsys):
    assert main(["benchmark", "--rows", "half", "--device", "cpu", "--out", str(tmp_path / "speed")]) == 0
    assert "skipped: it is measured on a graphics card" in capsys.readouterr().out
    values = json.loads((tmp_path / "speed.json").read_text())
    assert values["machine"]["torch"] and "skipped" in values["rows"][0]
    assert (tmp_path / "speed.md").read_text().count("\n|") == 3


def test_ctrl_c_keeps_the_rows_that_were_measured(tmp_path, capsys, monkeypatch):
    from ProxyPromptSegmentLib.commands import benchmark

    def stops(_plan):
        raise KeyboardInterrupt

    row = Row(what="a start", against="another", device="cpu", ratios=(1.5,))
    rows = {**benchmark.WHOLE, "start": lambda _plan: [row], "estimate": stops, "cohort": stops}
    monkeypatch.setattr(benchmark, "WHOLE", rows)
    words = ["benchmark", "--rows", "estimate", "start", "cohort", "--output", str(tmp_path / "speed")]
    assert main(words) == 130
    said = capsys.readouterr()
    assert "a start" in said.out and "stopped; start was measured before." in said.err
    assert [one["what"] for one in json.loads((tmp_path / "speed.json").read_text())["rows"]] == ["a start"]


def test_a_row_that_does_not_exist_is_refused_and_the_former_command_says_where_it_went(capsys):
    assert main(["benchmark", "--rows", "objects", "bicycles"]) == 2
    assert "no row 'bicycles'" in capsys.readouterr().err
    assert main(["evaluate", "speed"]) == 2
    assert "proxyprompt benchmark" in capsys.readouterr().err


def test_the_time_of_a_start_is_that_of_its_process(monkeypatch):
    from ProxyPromptSegmentLib.commands import benchmark_processes as processes

    used = processes.took([processes.sys.executable, "-c", "sum(range(3_000_000))"])
    assert 0.01 < used.seconds < 5 and used.peak_bytes > 1e6
    with pytest.raises(Exception, match="ended with 3"):
        processes.took([processes.sys.executable, "-c", "raise SystemExit(3)"])


COHORT = """
import json, subprocess, sys, time
from pathlib import Path

out = Path(sys.argv[1])
(out / "records").mkdir(parents=True)
(out / "claims").mkdir()
actor = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(out / "claims" / "t.worker").write_text(json.dumps({"pid": actor.pid}))
(out / "claims" / "key.0").write_text("t")
for number in range(3):
    time.sleep(0.05)
    (out / "records" / f"{number}.json").write_text("{}")
actor.wait(50)
(out / "records" / "3.json").write_text("{}")
print("2 studies computed by two processes at once; the first result was kept.", file=sys.stderr)
"""


def test_an_actor_is_killed_in_mid_work_and_what_became_of_the_studies_is_counted(tmp_path):
    from ProxyPromptSegmentLib.commands import benchmark_cohort

    killed = []

    def kill(pid, how):
        killed.append((pid, len(list((tmp_path / "out" / "records").iterdir()))))
        os.kill(pid, how)

    words = [sys.executable, "-c", COHORT, str(tmp_path / "out")]
    found = benchmark_cohort.with_one_killed(words, tmp_path / "out", 3, kill)
    assert killed == [(found.killed[0], 3)] and (found.done, found.twice) == (4, 2)


def test_studies_of_the_cohort_are_small_and_all_unlike():
    from ProxyPromptSegmentLib.commands.benchmark_cohort import THICK, drawn_study

    one, other = drawn_study(0), drawn_study(1)
    assert len(one.array) == THICK and not np.array_equal(one.array, other.array)


def test_half_precision_is_timed_against_single_precision_where_a_card_is_stood_in_for(segmenter, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    (row,) = prompt_rows.half_rows(segmenter, subjects.target(3), 2)
    assert "in half precision" in row.what
    assert row.ratios == (1.0, 1.0) and row.goal.met(0.5) and not row.goal.met(0.6)
