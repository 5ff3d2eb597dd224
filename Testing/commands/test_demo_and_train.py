"""The subcommands ``demo`` and ``train``: what they write, what they refuse, how they are stopped."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import InContextModel
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import demo
from ProxyPromptSegmentLib.imaging import phantom
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training import run as training
from ProxyPromptSegmentLib.training.trainer import TrainState

RECIPE = {"name": "mine", "tasks": [], "minutes": 1}


@pytest.fixture
def model(tmp_path, monkeypatch) -> str:
    path = tmp_path / "double.safetensors"
    path.write_bytes(b"not read")
    monkeypatch.setattr(checkpoints, "load_model", lambda *_: (InContextModel(), {"name": "double"}))
    small = phantom.pelvis_phantom
    monkeypatch.setattr(phantom, "pelvis_phantom", lambda seed: small(seed, (8, 48, 48)))
    return str(path)


def test_the_demo_writes_everything_says_dice_and_can_be_repeated(tmp_path, model, capsys) -> None:
    words = ["demo", "--output", str(tmp_path / "demo"), "--model", model]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Dice" in out
    assert "proxyprompt segment --support" in out
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {*demo.FILES, demo.MARKER}
    report = json.loads((tmp_path / "demo" / demo.REPORT).read_text("utf-8"))
    assert "dice" in report["objects"][0]
    assert main(words) == 0


def test_the_command_that_the_demo_shows_does_the_same(tmp_path, model, capsys) -> None:
    assert main(["demo", "--output", str(tmp_path / "demo"), "--model", model]) == 0
    shown = next(line for line in capsys.readouterr().out.splitlines() if "proxyprompt segment" in line)
    result = tmp_path / "demo" / demo.RESULT
    first = read_segmentation(result)
    result.unlink()
    assert main(shown.split()[1:]) == 0
    np.testing.assert_array_equal(read_segmentation(result).segments[0].mask, first.segments[0].mask)


def test_the_demo_replaces_nothing_that_is_not_its_own(tmp_path, model, capsys) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "target.nrrd").write_bytes(b"mine")
    assert main(["demo", "--output", str(folder), "--model", model]) == 6
    assert "not overwritten" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["target.nrrd"]
    assert (folder / "target.nrrd").read_bytes() == b"mine"


def test_a_result_of_the_demo_that_was_corrected_by_hand_is_kept(tmp_path, model, capsys) -> None:
    words = ["demo", "--output", str(tmp_path / "demo"), "--model", model]
    assert main(words) == 0
    result = tmp_path / "demo" / demo.RESULT
    result.write_bytes(b"corrected")
    assert main(words) == 6
    assert "changed since" in capsys.readouterr().err
    assert result.read_bytes() == b"corrected"


def test_files_beside_the_demo_stay(tmp_path, model) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert main(["demo", "--output", str(folder), "--model", model]) == 0
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_demo_in_no_folder_is_refused(tmp_path, model, capsys) -> None:
    assert main(["demo", "--output", str(tmp_path / "a" / "b"), "--model", model]) == 6
    assert "does not exist" in capsys.readouterr().err


def test_the_demo_without_its_model_writes_nothing(tmp_path, capsys) -> None:
    missing = str(tmp_path / "no.safetensors")
    assert main(["demo", "--output", str(tmp_path / "demo"), "--model", missing]) == 7
    assert not (tmp_path / "demo").exists()


# --- train ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(RECIPE), encoding="utf-8")
    return path


@pytest.fixture
def fake_training(monkeypatch):
    """A training of ten steps of six seconds; ``at`` is the step at which SIGINT comes."""
    plan = {"at": None, "calls": []}

    def train(recipe, data, out, device, threads, cancel: CancelToken, on_step, initial, base, on_start) -> Path:
        plan["calls"].append((recipe, data, out, device, threads, base))
        out.mkdir(exist_ok=True)
        on_start("everything is trained", recipe.steps)
        for step in range(1, 11):
            on_step(TrainState(step, 6.0 * step), {"loss": 1 / step})
            if step == plan["at"]:
                signal.raise_signal(signal.SIGINT)
            if cancel.cancelled:
                break
        (out / "state.pt").write_bytes(b"")
        (out / "mine.safetensors").write_bytes(b"")
        return out / "mine.safetensors"

    monkeypatch.setattr(training, "train_recipe", train)
    return plan


def _train(tmp_path: Path, recipe: object, *more: str) -> list[str]:
    words = ["train", "--recipe", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    return [*words, "--device", "cpu", *more]


def test_training_passes_its_options_on_and_names_the_checkpoint(tmp_path, recipe, fake_training, capsys) -> None:
    assert main(_train(tmp_path, recipe, "--minutes", "1", "--threads", "2", "--progress")) == 0
    ((trained, *rest),) = fake_training["calls"]
    assert (trained.name, trained.minutes) == ("mine", 1.0)
    assert rest == [tmp_path, tmp_path / "run", "cpu", 2, None]
    said = capsys.readouterr()
    assert "everything is trained" in said.out
    assert "mine.safetensors" in said.out
    assert "second 60 of 60" in said.err
    assert "loss" in said.err


def test_ctrl_c_in_a_training_says_how_to_go_on(tmp_path, recipe, fake_training, capsys) -> None:
    fake_training["at"] = 4
    assert main(_train(tmp_path, recipe)) == 130
    err = capsys.readouterr().err
    assert "same command again" in err
    assert "36 s left" in err
    fake_training["at"] = None
    assert main(_train(tmp_path, recipe)) == 0
    assert "resumes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recipe_name", "more", "code", "words"),
    [
        ("no.json", [], 2, "no.json' does not exist; choose one of"),
        ("mine.json", ["--minutes", "0"], 2, "--minutes"),
        ("mine.json", ["--threads", "0"], 2, "--threads"),
        ("mine.json", ["--data", "nowhere"], 3, "does not exist"),
        ("mine.json", ["--base", "a.safetensors"], 2, "--base is for official backbones and for SAM 2 on clips"),
        ("mine.json", ["--steps", "0"], 2, "--steps"),
        ("mine.json", ["--steps", "3", "--minutes", "1"], 2, "give one of them"),
        (
            "mine.json",
            ["--backbone", "sam-vit-b", "--base", "gone.pth"],
            3,
            "--base checkpoint gone.pth does not exist",
        ),
    ],
)
def test_a_training_that_cannot_begin_says_why(
    tmp_path, recipe, fake_training, capsys, monkeypatch, recipe_name, more, code, words
) -> None:
    from ProxyPromptSegmentLib.commands import train

    monkeypatch.setattr(train, "recipes_folder", lambda: tmp_path)
    assert main(_train(tmp_path, tmp_path / recipe_name, *more)) == code
    assert words in capsys.readouterr().err
    assert fake_training["calls"] == []


def test_a_recipe_that_comes_with_the_program_is_found_by_name(tmp_path, fake_training, monkeypatch, recipe) -> None:
    from ProxyPromptSegmentLib.commands import train

    monkeypatch.setattr(train, "recipes_folder", lambda: tmp_path)
    assert main(_train(tmp_path, "mine")) == 0
    assert fake_training["calls"][0][0].name == "mine"


def test_steps_count_instead_of_the_time_and_backbone_and_name_may_be_others(
    tmp_path, recipe, fake_training, capsys
) -> None:
    more = ["--steps", "10", "--backbone", "sam-vit-b", "--name", "ours", "--progress"]
    assert main(_train(tmp_path, recipe, *more)) == 0
    trained = fake_training["calls"][0][0]
    assert (trained.steps, trained.backbone, trained.name) == (10, "sam-vit-b", "ours")
    assert "step 10 of 10" in capsys.readouterr().err
    fake_training["at"] = 4
    assert main(_train(tmp_path, recipe, *more)) == 130
    assert "6 steps left" in capsys.readouterr().err
    assert main(_train(tmp_path, "memory", "--backbone", "sam-vit-b")) == 2
    assert "--backbone is for recipes without 'training'" in capsys.readouterr().err


def test_memory_that_runs_out_is_a_sentence_and_exit_8(tmp_path, recipe, monkeypatch, capsys) -> None:
    """As CUDA says it, as a processor's allocator does, and as Python does."""
    errors = ["CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory: you tried"]
    for error in (MemoryError(), *map(RuntimeError, errors)):

        def train(*_words, error=error):
            raise error

        monkeypatch.setattr(training, "train_recipe", train)
        assert main(_train(tmp_path, recipe)) == 8
        said = capsys.readouterr().err
        assert "does not fit into the memory of cpu; draw fewer images (per_step, targets)" in said
        assert "internal error" not in said

    def broken(*_words):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(training, "train_recipe", broken)
    assert main(_train(tmp_path, recipe)) == 1


