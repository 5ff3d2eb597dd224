"""Every table of the papers on data in the layouts of their publishers, with drawn pictures and systems of a test."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("SimpleITK")

import original_sets as made
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import paper_systems
from ProxyPromptSegmentLib.data.original import fh_ps_aop
from ProxyPromptSegmentLib.evaluation.paper.catalogue import protocols
from ProxyPromptSegmentLib.evaluation.paper.protocol import Measure
from ProxyPromptSegmentLib.evaluation.systems.system import Kind


class Copy:
    """Draws the masks of the first known case where the target shows anything."""

    name, source = "copy", "drawn for a test"

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def fit(self, lesson, progress=None, cancel=None):
        self.lesson = lesson
        return self

    def segment(self, case):
        known = (self.lesson.full if self.kind is Kind.FULL else self.lesson.few)[0]
        shown = known.masks[len(known.masks) // 2]
        return np.stack([shown if mask.any() else np.zeros_like(shown) for mask in case.masks])


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    made.refuge2(root, 40)
    made.stare(root, 20)
    made.fh_ps_aop(root, 40)
    made.promise12(root, 8)
    made.jnu_ifm(root, 24, 3)
    for name in ("Kvasir-SEG", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB"):
        made.polyps(root, name, count=16)
    made.monuseg(root, 8)
    made.glas(root, 8)
    return root


MEASURED = [one for one in protocols() if one.measure is Measure.SYSTEMS and not one.same_as and one.id != "M3"]


@pytest.mark.parametrize("one", MEASURED, ids=lambda one: one.id)
def test_a_table_is_measured_on_the_originals(originals, one, tmp_path, monkeypatch, capsys):
    there = [need for need in one.sets if need.original]
    monkeypatch.setattr(fh_ps_aop, "PSFHS_BLOCK", 2)
    kinds = [Kind.FULL if row.images == "all" else Kind.FEW for row in one.run_rows]
    by_title = dict(zip((row.title for row in one.run_rows), kinds, strict=True))
    monkeypatch.setattr(paper_systems, "PaperSystems", lambda *_: lambda making: Copy(by_title[making.row.title]))
    out = tmp_path / one.id
    words = ["evaluate", one.id, "--data", str(originals), "--seconds", "1", "--limit", "1", "--draws", "1"]
    assert main([*words, "--out", str(out), "--sets", *(need.title for need in there)]) == 0
    text = capsys.readouterr().out
    assert "not run on" not in text and "stand-in" not in text.split("Frozen start")[0]
    scores = json.loads((tmp_path / f"{one.id}.json").read_text(encoding="utf-8"))
    measured = [row for row in scores["rows"] if row["run"]]
    objects = sum(len(need.objects) for need in there)
    for row in measured:
        values = [cell["mean"] for cell in row.values() if isinstance(cell, dict) and "mean" in cell]
        assert values == [1.0] * objects, row["row"]
    assert (tmp_path / f"{one.id}.html").is_file()
