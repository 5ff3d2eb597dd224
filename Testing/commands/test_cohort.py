"""The subcommand ``cohort``: what it makes of many studies, what it does again, and what a human sees."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import a_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import cohort_worker, segment_run
from ProxyPromptSegmentLib.errors import EXIT_SOME_FAILED
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import write_volume
from ProxyPromptSegmentLib.inference import loading


def test_each_study_gets_a_result_a_report_and_a_record_as_segment_gives_them(archive, capsys) -> None:
    assert archive.run() == 0
    said = capsys.readouterr()
    assert "3 studies in" in said.out and "3 to do" in said.out and "3 studies segmented in" in said.out
    assert "Research use only" in said.out and said.err == ""
    records = archive.records()
    assert [record["study"] for record in sorted(records, key=lambda one: one["study"])] == [
        "case0.nrrd", "case1.nrrd", "case2.nrrd",
    ]  # fmt: skip
    for record in records:
        seed = 10 + int(record["study"][4])
        found = read_segmentation(archive.output / record["result"])
        for segment, truth in zip(found.segments, a_case(seed)[1].segments, strict=True):
            assert dice(truth.mask, segment.mask) > 0.9
        report = json.loads((archive.output / record["report"]).read_text("utf-8"))
        assert report["inputs"]["target"]["sha256"] == record["input_sha256"]
        assert [one["name"] for one in record["objects"]] == ["gland", "stone"]
        assert (archive.output / record["thumbnail"]).read_bytes().startswith(b"\xff\xd8\xff")
    alone = archive.folder / "alone.seg.nrrd"
    words = ["segment", "--support", archive.support, archive.marks, "--model", archive.model, "--output", alone]
    words += ["--target", archive.studies / "case0.nrrd", "--device", "cpu", "--each-slice-alone", "--no-register"]
    assert main([str(word) for word in words]) == 0
    (first,) = [record for record in records if record["study"] == "case0.nrrd"]
    for one, other in zip(
        read_segmentation(alone).segments, read_segmentation(archive.output / first["result"]).segments, strict=True
    ):
        np.testing.assert_array_equal(one.mask, other.mask)
    assert archive.leftovers() == []


@pytest.mark.cold
def test_model_and_supports_are_loaded_and_prepared_once(archive, monkeypatch) -> None:
    loads, reads, prepared = [], [], []
    load, read = loading.load, segment_run.read_support_case
    monkeypatch.setattr(loading, "load", lambda *args, **more: loads.append(1) or load(*args, **more))
    monkeypatch.setattr(segment_run, "read_support_case", lambda *args: reads.append(1) or read(*args))
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    prepare = Segmenter.prepare_embedded
    monkeypatch.setattr(Segmenter, "prepare_embedded", lambda *args: prepared.append(1) or prepare(*args))
    assert archive.run("--no-closer") == 0
    slices = len(prepared)
    assert len(loads) == len(reads) == 1 and slices > 0
    for name in ("case1.nrrd", "case2.nrrd"):
        (archive.studies / name).unlink()
    assert archive.run("--no-closer", output=archive.folder / "other") == 0
    assert len(prepared) == 2 * slices  # as many for three studies as for one: the slices of the support


def test_what_is_done_is_not_done_again_and_what_is_new_is(archive, computed, capsys) -> None:
    assert archive.run() == 0
    before = {path: path.stat().st_mtime_ns for path in (archive.output / "records").iterdir()}
    assert archive.run() == 0
    assert "0 to do, 3 done before" in capsys.readouterr().out
    archive.add("later/case7.nrrd", 17)
    assert archive.run() == 0
    assert computed == ["case0.nrrd", "case1.nrrd", "case2.nrrd", "case7.nrrd"]
    assert before.items() <= {path: path.stat().st_mtime_ns for path in (archive.output / "records").iterdir()}.items()


def test_a_study_that_was_moved_or_touched_is_known_by_its_content(archive, computed) -> None:
    assert archive.run() == 0
    (archive.studies / "elsewhere").mkdir()
    (archive.studies / "case1.nrrd").rename(archive.studies / "elsewhere" / "renamed.nrrd")
    os.utime(archive.studies / "case0.nrrd")
    assert archive.run() == 0 and len(computed) == 3
    assert {row["study"] for row in archive.rows()} == {"case0.nrrd", "case2.nrrd", "elsewhere/renamed.nrrd"}


def test_a_study_that_changes_between_two_runs_is_done_again_and_its_old_result_stays(archive, computed) -> None:
    assert archive.run() == 0
    archive.add("case1.nrrd", 30)
    assert archive.run() == 0
    assert computed == ["case0.nrrd", "case1.nrrd", "case2.nrrd", "case1.nrrd"]
    assert len(archive.results) == 4 and len({row["study"] for row in archive.rows()}) == 3


def test_a_study_that_changes_while_it_is_computed_is_not_recorded(archive, monkeypatch, capsys) -> None:
    def perform(request, *more, **named):
        report = segment_run.perform(request, *more, **named)
        if request.target.name == "case1.nrrd":
            archive.add("case1.nrrd", 31)
        return report

    monkeypatch.setattr(cohort_worker, "perform", perform)
    assert archive.run() == 0
    said = capsys.readouterr()
    assert "case1.nrrd changed while it was being computed" in said.err and "1 study not done yet" in said.out
    assert len(archive.records()) == len(archive.results) == 2


def test_a_result_that_was_deleted_is_made_again(archive, computed) -> None:
    assert archive.run() == 0
    (archive.output / archive.records()[0]["result"]).unlink()
    assert archive.run() == 0 and len(computed) == 4 and len(archive.results) == 3


def test_the_page_and_the_table_begin_with_what_to_look_at_first(archive) -> None:
    volume, _ = a_case(50, objects=())
    write_volume(archive.studies / "bare.nrrd", volume)
    write_volume(archive.studies / "half.nrrd", a_case(51, objects=("gland",))[0])
    (archive.studies / "broken.nrrd").write_bytes(b"NRRD0004\n")
    assert archive.run() == EXIT_SOME_FAILED
    studies = list(dict.fromkeys(row["study"] for row in archive.rows()))
    assert studies[:3] == ["broken.nrrd", "bare.nrrd", "half.nrrd"]
    sure = [float(row["mean confidence"]) for row in archive.rows() if row["state"] == "done"]
    assert len(sure) == 6 and sure[1::2] == sorted(sure[1::2])
    places = [archive.page.index(f"<b>{name}</b>") for name in studies]
    assert places == sorted(places)
    assert not re.search(r"https?:|//|<script|url\(", archive.page.replace("<!doctype", ""))
    for link in re.findall(r'(?:src|href)="([^"]+)"', archive.page):
        assert (archive.output / link).is_file()
    gland = next(row for row in archive.rows() if row["structure"] == "gland" and row["state"] == "done")
    assert float(gland["volume [ml]"]) > 0 and int(gland["slices"]) > 1


def test_progress_counts_studies(archive, capsys) -> None:
    assert archive.run("--progress") == 0
    assert re.search(r"segmenting studies \[.*\] study 3 of 3", capsys.readouterr().err)


def test_quiet_says_nothing(archive, capsys) -> None:
    assert archive.run("--quiet") == 0
    assert capsys.readouterr() == ("", "")
