"""Names and places of a cohort: odd names, supports among the studies, folders of others, shares and the library."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from command_cases import a_case, write_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import EXIT_SOME_FAILED
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.library.store import SupportLibrary


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


def test_a_cohort_whose_file_is_damaged_resumes_without_it_and_a_file_of_others_is_left_alone(
    archive, computed, capsys
) -> None:
    assert archive.run() == 0
    file = archive.output / "cohort.json"
    for damaged in ('{"for', file.read_text().replace('"supports": [', '"supports": [3, ')):
        file.write_text(damaged)
        assert archive.run() == 6
        assert "is damaged; remove the file, so that the cohort resumes" in capsys.readouterr().err
    file.unlink()
    assert archive.run() == 0
    assert len(computed) == 3 and "3 done before" in capsys.readouterr().out
    theirs = archive.folder / "theirs"
    theirs.mkdir()
    (theirs / "cohort.json").write_text('{"patients": 3}')
    assert archive.run(output=theirs) == 6
    assert "is another program's" in capsys.readouterr().err and len(list(theirs.iterdir())) == 1


def test_only_what_was_left_of_studies_is_removed_and_nothing_that_another_process_writes(archive) -> None:
    assert archive.run() == 0
    left = archive.output / "results" / ".case2.partial-12345678.seg.nrrd"
    theirs = archive.output / "results" / ".notes.partial-copy"
    for path in (left, theirs):
        path.write_text("half")
    with safe_output(archive.output / "summary.csv") as partial:  # a process that is done with its studies
        partial.write_text("whole")
        archive.add("case9.nrrd", 30)
        assert archive.run() == 0
    assert (archive.output / "summary.csv").read_text() == "whole"
    assert theirs.exists() and not left.exists()


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
    words = [str(word) for word in (*words, "--output", archive.output, "--device", "cpu", "--no-register")]
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
