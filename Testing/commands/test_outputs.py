"""Outputs of several programs at once, what killed ones left, and values and names that get through to the result."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import DONE
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import segment_run, track_run
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging import partial_files
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from track_cases import read_frames

THEIRS = b"of another program"


def meanwhile(monkeypatch, module, path) -> None:
    """Another program writes a file while the network computes."""
    run = module.run_task

    def slow(*words, **more):
        found = run(*words, **more)
        path.write_bytes(THEIRS)
        return found

    monkeypatch.setattr(module, "run_task", slow)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--output", "mask.seg.nrrd"), ("--output", "mask.nii.gz"), ("--output", "mask.nrrd"),
        ("--preview", "look.png"), ("--report", "said.json"),
    ],
)  # fmt: skip
def test_segment_replaces_nothing_that_appeared_meanwhile(desk, monkeypatch, capsys, option, name) -> None:
    path = desk.folder / name
    meanwhile(monkeypatch, segment_run, path)
    words = desk.words(output=path) if option == "--output" else desk.words(option, path)
    assert main(words) == 6
    assert "already exists and is not overwritten" in capsys.readouterr().err
    assert path.read_bytes() == THEIRS and not list(desk.folder.glob(".*partial*"))
    assert main([*words, "--force"]) in DONE
    assert path.read_bytes() != THEIRS


@pytest.mark.parametrize("name", ["output", "table", "overlay", "report"])
def test_track_replaces_nothing_that_appeared_meanwhile(track_desk, monkeypatch, capsys, name) -> None:
    path = getattr(track_desk, name)
    meanwhile(monkeypatch, track_run, path)
    assert main(track_desk.all_words()) == 6
    assert "already exists and is not overwritten" in capsys.readouterr().err
    assert path.read_bytes() == THEIRS and not list(track_desk.folder.glob(".*partial*"))


def test_track_fills_no_folder_that_appeared_meanwhile(track_desk, monkeypatch, capsys) -> None:
    folder = track_desk.folder / "masks"
    run = track_run.run_task

    def slow(*words, **more):
        found = run(*words, **more)
        folder.mkdir()
        (folder / "theirs.png").write_bytes(THEIRS)
        return found

    monkeypatch.setattr(track_run, "run_task", slow)
    assert main(track_desk.words(output=folder)) == 6
    assert [path.name for path in folder.iterdir()] == ["theirs.png"]
    assert not list(track_desk.folder.glob(".*partial*"))


def test_of_several_programs_one_gets_the_name_of_an_output(tmp_path, monkeypatch) -> None:
    for links in (True, False):  # a file system may have none
        path = tmp_path / f"{links}.nrrd"
        if not links:
            monkeypatch.delattr(os, "link")
        with pytest.raises(OutputError, match="already exists and is not overwritten"):
            with safe_output(path, replace=False) as first:
                first.write_bytes(b"1")
                with safe_output(path, replace=False) as second:
                    second.write_bytes(b"2")
        assert path.read_bytes() == b"2" and not list(tmp_path.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_what_a_killed_run_left_of_an_output_is_removed_by_the_next_one_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "a [1].seg.nrrd"
    left, lives, foreign, fresh = (
        tmp_path / name
        for name in (
            ".a [1].partial-0123abcd.seg.nrrd", ".a [1].partial-1123abcd.seg.nrrd", ".b.partial-0123abcd.seg.nrrd",
            ".a [1].partial-2123abcd.seg.nrrd",
        )
    )  # fmt: skip
    for one in (left, foreign, fresh):
        one.write_bytes(b"half a mask")
    with partial_files.held(lives):
        for one in (left, foreign, lives):
            os.utime(one, (0, 0))
        with safe_output(path) as partial:
            partial.write_bytes(b"whole")
        assert lives.exists()
    assert {one.name for one in tmp_path.iterdir()} == {path.name, lives.name, foreign.name, fresh.name}


def test_the_values_of_labels_survive_tracking(track_desk, capsys) -> None:
    from PIL import Image

    marks = np.asarray(Image.open(track_desk.marks))
    odd = track_desk.folder / "odd.png"
    Image.fromarray((marks * 7 + 2 * (marks > 0)).astype(np.uint8)).save(odd)  # 1 and 2 become 9 and 16
    for name in ("m.nii.gz", "m.seq.nrrd", "m.seg.nrrd", "m"):
        output = track_desk.folder / name
        assert main(track_desk.words(output=output, support=(track_desk.support, odd))) == 0, capsys.readouterr().err
        assert np.unique(read_frames(output)).tolist() == [0, 9, 16], name
    said = (track_desk.folder / "m.seq.nrrd").read_bytes()
    assert b"Label9_Name:=label 9" in said and b"Label16_Name:=label 16" in said
    assert b"LabelValue:=16" in (track_desk.folder / "m.seg.nrrd").read_bytes()
