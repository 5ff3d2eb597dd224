"""Paths that do not exist: the message offers the name that was meant, or says what is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.imaging.output_files import check_output_path
from ProxyPromptSegmentLib.imaging.paths import not_there
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.support.case_files import find_cases


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("Müller 1", "Müller 1.nii.gz"),
        ("Müller 1.nrrd", "Müller 1.nii.gz"),
        ("müller 1.nii.gz", "Müller 1.nii.gz"),
        ("Muller 1.nii.gz", "Müller 1.nii.gz"),
        ("case", "case.nrrd or case.seg.nrrd"),
        ("case.nii", "case.nrrd or case.seg.nrrd"),
    ],
)
def test_a_missing_or_wrong_suffix_and_a_misspelt_name_are_recognized(tmp_path: Path, asked: str, offered: str) -> None:
    for name in ("Müller 1.nii.gz", "case.nrrd", "case.seg.nrrd", ".hidden.nrrd", "unlike.png"):
        (tmp_path / name).touch()
    assert not_there(tmp_path / asked, "an image") == f"{tmp_path / asked} does not exist; did you mean {offered}?"


def test_a_file_of_another_patient_is_not_offered(tmp_path: Path) -> None:
    for name in ("patient012_t2w.nii.gz", "patient013_t2.nii.gz"):
        (tmp_path / name).touch()
    assert "did you mean" not in not_there(tmp_path / "patient014_t2w.nii.gz", "an image")
    assert not_there(tmp_path / "patient013_t2w.nii.gz", "an image").endswith("did you mean patient013_t2.nii.gz?")


def test_without_a_name_like_it_the_missing_folder_and_what_is_wanted_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert not_there(tmp_path / "other.nrrd", "an image").endswith("other.nrrd does not exist; give an image.")
    lost = tmp_path / "no" / "folder"
    with pytest.raises(InputError, match=f"because there is no folder {lost.parent}; give an image file"):
        read_volume(lost / "a.nrrd")


def test_the_command_line_offers_the_name_that_was_meant(tmp_path: Path, capsys) -> None:
    (tmp_path / "new.nii.gz").touch()
    words = ["segment", "--class", "heart", "--target", str(tmp_path / "new"), "--output", str(tmp_path / "r.seg.nrrd")]
    assert main(words) == 3
    assert "did you mean new.nii.gz?" in capsys.readouterr().err


def test_a_file_in_place_of_a_folder_of_cases_is_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "p1.png").touch()
    with pytest.raises(InputError, match="p1.png is a file; give the folder that holds annotated cases"):
        find_cases(tmp_path / "p1.png")


@pytest.mark.parametrize("name", [".", "results"])
def test_a_folder_in_place_of_an_output_is_called_a_folder(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    with pytest.raises(OutputError, match=r"is a folder; give the name of a file in it, which ends in .png or .mha"):
        check_output_path(Path(name), (".png", ".mha"))


def test_no_suffix_is_named_among_the_suffixes_where_it_means_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"allowed: .mha, or none for a new folder of pictures\.$"):
        check_output_path(tmp_path / "a.mp4", (".mha", ""))
    with pytest.raises(OutputError, match=r"allowed: .png, .mha\.$"):
        check_output_path(tmp_path / "a.mp4", (".png", ".mha"))


def test_a_link_to_nothing_is_called_one_and_not_offered_itself(tmp_path: Path) -> None:
    link = tmp_path / "case.nrrd"
    link.symlink_to(tmp_path / "moved.nrrd")
    with pytest.raises(InputError, match=r"case.nrrd is a link to .*moved.nrrd, which does not exist; give an image"):
        read_volume(link)
