"""The state of a training where the disk is full, the file is damaged, or another program trains there."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.training import trainer as module
from ProxyPromptSegmentLib.training.state_files import reading_state, training_alone, writing_state
from ProxyPromptSegmentLib.training.trainer import Trainer
from trainer_cases import recipe


@pytest.mark.parametrize("damage", ["empty", "torn", "without keys", "of another kind", "another network"])
def test_a_damaged_state_is_refused_in_words(data, tiny, clock, tmp_path, damage) -> None:
    Trainer(recipe(steps=1), data, tmp_path).run()
    path = tmp_path / "state.pt"
    whole = path.read_bytes()
    state = torch.load(path, weights_only=True)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "torn":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "without keys":
        torch.save({"recipe": state["recipe"]}, path)
    elif damage == "of another kind":
        torch.save([1, 2], path)
    else:
        torch.save({**state, "model": {name: tensor[None] for name, tensor in state["model"].items()}}, path)
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged, or not the state of this training"):
        Trainer(recipe(steps=1), data, tmp_path)


def test_a_full_disk_keeps_the_former_state_and_leaves_nothing(data, tiny, clock, tmp_path, monkeypatch) -> None:
    Trainer(recipe(steps=1), data, tmp_path).run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_, path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0\nmore lines")

    monkeypatch.setattr(module.torch, "save", full)
    with pytest.raises(OutputError, match="state.pt could not be written"):
        Trainer(recipe(steps=1), data, tmp_path)._save()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_state_in_safetensors_is_treated_alike(tmp_path) -> None:
    from safetensors import SafetensorError, safe_open

    path = tmp_path / "state.safetensors"
    with pytest.raises(OutputError, match="could not be written"), writing_state(path):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    path.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="is damaged"), reading_state(path), safe_open(path, "pt"):
        pass


def test_two_programs_do_not_train_in_one_folder(tmp_path) -> None:
    pytest.importorskip("fcntl")
    with training_alone(tmp_path / "run"):
        with pytest.raises(OutputError, match="another program is training"), training_alone(tmp_path / "run"):
            pass
    with training_alone(tmp_path / "run"):
        pass
