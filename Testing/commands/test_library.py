"""The subcommand library: cases that come and go, without a patient's name, and what is said of damaged ones."""

from __future__ import annotations

import json
import zipfile
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest

from library_cases import a_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.library_supports import with_library
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.errors import EXIT_SOME_FAILED
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import write_volume
from ProxyPromptSegmentLib.library.store import SupportLibrary


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two annotated cases of DOE JANE, and a library of its own."""
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(tmp_path / "library"))
    for seed in (1, 2):
        volume, marks = a_case(seed)
        write_volume(tmp_path / f"DOE_{seed}.nrrd", volume)
        write_segmentation(tmp_path / f"DOE_{seed}.seg.nrrd", marks)
    return tmp_path


def add(place, seed, *more):
    return main(["library", "add", str(place / f"DOE_{seed}.nrrd"), str(place / f"DOE_{seed}.seg.nrrd"), *more])


def test_cases_are_added_listed_checked_and_removed(place, capsys):
    assert main(["library", "list"]) == 0 and "has no case" in capsys.readouterr().out
    assert add(place, 1, "--object", "Prostate", "--title", "T2, 3 T", "--slices", "2,3", "--modality", "MR T2") == 0
    assert add(place, 2, "--patient", "DOE JANE") == 0
    capsys.readouterr()
    assert main(["library", "list"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "T2, 3 T: Prostate on 3 slices; MR T2, prompted by slices 2-3, 20x16x6" in first
    assert "Case 1: Prostate on 3 slices, Blase größer on 1 slice" in second and "DOE" not in first + second
    assert main(["library", "check"]) == 0
    assert "T2, 3 T:" in capsys.readouterr().out
    assert main(["library", "remove", "case 1", first.split()[0]]) == 0
    assert SupportLibrary().entries() == [] and "removed Case 1" in capsys.readouterr().out


def test_patients_are_known_by_a_code_alone_and_the_same_case_is_kept_once(place, capsys):
    for seed in (1, 2, 2):
        assert add(place, seed, "--patient", "DOE JANE") == 0
    assert "is in the library already, as 'Case 2'" in capsys.readouterr().err
    first, second = SupportLibrary().entries()
    assert first.patient and first.patient == second.patient
    files = [path for path in (place / "library").rglob("*") if path.is_file()]
    assert files and not any(b"DOE" in path.read_bytes() for path in files)


def test_damaged_cases_are_named_and_can_be_removed(place, capsys):
    add(place, 1), add(place, 2)
    entry = SupportLibrary().entries()[0]
    (entry.folder / "image.nrrd").unlink()
    assert main(["library", "list"]) == 0 and "damaged: image.nrrd" in capsys.readouterr().out
    assert main(["library", "check", "--json"]) == 4
    said = capsys.readouterr()
    results = json.loads(said.out)
    assert [bool(one["problem"]) for one in results] == [True, False] and results[0]["findings"][0]["level"] == "error"
    assert f"1 of 2 cases cannot be used: {entry.id}" in said.err
    assert main(["library", "remove", entry.id]) == 0 and len(SupportLibrary().entries()) == 1


def test_what_speaks_against_a_case_is_said_with_how_much_it_matters(place, capsys):
    volume, marks = a_case(3)
    specks = marks.segments[0].mask.copy()
    specks[2, 0, 0] = specks[4, 15, 19] = 1
    write_volume(place / "DOE_3.nrrd", volume)
    write_segmentation(place / "DOE_3.seg.nrrd", Segmentation([Segment("Prostate", specks)], marks.geometry))
    assert add(place, 3) == 0
    capsys.readouterr()
    assert main(["library", "check"]) == 0
    assert np.any([line.startswith(("  warning: ", "  note: ")) for line in capsys.readouterr().out.splitlines()])


def test_cases_of_the_library_are_supports_of_a_segmentation(desk, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(tmp_path / "shelf"))
    words = [word for word in desk.words("--report", tmp_path / "r.json")]
    at = words.index("--support")
    pair, rest = words[at + 1 : at + 3], words[:at] + words[at + 3 :]
    assert main([*rest, "--library"]) == 4
    assert "has no case that can be used; add annotated cases with `proxyprompt library add`" in capsys.readouterr().err
    assert main(["library", "add", *pair, "--title", "old"]) == 0
    assert main([*words, "--library"]) == 2
    assert main([*rest, "--library"]) == 0
    (support,) = json.loads((tmp_path / "r.json").read_text("utf-8"))["inputs"]["supports"]
    assert support["image"]["path"].startswith(str(tmp_path / "shelf")) and desk.output.is_file()


def test_cases_are_found_by_the_names_that_supports_of_files_are_found_by(place, capsys):
    """A value of a label map, and names with a plus sign, which joins segments behind an equals sign alone."""
    volume, marks = a_case()
    named = [replace(one, name=name) for one, name in zip(marks.segments, ("label 1", "core + rim"), strict=True)]
    (kept := SupportLibrary()).save(volume, replace(marks, segments=named))
    for objects in (("1",), ("Core + Rim",), ("both=1+label 1",), ()):
        request = Request((), place, place, objects=objects)
        found, entries = with_library(request, Namespace(support=[], classes=[], support_slices=[]), Console())
        assert entries == kept.entries() and len(found.supports) == 1, objects
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["remove", "Case 9"], 3, "has no case 'Case 9'; `proxyprompt library list`"),
        (["remove", "same"], 2, "2 cases are called 'same'; give a code: "),
        (["add", "no.nrrd", "no.seg.nrrd"], 3, "no.nrrd does not exist"),
        (["add", "DOE_1.nrrd", "DOE_1.seg.nrrd", "--slices", "70"], 4, "slices [70] do not exist"),
        (["add", "DOE_1.nrrd", "DOE_1.seg.nrrd", "--object", "liver"], 4, "liver"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(place, monkeypatch, capsys, words, code, expected):
    monkeypatch.chdir(place)
    add(place, 1, "--title", "same"), add(place, 2, "--title", "Same")
    capsys.readouterr()
    assert main(["library", *words]) == code
    assert expected in capsys.readouterr().err and len(SupportLibrary().entries()) == 2


def test_the_path_is_printed(place, capsys):
    assert main(["library", "path"]) == 0 and capsys.readouterr().out.strip() == str(place / "library")


def test_a_library_goes_to_another_workplace_as_one_file(place, monkeypatch, capsys):
    add(place, 1, "--title", "Gland", "--patient", "DOE JANE"), add(place, 2)
    file = place / "ours.zip"
    capsys.readouterr()
    assert main(["library", "export", "--output", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"2 cases: {file}, ") and "SHA-256" in said.out
    assert "note: the file holds images of patients" in said.err
    with zipfile.ZipFile(file) as content:
        assert not any(b"DOE" in content.read(name) for name in content.namelist())
        manifest = json.loads(content.read("cases/case-0001/case.json"))
    assert manifest.keys() == {
        "format", "format_version", "id", "title", "objects", "slices", "window", "modality", "axis", "plane",
        "size_ijk", "spacing_mm", "is_rgb", "is_picture", "voxels_sha256", "masks_sha256", "annotator", "saved",
        "program_version", "notes", "patient",
    }, "whatever is added here leaves an institution"  # fmt: skip
    assert main(["library", "export", "--output", str(file)]) == 6
    assert "already exists and is not overwritten" in capsys.readouterr().err
    assert main(["library", "export", "gland", "--output", str(file), "--force", "--json", "--quiet"]) == 0
    said = capsys.readouterr()
    about = json.loads(said.out)
    assert [one["title"] for one in about["cases"]] == ["Gland"] and about["path"] == str(file) and said.err == ""

    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(place / "other"))
    assert main(["library", "import", str(file)]) == 0
    assert "Gland: Prostate on 3 slices" in capsys.readouterr().out
    (there,) = SupportLibrary().entries()
    before = (there.folder / "case.json").read_bytes()
    assert main(["library", "import", str(file), "--json"]) == 0
    said = capsys.readouterr()
    assert [one["already_there"] for one in json.loads(said.out)] == [True]
    assert "'Gland' is skipped: the same case is in the library already" in said.err
    assert (there.folder / "case.json").read_bytes() == before and len(SupportLibrary().entries()) == 1


def test_a_case_whose_title_is_taken_gets_a_number_and_replaces_nothing(place, monkeypatch, capsys):
    add(place, 1, "--title", "Gland")
    assert main(["library", "export", "--output", str(place / "ours.zip")]) == 0
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(place / "other"))
    add(place, 2, "--title", "GLAND")
    capsys.readouterr()
    assert main(["library", "import", str(place / "ours.zip")]) == 0
    assert "another case is called 'Gland' already; the imported one is 'Gland (2)'" in capsys.readouterr().err
    assert [entry.title for entry in SupportLibrary().entries()] == ["GLAND", "Gland (2)"]
    assert main(["library", "check", "Gland (2)"]) == 0


def test_what_cannot_be_imported_or_exported_is_said_and_the_rest_is_imported(place, monkeypatch, capsys):
    assert main(["library", "export", "--output", str(place / "x.zip")]) == 3
    assert "has no case that could be exported" in capsys.readouterr().err
    add(place, 1, "--title", "Gland"), add(place, 2)
    assert main(["library", "export", "--output", str(place / "ours.tar")]) == 6
    assert main(["library", "export", "--output", str(place / "ours.zip")]) == 0
    newer = place / "newer.zip"
    with zipfile.ZipFile(place / "ours.zip") as source, zipfile.ZipFile(newer, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename == "cases/case-0001/case.json":
                data = data.replace(b'"format_version": 1', b'"format_version": 2')
            target.writestr(info, data)
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(place / "other"))
    capsys.readouterr()
    assert main(["library", "import", str(newer)]) == EXIT_SOME_FAILED
    said = capsys.readouterr()
    assert "warning: The case 'case-0001' was not imported" in said.err and "newer version of the program" in said.err
    assert [entry.title for entry in SupportLibrary().entries()] == ["Case 1"]
    (place / "foreign.zip").write_bytes(b"hello")
    assert main(["library", "import", str(place / "foreign.zip")]) == 3
    assert "is not a zip file" in capsys.readouterr().err


def test_ctrl_c_in_an_export_leaves_no_file_and_in_an_import_what_is_done(place, monkeypatch, capsys):
    from signals import SignalAt

    add(place, 1), add(place, 2)
    capsys.readouterr()
    monkeypatch.setattr(
        "ProxyPromptSegmentLib.commands.console.LineProgress", lambda *_: SignalAt(1, stages=("exporting", "importing"))
    )
    assert main(["library", "export", "--output", str(place / "ours.zip")]) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err and not list(place.glob("*ours*"))
    monkeypatch.undo()
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(place / "library"))
    assert main(["library", "export", "--output", str(place / "ours.zip")]) == 0
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(place / "other"))
    monkeypatch.setattr(
        "ProxyPromptSegmentLib.commands.console.LineProgress", lambda *_: SignalAt(1, stages=("exporting", "importing"))
    )
    assert main(["library", "import", str(place / "ours.zip")]) == 130
    assert "the same command imports the rest" in capsys.readouterr().err and len(SupportLibrary().entries()) == 1