def test_a_checkpoint_of_unknown_origin_is_not_overwritten_by_a_training(
    tmp_path, recipe, fake_training, capsys
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.safetensors").write_bytes(b"precious")
    assert main(_train(tmp_path, recipe)) == 6
    assert "not overwritten" in capsys.readouterr().err
    assert fake_training["calls"] == []


def test_a_training_on_clips_is_given_its_base(tmp_path, monkeypatch, capsys) -> None:
    from ProxyPromptSegmentLib.training.memory import run as training

    calls = []

    def train(recipe, data, out, *rest):
        calls.append((recipe.training, recipe.minutes, rest[-1]))
        rest[3]({"step": 8, "targets": 96, "seconds": 180.0, "loss": 0.5, "iou": 0.4})
        return out / "sam2-compact.safetensors"

    monkeypatch.setattr(training, "train_memory", train)
    base = tmp_path / "base.safetensors"
    assert main(_train(tmp_path, "memory", "--base", str(base))) == 3
    assert "--base checkpoint" in capsys.readouterr().err
    base.write_bytes(b"x")
    assert main(_train(tmp_path, "memory", "--base", str(base), "--minutes", "3")) == 0
    assert calls == [("memory", 3.0, base)]
    said = capsys.readouterr().out
    assert "step 8, 96 targets" in said and "wrote" in said
