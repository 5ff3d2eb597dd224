"""What the command line refuses: exit codes, one sentence each, and nothing left behind."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import SimpleITK as sitk
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from command_cases import DONE, GRID, Desk
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import segment_run
from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.worker import segment_task


def _write(path: Path, array: np.ndarray, geometry: VolumeGeometry = GRID) -> Path:
    image = sitk.GetImageFromArray(array)
    if array.ndim == 3:
        image.SetSpacing(geometry.spacing_mm)
        image.SetOrigin(geometry.origin_lps)
    sitk.WriteImage(image, str(path))
    return path


def _with_value(desk: Desk, value: float) -> Path:
    array = desk.truth[0].array.copy()
    array[2, 5, 5] = value
    return _write(desk.folder / "bad.nrrd", array)


def _in_time(path: Path) -> Path:
    frames = [sitk.GetImageFromArray(np.random.default_rng(n).random((4, 12, 12))) for n in range(3)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(path))
    return path


def _text(path: Path) -> Path:
    path.write_text("this is no image", encoding="utf-8")
    return path


def _marks(desk: Desk, array: np.ndarray, geometry: VolumeGeometry = GRID) -> dict[str, object]:
    return {"support": (desk.support, _write(desk.folder / "bad_mask.nii.gz", array.astype(np.uint8), geometry))}


def _empty_segment(desk: Desk) -> dict[str, object]:
    path = desk.folder / "empty.seg.nrrd"
    write_segmentation(path, Segmentation([Segment("gland", np.zeros(GRID.shape_kji, np.uint8))], GRID))
    return {"support": (desk.support, path)}


def _small_picture(desk: Desk) -> dict[str, object]:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[4:9, 4:9] = 1
    return {"support": (_write(desk.folder / "p.png", picture), _write(desk.folder / "m.png", mask))}


OTHER_GRID = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, (0.3, 0.1, 0.2))
BAD = {
    "a missing target": (lambda d: {"target": d.folder / "no.nrrd"}, [], 3, "does not exist"),
    "a missing mask": (lambda d: {"support": (d.support, d.folder / "no.seg.nrrd")}, [], 3, "does not exist"),
    "a text as target": (lambda d: {"target": _text(d.folder / "t.nrrd")}, [], 3, "t.nrrd"),
    "a text as mask": (lambda d: {"support": (d.support, _text(d.folder / "t.seg.nrrd"))}, [], 3, "t.seg.nrrd"),
    "a target with NaN": (lambda d: {"target": _with_value(d, np.nan)}, [], 3, "NaN"),
    "a target with infinity": (lambda d: {"target": _with_value(d, np.inf)}, [], 3, "infinite"),
    "a constant target": (
        lambda d: {"target": _write(d.folder / "c.nrrd", np.full(GRID.shape_kji, 7.0))}, [], 3, "same intensity"
    ),
    "a target in time": (
        lambda d: {"target": _in_time(d.folder / "t.nrrd")}, [], 3, "dimensions"
    ),
    "an empty segment": (_empty_segment, [], 4, "choose another"),
    "an empty label map": (lambda d: _marks(d, np.zeros(GRID.shape_kji)), [], 4, "Choose another"),
    "a mask of another size": (
        lambda d: _marks(d, np.ones((4, 20, 20)), VolumeGeometry((20, 20, 4), (2, 2, 2))), [], 4, "differs in size"
    ),
    "a mask picture of another size": (_small_picture, [], 4, "32x32"),
    "a mask on another grid": (lambda d: _marks(d, np.ones(GRID.shape_kji), OTHER_GRID), [], 5, "another grid"),
    "a truth on another grid": (
        lambda d: {}, ["--truth", lambda d: _moved_truth(d)], 5, "another grid"
    ),
    "a truth without the object": (lambda d: {}, ["--truth", lambda d: _two_labels(d)], 2, "no segment named 'gland'"),
    "an unknown object": (lambda d: {}, ["--object", "liver"], 4, "it has 'gland', 'stone'"),
    "a support slice without marks": (lambda d: {}, ["--support-slices", "0"], 4, "1-4"),
    "support slices for one of two": (
        lambda d: {}, ["--support", lambda d: d.support, lambda d: d.marks, "--support-slices", "2"], 2, "once for each"
    ),
    "a slice beyond the target": (lambda d: {}, ["--slices", "3:9"], 2, "0 to 5"),
    "slices in words": (lambda d: {}, ["--slices", "some"], 2, "5:20"),
    "slices backwards": (lambda d: {}, ["--slices", "5:2"], 2, "must not be above"),
    "a threshold of 2": (lambda d: {}, ["--threshold", "2"], 2, "above 0, below 1"),
    "an unknown device": (lambda d: {}, ["--device", "tpu"], 2, "auto, cpu, cuda"),
    "an unknown axis": (lambda d: {}, ["--axis", "z"], 2, "'auto', 'k', 'j', 'i'"),
    "an axis that leaves stripes": (lambda d: {}, ["--axis", "j"], 2, "6x64"),
    "no support": (lambda d: {"support": ()}, [], 2, "--support"),
    "an output without a known suffix": (lambda d: {"output": d.folder / "r.txt"}, [], 6, ".seg.nrrd"),
    "an output in no folder": (lambda d: {"output": d.folder / "no" / "r.seg.nrrd"}, [], 6, "does not exist"),
    "a report in no folder": (lambda d: {}, ["--report", lambda d: d.folder / "no" / "r.json"], 6, "does not exist"),
    "a preview of another kind": (lambda d: {}, ["--preview", lambda d: d.folder / "p.bmp"], 6, ".png"),
    "a picture of a volume": (lambda d: {"output": d.folder / "r.png"}, [], 6, "one slice"),
    "two outputs in one file": (
        lambda d: {"output": d.folder / "r.png"}, ["--preview", lambda d: d.folder / "r.png"], 2, "also the file of"
    ),
    "an unknown model": (lambda d: {"model": "sam-huge"}, [], 7, "there is no model 'sam-huge'"),
    "a missing checkpoint": (lambda d: {"model": d.folder / "no.safetensors"}, [], 7, "no checkpoint"),
    "a pickled checkpoint": (lambda d: {"model": _text(d.folder / "m.pth")}, [], 7, "refused"),
}  # fmt: skip


def _moved_truth(desk: Desk) -> Path:
    return _write(desk.folder / "moved.nii.gz", np.ones(GRID.shape_kji, np.uint8), OTHER_GRID)


def _two_labels(desk: Desk) -> Path:
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[2, 5:9, 5:9], array[3, 5:9, 5:9] = 1, 2
    return _write(desk.folder / "two.nii.gz", array)


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_sentence_before_the_network_is_loaded(desk, no_model, capsys, what) -> None:
    change, more, code, words = BAD[what]
    options = [str(word(desk)) if callable(word) else word for word in more]
    call = desk.words(*options, **change(desk))
    before = desk.files()
    assert main(call) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.err.startswith("proxyprompt")
    assert said.out == ""
    assert desk.files() == before


@pytest.mark.parametrize("option", ["--output", "--report", "--preview"])
def test_an_existing_result_is_neither_replaced_nor_touched_without_force(desk, capsys, option) -> None:
    path = {"--output": desk.output, "--report": desk.folder / "r.json", "--preview": desk.folder / "p.png"}[option]
    path.write_bytes(b"mine")
    more = [] if option == "--output" else [option, path]
    assert main(desk.words(*more)) == 6
    assert "--force" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"
    assert main(desk.words(*more, "--force")) == 0
    assert path.read_bytes() != b"mine"


def test_an_input_is_never_replaced_even_with_force(desk, capsys) -> None:
    before = desk.marks.read_bytes()
    assert main(desk.words("--force", output=desk.marks)) == 2
    assert "is also an input" in capsys.readouterr().err
    assert desk.marks.read_bytes() == before


def test_a_result_that_appears_during_the_work_is_kept(desk, monkeypatch, capsys) -> None:
    run = segment_task.segment

    def slow(*args: object) -> object:
        desk.output.write_bytes(b"somebody else's")
        return run(*args)

    monkeypatch.setattr(segment_task, "segment", slow)
    assert main(desk.words()) == 6
    assert desk.output.read_bytes() == b"somebody else's"


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(desk, closed_folder, no_model, capsys) -> None:
    assert main(desk.words(output=closed_folder / "r.seg.nrrd")) == 6
    assert "may not be written" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_refused_before_the_work(desk, no_model, capsys) -> None:
    assert main(desk.words(output=desk.support / "r.seg.nrrd")) == 6
    assert str(desk.support) in capsys.readouterr().err


def test_a_result_that_is_complete_is_named_where_its_picture_cannot_be_written(desk, monkeypatch, capsys) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("p.png could not be written: No space left on device.")

    monkeypatch.setattr(segment_run, "write_preview", full)
    assert main(desk.words("--preview", desk.folder / "p.png")) == 6
    assert f"No space left on device. {desk.output} was complete before and is kept." in capsys.readouterr().err
    assert desk.output.is_file()


def test_a_full_disk_leaves_no_file_and_keeps_the_older_one(desk, full_disk, capsys) -> None:
    desk.output.write_bytes(b"older")
    before = desk.files()
    assert main(desk.words("--force")) == 6
    assert "No space left" in capsys.readouterr().err
    assert desk.files() == before
    assert desk.output.read_bytes() == b"older"


def test_a_device_that_is_not_there_is_named(desk, capsys) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    assert main([*desk.words(), "--device", "cuda"]) == 8
    assert "cuda" in capsys.readouterr().err
    assert not desk.output.exists()


def test_a_damaged_checkpoint_is_refused(desk, monkeypatch, capsys) -> None:
    monkeypatch.undo()  # the double steps aside
    assert main(desk.words()) == 7
    assert "cannot be read as a checkpoint" in capsys.readouterr().err
    assert not desk.output.exists()


def test_a_model_that_was_replaced_after_it_was_used_is_refused(desk, random_checkpoint, monkeypatch, capsys) -> None:
    """Its file is a whole checkpoint of the same size: only its hash tells that it is not the registered one."""
    monkeypatch.undo()  # the double steps aside
    folder = desk.folder / "models"
    folder.mkdir()
    file = folder / "m.safetensors"
    file.write_bytes(random_checkpoint.read_bytes())
    entry = {"name": "m", "file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (folder / "registry.json").write_text(json.dumps({"format": 1, "models": [entry]}), encoding="utf-8")
    monkeypatch.setattr(registry, "models_folder", lambda: folder)
    words = desk.words("--slices", "2", "--quiet", model="m")
    assert main(words) in DONE
    desk.output.unlink()
    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    size = file.stat().st_size
    changed = {n: 1.01 * t if t.is_floating_point() else t for n, t in load_file(file).items()}
    save_file(changed, file, metadata)
    assert file.stat().st_size == size
    assert main(words) == 7
    assert "SHA-256" in capsys.readouterr().err
    assert not desk.output.exists()
    file.unlink()
    assert main(words) == 7 and not desk.output.exists()


def test_a_registered_model_with_another_hash_is_refused(desk, no_model, capsys) -> None:
    folder = registry.models_folder()
    (folder / "m.safetensors").write_bytes(b"changed")
    entry = {"name": "m", "file": "m.safetensors", "sha256": "0" * 64}
    (folder / "registry.json").write_text(json.dumps({"format": 1, "models": [entry]}), encoding="utf-8")
    assert main(desk.words(model="m")) == 7
    assert "SHA-256" in capsys.readouterr().err


def test_a_fault_of_the_program_is_a_sentence_and_exit_code_1(desk, monkeypatch, capsys) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(segment_task, "segment", broken)
    assert main(desk.words()) == 1
    err = capsys.readouterr().err
    assert "internal error (ZeroDivisionError: oh)" in err
    assert "Traceback" not in err
    assert main([*desk.words(), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_runs_out_is_exit_code_8(desk, monkeypatch, capsys) -> None:
    def hungry(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(segment_task, "segment", hungry)
    assert main(desk.words()) == 8
    assert "memory ran out" in capsys.readouterr().err


def test_a_name_that_no_file_can_have_is_a_sentence(desk, capsys) -> None:
    for changed in ({"target": "n" * 300 + ".png"}, {"support": ("n" * 300 + ".nrrd", desk.marks)}):
        assert main(desk.words(**changed)) == 3
        assert "cannot be opened (File name too long); check its name" in capsys.readouterr().err


def test_an_image_given_as_its_own_annotation_is_refused_and_a_support_given_twice_counts_once(desk, capsys) -> None:
    assert main(desk.words(support=(desk.support, desk.support))) == 4
    assert "is given both as the image and as the annotation of a support" in capsys.readouterr().err
    again = ["--support", str(desk.support), str(desk.marks), "--report", str(desk.folder / "r.json")]
    assert main(desk.words(*again)) == 0
    assert "is given twice; it counts once" in capsys.readouterr().err
    assert len(json.loads((desk.folder / "r.json").read_text("utf-8"))["inputs"]["supports"]) == 1
