"""``evaluate broad`` and ``evaluate compare`` from the command line, with the embedded model."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from broad_cases import BroadFolder, spots, square
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import evaluate_broad
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.support.pairs import MOST_READ


@pytest.fixture
def folder(tmp_path, monkeypatch) -> BroadFolder:
    monkeypatch.setitem(splits.COUNTS, "promise12", (3, 1))
    made = BroadFolder(tmp_path / "data")
    for n in range(5):
        made.add_volume("promise12", f"case{n}", square(seed=n))
    for n in range(8):
        made.add_picture("toy", f"i{n}", spots((200,), n), "1 cell", "test" if n > 5 else "train")
    return made


@pytest.mark.slow
def test_a_model_is_measured_written_and_put_beside_another(folder, tmp_path, capsys):
    out = tmp_path / "results" / "mine"
    words = ["evaluate", "broad", "--data", str(folder.path), "--supports", "1", "2", "--device", "cpu", "--part"]
    assert main([*words, "test", "--sets", "promise12", "toy", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "### In context" in shown and "### Mask followed" in shown and "mean over sets" in shown
    written = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert written["facts"]["model"] == "sam-compact" and len(written["facts"]["sha256"]) == 64
    assert written["facts"]["most_read"] == MOST_READ
    assert written["facts"]["part"] == "test" and len(written["choice"]["sets"]) == 2
    assert {record["supports"] for record in written["records"]} == {1, 2}
    assert out.with_suffix(".md").read_text(encoding="utf-8") == shown
    assert main(["evaluate", "compare", "--tables", str(out.with_suffix(".json")), str(out) + ".jsonl"]) == 0
    assert "| +0.000 [n = " in capsys.readouterr().out, "of so few patients no interval is shown"


def test_tables_of_others_are_not_replaced_and_nobody_else_measures_into_a_file(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "mine"
    words = ["evaluate", "broad", "--data", str(folder.path), "--device", "cpu", "--out", str(out)]

    def measured(*_):
        pytest.importorskip("fcntl")
        monkeypatch.setattr(evaluate_broad, "measure", lambda *_: None)
        assert main(words) == 6  # a second program, while the first one measures
        assert "another program is measuring" in capsys.readouterr().err

    monkeypatch.setattr(evaluate_broad, "measure", measured)
    for theirs in (tmp_path / "mine.md", tmp_path / "mine.json"):
        theirs.write_text("theirs")
        assert main(words) == 6 and "already exists" in capsys.readouterr().err
        assert theirs.read_text() == "theirs" and not (tmp_path / "mine.jsonl").exists()
        theirs.unlink()
    assert main(words) == 0
    assert main(words) == 0  # it resumes, and writes its own table again
    table = [str(tmp_path / "mine.json")]
    assert main(["evaluate", "compare", "--tables", *table, "--out", str(out)]) == 6
    assert main(["evaluate", "compare", "--tables", *table, "--out", str(out), "--force"]) == 0


def test_each_slice_reads_as_many_supports_as_in_every_run_of_the_program(folder, monkeypatch):
    read = []
    monkeypatch.setattr(evaluate_broad, "measure", lambda segmenter, *rest: read.append(segmenter.most_read))
    assert main(["evaluate", "broad", "--data", str(folder.path), "--supports", "8", "--device", "cpu"]) == 0
    assert read == [MOST_READ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["broad"], "--data is missing"),
        (["broad", "--data", "DATA", "--sets", "toys"], "there is no data set 'toys'"),
        (["broad", "--data", "DATA", "--measures", "speed"], "there is no measurement 'speed'"),
        (["broad", "--data", "DATA", "--limit", "0"], "--limit is 0; at least 1"),
        (["promise12", "--data", "DATA", "--supports", "1", "4"], "only 'evaluate broad' takes more than one"),
        (["broad", "--data", "DATA", "--measures", "baselines", "--trunk", "none.whl"], "none.whl does not hold the"),
        (["compare"], "--tables is missing"),
        (["compare", "--tables", "none.json"], "none.json cannot be read"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(folder, capsys, words, sentence):
    assert main(["evaluate", *(str(folder.path) if word == "DATA" else word for word in words)]) in (2, 3, 7)
    assert sentence in capsys.readouterr().err
