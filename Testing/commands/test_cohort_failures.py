"""What the subcommand ``cohort`` does about studies that fail, and about what fails them all."""

from __future__ import annotations

import errno
import os
import re
import signal

import pytest

pytest.importorskip("torch")

from command_cases import a_case
from ProxyPromptSegmentLib.cohort.writing import readable_folder
from ProxyPromptSegmentLib.commands import cohort_worker, segment_run
from ProxyPromptSegmentLib.errors import EXIT_SOME_FAILED, OutputError
from ProxyPromptSegmentLib.imaging import output_files
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume


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


def test_a_result_whose_report_finds_no_space_is_not_said_to_be_kept(archive, monkeypatch, capsys) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OutputError("the report could not be written: no space left.")

    with monkeypatch.context() as patch:
        patch.setattr(segment_run, "write_report", full)
        assert archive.run() == 6
    said = capsys.readouterr().err
    assert "no space left" in said and "complete before" not in said and archive.results == []


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


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "or free some space there"), (errno.EACCES, "or change its permissions")]
)
def test_a_folder_that_cannot_be_used_is_refused_with_what_helps(tmp_path, number, advice) -> None:
    with pytest.raises(OutputError, match=advice), readable_folder(tmp_path):
        raise OSError(number, os.strerror(number))
