"""The subcommand ``cohort``: what it makes of many studies, what it does again, and its words."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from cohort_cases import Archive
from command_cases import a_case, write_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import cohort_worker, segment_run
from ProxyPromptSegmentLib.errors import EXIT_SOME_FAILED
from ProxyPromptSegmentLib.imaging import output_files
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.library.store import SupportLibrary


@pytest.fixture
def archive(tmp_path, model) -> Archive:
    return Archive(tmp_path, model)


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The names of the studies that are segmented, in order."""
    found: list[str] = []

    def perform(request, *more, **named):
        found.append(request.target.name)
        return segment_run.perform(request, *more, **named)

    monkeypatch.setattr(cohort_worker, "perform", perform)
    return found


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
    assert len(loads) == len(reads) == 1
    assert archive.run("--no-closer", "--threshold", "0.4", output=archive.folder / "other") == 0
    assert len(prepared) == 2 * slices  # as many for three studies as each time: those of the support


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


# --- what fails ----------------------------------------------------------------------------------------------------


def test_a_study_that_cannot_be_read_is_listed_with_its_reason_and_tried_again_only_on_request(
    archive, computed, capsys
) -> None:
    broken = archive.studies / "broken.nrrd"
    broken.write_bytes(b"NRRD0004\nnot an image")
    (archive.studies / "empty.nii.gz").touch()
    assert archive.run() == EXIT_SOME_FAILED
    said = capsys.readouterr()
    assert re.search(r"warning: broken\.nrrd failed: .*\w+\.", said.err) and "empty.nii.gz failed" in said.err
    assert "3 studies segmented" in said.out and "2 failed" in said.out
    assert [record["attempts"] for record in archive.records("failed")] == [1, 1]
    assert archive.run() == EXIT_SOME_FAILED
    said = capsys.readouterr()
    assert "0 to do, 3 done before, 2 failed before (--retry tries them again)" in said.out
    assert "failed before: broken.nrrd:" in said.err
    assert archive.run("--retry") == EXIT_SOME_FAILED
    assert [record["attempts"] for record in archive.records("failed")] == [2, 2] and len(computed) == 7
    archive.add("broken.nrrd", 40)  # another content is another study
    (archive.studies / "empty.nii.gz").unlink()
    assert archive.run() == 0
    first = archive.rows()[0]
    assert first["state"] != "failed" and "failed" not in archive.page.split("<tbody>")[1]


def test_a_path_that_leads_nowhere_fails_alone(archive, capsys) -> None:
    table = archive.folder / "list.csv"
    table.write_text("id;path\nfirst;studies/case0.nrrd\ngone;studies/nowhere.nrrd\n")
    assert archive.run(studies=table) == EXIT_SOME_FAILED
    assert "gone failed: nowhere.nrrd cannot be read (No such file or directory)" in capsys.readouterr().err
    assert [row["study"] for row in archive.rows()] == ["gone", "first", "first"]
    assert archive.results == [f"first-{archive.records()[0]['key'][:8]}.seg.nrrd"]
    archive.add("nowhere.nrrd", 41)
    assert archive.run("--retry", studies=table) == 0


def test_a_bug_in_one_study_fails_that_study(archive, monkeypatch, capsys) -> None:
    def perform(request, *more, **named):
        if request.target.name == "case1.nrrd":
            raise ZeroDivisionError("oh")
        return segment_run.perform(request, *more, **named)

    monkeypatch.setattr(cohort_worker, "perform", perform)
    assert archive.run() == EXIT_SOME_FAILED
    assert "case1.nrrd failed: internal error (ZeroDivisionError: oh)" in capsys.readouterr().err
    assert len(archive.records()) == 2


def test_a_full_disk_stops_all_and_the_same_command_resumes(archive, monkeypatch, capsys) -> None:
    sync, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(1)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(output_files.os, "fsync", full)
        assert archive.run() == 6
    said = capsys.readouterr()
    assert "No space left on device" in said.err and "the same command resumes there" in said.err
    assert archive.records("failed") == [] and len(archive.records()) < 3
    assert archive.run() == 0 and len(archive.records()) == 3 and archive.leftovers() == []


