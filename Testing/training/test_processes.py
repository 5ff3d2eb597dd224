"""Two processes on a CPU: the same weights in both, and those of one process with as many episodes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")


from described_discs import write_discs
from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.training import processes as module
from ProxyPromptSegmentLib.training.recipe import ComputingRecipe, OptimizerRecipe, Recipe, TaskRecipe
from ProxyPromptSegmentLib.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import dataclasses, json, sys
from pathlib import Path
import torch
from ProxyPromptSegmentLib.training.processes import processes_of_environment
from ProxyPromptSegmentLib.training.recipe import read_recipe
from ProxyPromptSegmentLib.training.trainer import Trainer
from ProxyPromptSegmentLib.progress import CancelToken

torch.set_num_threads(1)
data, out = Path(sys.argv[1]), Path(sys.argv[2])
found = processes_of_environment(torch.device("cpu"))
trainer = Trainer(read_recipe(data / "recipe.json"), data, out, processes=found)
cancel = CancelToken()
stop = lambda state, parts: cancel.cancel() if found.rank == 1 and state.step == 2 and len(sys.argv) > 3 else None
trainer.run(cancel, on_step=stop)
torch.save({"step": trainer.state.step, **trainer.model.state_dict()}, out / f"rank{found.rank}.pt")
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    small = {"vim_dim": 16, "vim_depth": 1, "vim_state": 4, "bridge_width": 16, "ccm_width": 32, "ccm_ffn": 32}
    return Recipe(
        name="both",
        changes=small,
        tasks=(TaskRecipe(dataset="discs", per_step=2),),
        steps=3,
        optimizer=OptimizerRecipe(warmup_steps=1, algorithm="sgd", learning_rate=0.01),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory, recipe) -> Path:
    folder = write_discs(tmp_path_factory.mktemp("data"), 4)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    return folder


def launch(data: Path, out: Path, *more: str) -> list[dict[str, torch.Tensor]]:
    """Train by two processes; return the weights of both."""
    out.mkdir()
    script = data / "script.py"
    script.write_text(SCRIPT)
    words = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script), str(data), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    ended = subprocess.run(
        [sys.executable, *words, *more], env=environment, capture_output=True, text=True, timeout=150
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow  # each process imports PyTorch and accelerate for itself
def test_two_processes_make_the_steps_of_one_with_twice_as_many_episodes_and_stop_together(data, recipe, tmp_path):
    """The second process is stopped after two of three steps; the first one stops with it."""
    first, second = launch(data, tmp_path / "two", "stop")
    assert first["step"] == second["step"] == 2
    assert all(torch.equal(first[name], second[name]) for name in first if name != "step")
    single = dataclasses.replace(recipe, computing=ComputingRecipe(accumulate=2))
    alone = Trainer(single, data, tmp_path / "one")
    start = {name: value.clone() for name, value in alone.model.state_dict().items()}
    cancel = CancelToken()
    alone.run(cancel, on_step=lambda state, parts: cancel.cancel() if state.step == 2 else None)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(first[name], value, atol=1e-6, rtol=1e-5)
    moved = max(float((first[name] - value).abs().max()) for name, value in start.items())
    assert moved > 1e-3
    tensors, metadata = read_checkpoint(tmp_path / "two" / "both.safetensors")
    assert metadata["steps"] == 2 and tensors.keys() == start.keys()


def test_without_accelerate_several_processes_are_refused_in_words(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ProxyPromptError, match="needs the Python package accelerate") as caught:
        module.processes_of_environment(torch.device("cpu"))
    assert caught.value.remedy.kind == RemedyKind.INSTALL_PACKAGE and caught.value.remedy.package == "accelerate"
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert module.processes_of_environment(torch.device("cpu")).count == 1
