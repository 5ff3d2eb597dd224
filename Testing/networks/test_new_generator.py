"""The generator of Docs/new_generator.md, as it stands there: one file, one line, and the engine serves it."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import engine_doubles  # noqa: F401 - skips where a package is missing
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND, EXIT_OK
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.networks import generators
from ProxyPromptSegmentLib.networks.checkpoints import load_model, save_checkpoint
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

DOCUMENT = Path(__file__).resolve().parents[2] / "Docs" / "new_generator.md"
MOST_LINES = 60


@pytest.fixture(scope="module")
def blocks():
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def generator(blocks, monkeypatch):
    """The document's file as a module, and its line in the registry."""
    module = types.ModuleType("documented_generator")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(blocks[0], str(DOCUMENT), "exec"), module.__dict__)
    words = {**vars(module), "GeneratorKind": generators.GeneratorKind}
    exec("line = {" + blocks[1] + "}", words)
    monkeypatch.setattr(generators, "KINDS", {**generators.KINDS, **words["line"]})
    monkeypatch.setattr("ProxyPromptSegmentLib.networks.model.KINDS", generators.KINDS)
    return module


def test_the_document_keeps_its_word_of_one_file_and_one_line(blocks):
    assert len(blocks) == 2 and len(blocks[0].splitlines()) < MOST_LINES and len(blocks[1].splitlines()) == 1


def test_the_documented_generator_trains_is_stored_and_segments_from_the_command_line(generator, tmp_path, capsys):
    torch.manual_seed(0)
    classes = (PromptClass("left"), PromptClass("right", code="24028007"))
    model = build_model("sam-compact", generator.TokensConfig(classes=classes))
    images = torch.rand(1, 3, 256, 256)
    optimiser = torch.optim.Adam(model.generator.parameters(), 1e-2)
    before = model.generator.tokens.detach().clone()
    for _ in range(2):
        optimiser.zero_grad()
        with torch.no_grad():
            features = model.encode(images)
        decoded, prompt = model.predict(features, model.generator.prepare_classes(["24028007"]))
        (decoded.logits.square().mean() + prompt.presence.mean()).backward()
        optimiser.step()
    changed = (model.generator.tokens != before).any(dim=(1, 2))
    assert changed.tolist() == [False, True]
    path = tmp_path / "tokens.safetensors"
    save_checkpoint(path, model.eval().state_dict(), {"name": "tokens", "model": model.describe()})
    again = load_model(path)[0]
    assert torch.equal(again.generator.tokens, model.generator.tokens)
    target, output = tmp_path / "new.nrrd", tmp_path / "new.seg.nrrd"
    array = np.random.default_rng(1).uniform(0, 99, (3, 40, 40)).astype(np.float32)
    write_volume(target, Volume(array, VolumeGeometry((40, 40, 3), (1.0, 1.0, 3.0))))
    words = ["segment", "--model", path, "--target", target, "--output", output, "--device", "cpu"]
    assert main([str(word) for word in words]) in (EXIT_OK, EXIT_NOTHING_FOUND)
    assert read_segmentation(output).names == ["left", "right"]
    assert "wrote" in capsys.readouterr().out