def test_an_unknown_device_or_object_stops_before_any_study_fails(archive, capsys) -> None:
    assert archive.run("--object", "kidney") == 4
    assert "kidney" in capsys.readouterr().err and not archive.output.exists()
    assert archive.run("--device", "cuda:77") == 8
    assert archive.records("failed") == []


def test_nothing_found_anywhere_has_the_exit_code_of_segment(archive, capsys) -> None:
    for path in archive.studies.iterdir():
        volume, _ = a_case(50, objects=())
        write_volume(path, Volume(volume.array + int(path.stem[4]), volume.geometry))
    assert archive.run() == 9
    assert "in 3 of them nothing was found" in capsys.readouterr().out
    assert {row["state"] for row in archive.rows()} == {"nothing found"}


def test_ctrl_c_keeps_what_is_done(archive, monkeypatch, capsys) -> None:
    def perform(request, console, cancel, *more, **named):
        if request.target.name == "case1.nrrd":
            signal.raise_signal(signal.SIGINT)
        return segment_run.perform(request, console, cancel, *more, **named)

    monkeypatch.setattr(cohort_worker, "perform", perform)
    assert archive.run() == 130
    said = capsys.readouterr()
    assert "stopping after the slice being computed" in said.err and "2 studies not done yet" in said.out
    assert len(archive.records()) == len(archive.results) == 1 and archive.leftovers() == []
    monkeypatch.undo()


# --- names and places ----------------------------------------------------------------------------------------------


def test_names_that_are_equal_not_utf8_or_have_line_breaks_are_kept_apart_and_shown_in_one_line(archive) -> None:
    archive.add("a/scan.nrrd", 20)
    archive.add("b/scan.nrrd", 21)
    odd = archive.studies / "two\nlines & <b>.nrrd"
    shutil.copy(archive.add("plain.nrrd", 22), odd)
    (archive.studies / "plain.nrrd").unlink()
    raw = os.fsdecode(os.fsencode(archive.studies) + b"/M\xfcller.nrrd")
    shutil.copy(archive.studies / "case0.nrrd", raw)
    os.truncate(raw, 100)
    assert archive.run() == EXIT_SOME_FAILED
    names = {row["study"] for row in archive.rows()}
    assert {"a/scan.nrrd", "b/scan.nrrd", "two\\nlines & <b>.nrrd", "M\\xfcller.nrrd"} <= names
    assert sum(name.startswith("scan-") for name in archive.results) == 2
    assert any(re.fullmatch(r"two_lines_b-[0-9a-f]{8}\.seg\.nrrd", name) for name in archive.results)
    assert "two\\nlines &amp; &lt;b&gt;" in archive.page and "<b>.nrrd" not in archive.page
    assert archive.run() == EXIT_SOME_FAILED  # found again, whatever its name


def test_the_support_among_the_studies_is_not_segmented_also_as_a_copy(archive, computed, capsys) -> None:
    shutil.copy(archive.support, archive.studies / "copy.nrrd")
    os.link(archive.marks, archive.studies / "copy.seg.nrrd")
    inside, marks = write_case(archive.studies, "inside", a_case(3))
    words = archive.words()
    words[words.index(str(archive.marks)) + 1 : 0] = ["--support", str(inside), str(marks)]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "copy.nrrd has the content of a support" in said.err and "2 files are taken for annotations" in said.out
    assert sorted(computed) == ["case0.nrrd", "case1.nrrd", "case2.nrrd"]
    states = {row["study"]: row["state"] for row in archive.rows()}
    assert states["copy.nrrd"] == states["inside.nrrd"] == "is a support"


def test_the_output_folder_may_lie_among_the_studies_and_is_never_searched(archive, computed, capsys) -> None:
    inside = archive.studies / "results of today"
    assert archive.run(output=inside) == 0
    assert archive.run(output=inside) == 0
    assert archive.run(output=archive.folder / "others") == 0  # nor by another cohort
    assert len(computed) == 6
    assert archive.run(output=archive.studies) == 6
    assert "is not empty and holds no cohort" in capsys.readouterr().err
    assert archive.run(studies=inside, output=archive.folder / "third") == 3
    assert "holds the results of a cohort" in capsys.readouterr().err


