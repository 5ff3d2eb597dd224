"""Scores are written as they come; a stopped run resumes, and scores of two models never share a file."""

from __future__ import annotations

import json

import pytest

from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.evaluation.broad.records import Record, ScoreFile, Scores

FACTS = {"model": "made", "sha256": "ab", "part": "validation"}


def a_record(case: str, score: float = 0.5) -> Record:
    return Record(
        measure="in context",
        dataset="set",
        object="organ",
        supports=4,
        case=case,
        patient=case,
        score=score,
        slices={"truth": [1, 0], "dice": [0.5, 1.0]},
    )


def test_a_stopped_run_keeps_whole_lines_and_measures_the_cut_one_again(tmp_path):
    path = tmp_path / "deep" / "scores.jsonl"
    file = ScoreFile(path, FACTS)
    file.add(("in context", "one", 4), [a_record("one")])
    file.add(("in context", "two", 4), [a_record("two")])
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert [record.case for record in Scores.read(path).records] == ["one"]
    again = ScoreFile(path, FACTS)
    assert again.has(("in context", "one", 4)) and not again.has(("in context", "two", 4))
    assert again.scores.records == [a_record("one")]
    again.add(("in context", "two", 4), [a_record("two", 0.7)])
    assert ScoreFile(path, FACTS).scores.records == [a_record("one"), a_record("two", 0.7)]


def test_nothing_is_lost_where_a_second_stop_comes_while_the_file_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "scores.jsonl"
    ScoreFile(path, FACTS).add(("in context", "one", 4), [a_record("one")])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"unit": "cut')

    def stopped(self, *_, **__):
        self.open("w").close()
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "write_text", stopped)
    held = path.stat().st_ino
    assert ScoreFile(path, FACTS).scores.records == [a_record("one")]
    assert path.read_bytes() == whole and path.stat().st_ino == held  # so its lock is still the one that others see


def test_facts_are_compared_as_they_are_written(tmp_path):
    facts = {**FACTS, "calibration": {"presence": (1.0, 2.0)}}
    ScoreFile(tmp_path / "s.jsonl", facts).add(("one",), [a_record("one")])
    assert ScoreFile(tmp_path / "s.jsonl", facts).has(("one",))
    with pytest.raises(OutputError, match="calibration"):
        ScoreFile(tmp_path / "s.jsonl", {**FACTS, "calibration": {"presence": (1.0, 3.0)}})


def test_a_unit_without_records_is_remembered_as_done(tmp_path):
    ScoreFile(tmp_path / "s.jsonl", FACTS).add(("too few supports", 8), [])
    assert ScoreFile(tmp_path / "s.jsonl", FACTS).has(("too few supports", 8))


@pytest.mark.parametrize("changes", [{"sha256": "cd"}, {"part": "test"}])
def test_scores_of_another_model_or_part_are_not_mixed(tmp_path, changes):
    ScoreFile(tmp_path / "s.jsonl", FACTS)
    with pytest.raises(OutputError, match=f"{next(iter(changes))} .*choose another file"):
        ScoreFile(tmp_path / "s.jsonl", {**FACTS, **changes})


def test_a_finished_file_reads_back_and_anything_else_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "scores.json"
    scores = Scores(facts=FACTS, records=[a_record("one")])
    path.write_text(json.dumps(scores.to_dict()), encoding="utf-8")
    assert Scores.read(path) == scores
    later = scores.to_dict()
    later["records"][0]["a later field"] = 1
    path.write_text(json.dumps(later), encoding="utf-8")
    assert Scores.read(path) == scores, "a later version may write more"
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(InputError, match="holds no scores"):
        Scores.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        Scores.read(tmp_path / "none.json")
    (tmp_path / "notes.jsonl").write_text("notes\n", encoding="utf-8")
    with pytest.raises(OutputError, match="is no file of scores"):
        ScoreFile(tmp_path / "notes.jsonl", FACTS)
