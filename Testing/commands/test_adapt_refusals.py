"""Cases that ``adapt`` cannot learn from: named before anything is trained, in one sentence, with an exit code."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from adapt_cases import picture, register_small_model, use_folder, write_case, write_cases
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.training.adapting import objective
from ProxyPromptSegmentLib.training.adapting import run as running

SUPPORT, DEVICE = 4, 8  # exit codes


@pytest.fixture
def clinic(home, monkeypatch) -> Path:
    """A folder with a small model registered as 'small' and two cases; nothing may be embedded or trained."""
    register_small_model(home)
    write_cases(home / "cases", 2)
    monkeypatch.setattr(running.FeatureStore, "embed_sheets", None)
    return home


def adapt(clinic: Path, *more: str) -> int:
    words = ["adapt", "--cases", str(clinic / "cases"), "--out", "mine", "--model", "small", "--steps", "1"]
    return main([*words, "--threads", "1", "--device", "cpu", *more])


def annotate(clinic: Path, name: str, segmentation: Segmentation) -> None:
    write_segmentation(clinic / "cases" / f"{name}.seg.nrrd", segmentation)


def another_grid(clinic: Path) -> None:
    annotation = picture(1)[1]
    geometry = annotation.geometry
    moved = VolumeGeometry(geometry.size_ijk, geometry.spacing_mm, (500.0, 0.0, 0.0))
    annotate(clinic, "patient1", Segmentation(annotation.segments, moved))


def a_damaged_file(clinic: Path) -> None:
    (clinic / "cases" / "patient1.nrrd").write_bytes(b"NRRD0004\nno image")


def the_same_patient(clinic: Path) -> None:
    for ending in ("nrrd", "seg.nrrd"):
        shutil.copy(clinic / "cases" / f"patient0.{ending}", clinic / "cases" / f"patient1.{ending}")


def one_case(clinic: Path) -> None:
    for ending in ("nrrd", "seg.nrrd"):
        (clinic / "cases" / f"patient1.{ending}").unlink()


def empty_masks(clinic: Path) -> None:
    for number in range(2):
        annotation = picture(number)[1]
        empty = [Segment(one.name, np.zeros_like(one.mask)) for one in annotation.segments]
        annotate(clinic, f"patient{number}", Segmentation(empty, annotation.geometry))


def an_object_of_one_case(clinic: Path) -> None:
    write_case(clinic / "cases", "patient1", 1, ("gland", "stone"))


@pytest.mark.parametrize(
    ("spoil", "more", "said"),
    [
        (another_grid, (), ("1 patient is left", "patient1", "--allow-single")),
        (a_damaged_file, (), ("1 patient is left", "patient1")),
        (the_same_patient, (), ("1 patient is left", "patient1 (it has the same image as patient0")),
        (one_case, (), ("1 patient is left", "needs at least two", "--allow-single")),
        (empty_masks, (), ("no object is annotated in every case", "nothing: patient0, patient1")),
        (empty_masks, ("--object", "gland"), ("no case has the object 'gland'", "patient0", "patient1")),
        (an_object_of_one_case, ("--object", "stone"), ("'stone' is annotated in one case only, patient1",)),
    ],
)
def test_what_cannot_be_learned_from_is_named_before_anything_is_computed(clinic, capsys, spoil, more, said):
    spoil(clinic)
    assert adapt(clinic, *more) == SUPPORT
    err = capsys.readouterr().err
    assert "Traceback" not in err and all(words in err for words in said), err
    assert not (clinic / "cache" / "adapting").exists() and not (clinic / "cache" / "mine").exists()


def test_a_case_that_cannot_be_used_is_named_and_the_others_are_learned_from(clinic, capsys, monkeypatch):
    write_case(clinic / "cases", "patient2", 2)
    a_damaged_file(clinic)
    monkeypatch.undo()
    use_folder(monkeypatch, clinic)
    assert adapt(clinic, "--keep-anyway") == 0
    said = capsys.readouterr()
    assert "patient1 is left out:" in said.err and "2 patients, 2 cases" in said.out


def test_memory_that_runs_out_is_said_with_what_helps_and_has_a_code_of_its_own(home, capsys, monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 byte")

    register_small_model(home)
    write_cases(home / "cases", 2)
    monkeypatch.setattr(objective, "prompted_loss", full)
    assert adapt(home) == DEVICE
    err = capsys.readouterr().err
    assert "a step of the training does not fit into the memory" in err and "a smaller --model" in err
    assert "Traceback" not in err


def test_a_reason_that_cases_share_is_named_once(clinic, capsys) -> None:
    assert adapt(clinic, "--object", "kidney") == SUPPORT
    said = capsys.readouterr().err
    assert said.count("no object named 'kidney'") == 1 and "patient0, patient1 (" in said


def test_an_empty_support_library_is_named(home, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(home / "nothing saved"))
    assert main(["adapt", "--library", "--out", "mine"]) == SUPPORT
    said = capsys.readouterr().err
    assert "nothing saved has no case" in said and "give --cases FOLDER" in said