def test_another_cohort_in_the_output_folder_is_refused_in_words(archive, capsys) -> None:
    assert archive.run("--threshold", "0.5") == 0
    before = {path: path.read_bytes() for path in archive.output.rglob("*.json")}
    assert archive.run("--threshold", "0.4") == 2
    assert "holds another cohort, with threshold 0.5 and not 0.4; choose another folder" in capsys.readouterr().err
    write_case(archive.folder, "old", a_case(5))
    assert archive.run() == 2
    assert f"with other supports ({archive.support})" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in archive.output.rglob("*.json")} == before


def test_the_same_supports_from_another_place_are_the_same_cohort(archive, computed) -> None:
    assert archive.run() == 0
    for name in ("old.nrrd", "old.seg.nrrd"):
        shutil.copy(archive.folder / name, archive.folder / f"copied {name}")
    archive.support, archive.marks = (archive.folder / f"copied {name}" for name in ("old.nrrd", "old.seg.nrrd"))
    assert archive.run() == 0 and len(computed) == 3


# --- what a human looks at -----------------------------------------------------------------------------------------


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


# --- shares, the library, classes ----------------------------------------------------------------------------------


def test_shares_split_what_is_open_in_any_order(archive, computed, capsys) -> None:
    for number in range(3, 8):
        archive.add(f"case{number}.nrrd", 10 + number)
    assert archive.run(studies=archive.studies / "case0.nrrd") == 3  # neither a folder nor a table
    assert archive.run("--shard", "2/3") == 0
    assert len(computed) == 3 and "share 2 of 3: 3 to do" in capsys.readouterr().out
    assert archive.run("--shard", "1/3") == 0 and archive.run("--shard", "3/3") == 0
    assert sorted(computed) == [f"case{number}.nrrd" for number in range(8)]
    assert archive.run("--shard", "2/3") == 0 and len(computed) == 8
    archive.add("later.nrrd", 33)
    assert [archive.run("--shard", f"{n}/3") for n in (3, 2, 1)] == [0, 0, 0] and len(computed) == 9
    assert archive.run("--shard", "4/3") == 2


def test_supports_come_from_the_library(archive, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(archive.folder / "library"))
    words = ["cohort", archive.studies, "--library", "--object", "gland", "--model", archive.model]
    words = [str(word) for word in (*words, "--output", archive.output, "--device", "cpu", "--each-slice-alone")]
    assert main(words) == 4
    assert "has no case that can be used" in capsys.readouterr().err
    library = SupportLibrary()
    library.save(*a_case(1), title="first")
    library.save(*a_case(2, objects=("stone",)), title="other")
    assert main(words) == 0
    said = capsys.readouterr()
    assert "the case other: it has no 'gland'; it is left out." in said.err
    assert {row["structure"] for row in archive.rows()} == {"gland"}
    assert "support first" in archive.page
    assert main([*words, "--support", str(archive.support), str(archive.marks)]) == 2


def test_without_support_class_or_studies_it_is_said_what_is_missing(archive, tmp_path, capsys) -> None:
    assert main(["cohort", str(archive.studies), "--output", str(archive.output)]) == 2
    assert "a support is missing" in capsys.readouterr().err
    empty = tmp_path / "nothing"
    empty.mkdir()
    assert archive.run(studies=empty) == 3
    assert "no study was found" in capsys.readouterr().err
    assert archive.run(studies=Path("nowhere")) == 3
    assert not archive.output.exists()


def test_ray_that_is_not_installed_is_said_with_what_to_install(archive, monkeypatch, capsys) -> None:
    from ProxyPromptSegmentLib.commands import cohort_ray

    monkeypatch.setattr(cohort_ray.importlib.util, "find_spec", lambda name: None)
    assert archive.run("--ray") == 2
    assert "--ray needs the Python package Ray" in capsys.readouterr().err and not archive.output.exists()
