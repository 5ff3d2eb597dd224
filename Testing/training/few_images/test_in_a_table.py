"""Proxy Prompt with tiny networks as the row of a table that is stopped between two targets."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from compared_cases import tiny_frozen  # noqa: E402
from engine_doubles import TINY  # noqa: E402
from paper_cases import protocol, toy_folder  # noqa: E402
from ProxyPromptSegmentLib.data import splits  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper import systems as named  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.lessons import Budget  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.protocol import Few, Row  # noqa: E402
from ProxyPromptSegmentLib.evaluation.paper.run import Plan, run_protocol, score_file  # noqa: E402
from ProxyPromptSegmentLib.training.few_images import building, training  # noqa: E402
from ProxyPromptSegmentLib.training.few_images.system import FewImages, Trainings  # noqa: E402

ROOMY = {key: value for key, value in TINY.items() if key not in ("image_size", "grid", "channels", "reduce")}


@pytest.mark.slow
def test_a_stopped_table_neither_trains_nor_segments_again_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setitem(splits.COUNTS, "promise12", (3, 1))
    monkeypatch.setattr(building, "COMPACT", dataclasses.replace(building.COMPACT, **ROOMY))
    monkeypatch.setattr(training, "MOST_VARIANTS", 1)
    now, steps = iter(range(10**6)), []
    monkeypatch.setattr(training, "training_clock", lambda _: float(next(now)))
    advance = training.PromptTraining.advance
    monkeypatch.setattr(training.PromptTraining, "advance", lambda self: steps.append(1) or advance(self))
    table = protocol(rows=(Row(title="ours", system=named.PROXY_PROMPT),), few=Few(patients=2, slices=6))
    plan = Plan(data=toy_folder(tmp_path / "data", 6), budget=Budget(3.0, 0, 1))
    frozen = tiny_frozen()

    def measure(stop=None):
        file = score_file(tmp_path / "T2.jsonl", {"table": "T2"})
        make = FewImages(frozen=frozen, trainings=Trainings(tmp_path / "weights"))
        run_protocol(table, plan, lambda _: make, file, stop)
        return file

    def stopped(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(stopped)
    learned = len(steps)
    scores = measure().records
    assert learned and len(steps) == learned  # the training was kept
    assert sorted(score.case for score in scores) == sorted({score.case for score in scores}) and len(scores) == 2
