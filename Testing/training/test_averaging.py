"""The mean of checkpoints: its numbers, what it remembers, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, tiny_config
from ProxyPromptSegmentLib.commands.average import main
from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint, save_checkpoint, sha256
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.training.averaging import average_checkpoints

ROOT = Path(__file__).resolve().parents[2]


def described(**changes):
    """What a checkpoint of the compact architecture tells of itself."""
    return {"backbone": "sam-compact", "generator": tiny_config(**changes).to_dict(), "lora_rank": 0}


def a_checkpoint(path, value, steps=1, dtype=torch.float16, **metadata):
    """A small file whose weights are all of one value."""
    tensors = {"weight": torch.full((2, 3), value, dtype=dtype), "batches": torch.tensor(steps)}
    told = {"name": path.stem, "model": described(), "recipe": {"seed": steps}, "steps": steps, **metadata}
    save_checkpoint(path, tensors, told)
    return path


def test_the_weights_are_the_shares_mean_and_the_rest_is_the_main_parts(tmp_path):
    parts = [a_checkpoint(tmp_path / f"{n}.safetensors", value, n) for n, value in ((1, 8.0), (2, 16.0), (3, 32.0))]
    out = tmp_path / "mean.safetensors"
    digest = average_checkpoints(parts, (0.25, 0.125, 0.625), out, "mean")
    tensors, metadata = read_checkpoint(out, digest)
    assert tensors["weight"].dtype == torch.float16
    assert tensors["weight"].unique().tolist() == [0.25 * 8 + 0.125 * 16 + 0.625 * 32]
    assert tensors["batches"].dtype == torch.int64 and int(tensors["batches"]) == 3
    assert (metadata["name"], metadata["steps"], metadata["recipe"]) == ("mean", 3, {"seed": 3})
    assert metadata["model"] == described()
    assert [part["sha256"] for part in metadata["parts"]] == [sha256(part) for part in parts]
    assert [part["share"] for part in metadata["parts"]] == [0.25, 0.125, 0.625]
    assert [(part["name"], part["recipe"]["seed"]) for part in metadata["parts"]] == [("1", 1), ("2", 2), ("3", 3)]


def test_the_mean_is_computed_in_more_than_half_precision(tmp_path):
    parts = [a_checkpoint(tmp_path / f"{n}.safetensors", value) for n, value in enumerate((60000.0, 60032.0, 59968.0))]
    average_checkpoints(parts, [1 / 3] * 3, tmp_path / "mean.safetensors")
    assert float(read_checkpoint(tmp_path / "mean.safetensors")[0]["weight"][0, 0]) == 60000.0
    assert read_checkpoint(tmp_path / "mean.safetensors")[1]["name"] == "0"


def test_the_mean_of_two_models_is_a_model_between_them(tmp_path):
    config = tiny_config(image_size=256, grid=32, channels=128, encoder="resnet_compact", **EVERYTHING)
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(build_model("sam-compact", config).eval())
        model = models[-1]
        save_checkpoint(tmp_path / f"{seed}.safetensors", model.state_dict(), {"model": model.describe()})
    paths = [tmp_path / f"{seed}.safetensors" for seed in (0, 1)]
    average_checkpoints(paths, (0.25, 0.75), tmp_path / "mean.safetensors")
    mean = dict(load_model(tmp_path / "mean.safetensors")[0].named_parameters())
    first, second = (dict(model.named_parameters()) for model in models)
    for name, parameter in mean.items():
        torch.testing.assert_close(parameter, 0.25 * first[name] + 0.75 * second[name], msg=name)


def test_a_checkpoint_that_is_older_than_a_setting_is_of_the_same_model(tmp_path):
    old = described()
    del old["generator"]["encoder"]
    paths = [
        a_checkpoint(tmp_path / "old.safetensors", 1.0, model=old),
        a_checkpoint(tmp_path / "new.safetensors", 3.0),
    ]
    average_checkpoints(paths, (0.5, 0.5), tmp_path / "mean.safetensors")
    assert read_checkpoint(tmp_path / "mean.safetensors")[0]["weight"].unique().tolist() == [2.0]


@pytest.mark.parametrize(
    ("count", "shares", "words"),
    [
        (1, (1.0,), "a mean needs two checkpoints or more, not 1"),
        (2, (1.0,), "2 checkpoints were given with the shares 1; give one share for each"),
        (2, (0.5, 0.6), "the shares 0.5 0.6 sum to 1.1"),
        (2, (1.5, -0.5), "each must be above 0"),
        (2, (1.0, 0.0), "each must be above 0"),
        (2, (float("nan"), 0.5), "each must be above 0"),
    ],
)
def test_shares_that_make_no_mean_are_refused(tmp_path, count, shares, words):
    paths = [a_checkpoint(tmp_path / f"{n}.safetensors", 1.0) for n in range(count)]
    with pytest.raises(UsageError, match=words):
        average_checkpoints(paths, shares, tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": described(vim_dim=32)}, "vim_dim is 16 in the first and 32 in the second; .* one architecture"),
        ({"model": {**described(), "lora_rank": 4}}, "lora_rank is 0 in the first and 4"),
        ({"model": {**described(), "backbone": "sam-vit-b"}}, "backbone is sam-compact in the first and sam-vit-b"),
        ({"kind": "generator"}, "kind is None in the first and generator"),
        ({"base": {"name": "sam-vit-b", "sha256": "0"}}, "base is None in the first"),
        ({"model": None}, "does not describe its model"),
        ({"model": {"backbone": "sam-compact"}}, "does not describe its model .'generator'"),
        ({"dtype": torch.float32}, None),
    ],
)
def test_checkpoints_of_different_models_are_refused(tmp_path, change, words):
    paths = [a_checkpoint(tmp_path / "a.safetensors", 1.0), a_checkpoint(tmp_path / "b.safetensors", 2.0, **change)]
    if words is None:  # the precision of the file is no difference of the models
        average_checkpoints(paths, (0.4, 0.6), tmp_path / "mean.safetensors")
        assert read_checkpoint(tmp_path / "mean.safetensors")[0]["weight"].dtype == torch.float32
        return
    with pytest.raises(CheckpointError, match=words):
        average_checkpoints(paths, (0.5, 0.5), tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


@pytest.mark.parametrize("tensors", [{"weight": torch.ones(3, 2)}, {"weight": torch.ones(2, 3), "more": torch.ones(1)}])
def test_a_file_that_lacks_a_tensor_of_the_other_is_refused(tmp_path, tensors):
    first = a_checkpoint(tmp_path / "a.safetensors", 1.0)
    save_checkpoint(tmp_path / "b.safetensors", {"batches": torch.tensor(1), **tensors}, {"model": described()})
    with pytest.raises(CheckpointError, match="differ in the shape of (weight|more)"):
        average_checkpoints([first, tmp_path / "b.safetensors"], (0.5, 0.5), tmp_path / "mean.safetensors")


def test_the_command_writes_the_mean_and_says_its_hash(tmp_path):
    for name, value in (("a", 1.0), ("b", 5.0)):
        a_checkpoint(tmp_path / f"{name}.safetensors", value)
    words = ["a.safetensors", "b.safetensors", "--shares", "0.25", "0.75", "--out", "mean.safetensors", "--name", "m"]
    command = [sys.executable, "-m", "ProxyPromptSegmentLib.commands.average", *words]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote mean.safetensors, SHA-256 {sha256(tmp_path / 'mean.safetensors')}\n"
    tensors, metadata = read_checkpoint(tmp_path / "mean.safetensors")
    assert tensors["weight"].unique().tolist() == [4.0] and metadata["name"] == "m"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["a.safetensors", "gone.safetensors", "--out", "c.safetensors"], 7, "there is no checkpoint"),
        (["a.safetensors", "--out", "c.safetensors"], 2, "two checkpoints or more"),
        (["a.safetensors", "b.safetensors", "--out", "a.safetensors", "--force"], 2, "is also an input"),
        (["a.safetensors", "b.safetensors", "--out", "there.safetensors"], 6, "already exists"),
        (["a.safetensors", "b.safetensors", "--out", "c.pt"], 6, "allowed: .safetensors"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(tmp_path, monkeypatch, capsys, words, code, told):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "there"):
        a_checkpoint(Path(f"{name}.safetensors"), 1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(words) == code
    sentence = capsys.readouterr().err
    assert told in sentence and sentence.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_shares_every_checkpoint_counts_alike_and_force_replaces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 1.0), ("b", 5.0), ("mean", 9.0)):
        a_checkpoint(Path(f"{name}.safetensors"), value)
    assert main(["a.safetensors", "b.safetensors", "--out", "mean.safetensors", "--force"]) == 0
    assert read_checkpoint(Path("mean.safetensors"))[0]["weight"].unique().tolist() == [3.0]


def test_the_model_card_names_the_command():
    card = (ROOT / "Resources" / "models" / "sam-compact.md").read_text(encoding="utf-8")
    assert "python -m ProxyPromptSegmentLib.commands.average" in card and "--shares 0.7 0.3" in card
