"""The way from official weights to a model that anybody can download: import, train, publish, enter, download, segment.

The official file has random weights. The fast test goes this way with a network of a fraction of the size, the slow one
with ViT-B itself.
"""

from __future__ import annotations

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from described_discs import write_discs
from optional_packages import skip_without_peft

skip_without_peft()

from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.networks.backbones import sam
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.trainer import Trainer
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.shapes import official_shapes, summary_of

SMALL = {"vim_dim": 16, "vim_depth": 1, "vim_state": 4, "bridge_width": 16, "ccm_width": 32, "ccm_ffn": 32}
MOST_BYTES = 170_000_000


@pytest.fixture
def http_folder(tmp_path):
    """A folder that a server of this machine offers, and its address."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/release/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that ran, with their models."""
    seen, write = [], Trainer._write
    monkeypatch.setattr(Trainer, "_write", lambda self: seen.append(self) or write(self))
    return seen


def official_file(path: Path) -> dict[str, torch.Tensor]:
    """Write random weights as an official file of ViT-B; return them."""
    torch.manual_seed(0)
    tensors = sam.build_sam_modules("sam-vit-b").state_dict()
    torch.save(tensors, path)
    return tensors


def the_whole_way(home: Path, http_folder, trainers, changes: dict[str, object], **more: object) -> None:
    """Go from an official file to a segmentation by a downloaded generator; every step is a documented command."""
    official = official_file(home / "from_somewhere.pth")
    digest = sha256(home / "from_somewhere.pth")
    entry = {"name": "our-vit-b", "kind": "backbone", "file": "our_vit_b.pth", "fits": "sam-vit-b"}
    (home / "own.json").write_text(json.dumps({"format": 2, "models": [entry]}))
    data = write_discs(home / "data", 3, validation=["case2"])
    recipe = json.loads(resource_path("recipes/robust.json").read_text(encoding="utf-8"))
    recipe |= {"base": "our-vit-b", "changes": changes, "max_supports": 1, "accumulate": 1, "precision": "single"}
    recipe |= {"recompute": not changes, **more}
    (home / "recipe.json").write_text(json.dumps(recipe))
    train = ["train", "--recipe", str(home / "recipe.json"), "--name", "our-discs", "--data", str(data)]
    train += ["--out", str(home / "run"), "--steps", "2", "--device", "cpu"]
    assert main(train) == CheckpointError.exit_code  # without the official weights nothing is trained
    assert not (home / "run" / "state.pt").exists()

    assert main(["models", "import", str(home / "from_somewhere.pth"), "--as", "our-vit-b"]) == 0
    assert main(train) == 0
    (trainer,) = trainers
    state = trainer.model.backbone.sam.state_dict()
    for name, tensor in official.items():
        adapted = ".base_layer.".join(name.rsplit(".", 1))
        assert torch.equal(state[adapted if adapted in state else name], tensor), name
    file = home / "run" / "our-discs.safetensors"
    tensors, metadata = read_checkpoint(file)
    assert all(name.startswith("generator.") or "lora_" in name for name in tensors)
    assert metadata["base"] == {"name": "our-vit-b", "sha256": digest}
    assert any(bool(tensor.any()) for name, tensor in tensors.items() if "lora_B" in name)
    assert file.stat().st_size < MOST_BYTES

    words = {"licence": "CC0", "description": "Discs.", "citation": "nobody", "trained_on": "3 drawn discs"}
    file.with_suffix(".json").write_text(json.dumps(words))
    file.with_suffix(".md").write_text("# Discs\n\nDraws discs. Research use only.\n")
    folder, address = http_folder
    release = folder / "release"
    assert main(["models", "publish", str(file), "--out", str(release), "--address", address]) == 0
    assert (release / "our-discs.md").is_file() and (release / "SHA256SUMS").is_file()
    (published,) = json.loads((release / "registry.json").read_text(encoding="utf-8"))["models"]
    assert published["needs"]["base"] == "our-vit-b" and published["sha256"] == sha256(file)

    (home / "own.json").write_text(json.dumps({"format": 2, "models": [entry, published]}))
    file.unlink()
    assert main(["models", "download", "our-discs", "--yes", "--allow-http"]) == 0
    loaded, _ = load_model("our-discs")
    average = trainer.averaged_model().state_dict()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, average[name].half().float() if name in tensors else average[name])
    del loaded, average
    target = data / "images" / "case2.png"
    support = ["--support", str(data / "images" / "case0.png"), str(data / "masks" / "case0.png")]
    asked = ["segment", *support, "--target", str(target), "--output", str(home / "found.png"), "--device", "cpu"]
    assert main([*asked, "--model", "our-discs", "--tiles", "off"]) in (0, 9)  # two steps need not find anything
    assert (home / "found.png").is_file()
    (home / "own.json").write_text(json.dumps({"format": 2, "models": [published]}))
    again = [*asked, "--force", "--model", "our-discs"]
    assert main(again) == CheckpointError.exit_code  # its base is known no more, but may be given
    assert load("our-discs", "cpu", home / "from_somewhere.pth").facts.sha256 == published["sha256"]


@pytest.mark.slow
@pytest.mark.cold
def test_a_maintainer_trains_publishes_and_enters_a_generator_that_everybody_can_download(
    home, http_folder, trainers, monkeypatch, capsys
):
    monkeypatch.setitem(sam.VIT_SIZES, "sam-vit-b", (32, 2, 2, (1,)))
    with torch.device("meta"):
        monkeypatch.setitem(official_shapes(), "sam-vit-b", summary_of(sam.build_sam_modules("sam-vit-b").state_dict()))
    the_whole_way(home, http_folder, trainers, SMALL)
    said = capsys.readouterr()
    assert "frozen ones of 'our-vit-b', for 2 steps; about" in said.out and "GB of memory" in said.out
    assert "are not on this machine" in said.err
    assert "Give its file with --base" in said.err


@pytest.mark.slow
@pytest.mark.cold
def test_a_user_goes_the_same_way_with_vit_b_itself(home, http_folder, trainers, capsys):
    """Without adapters in the encoder, to save time: the fast test has both. It takes up to 8 GB of memory."""
    the_whole_way(home, http_folder, trainers, {}, lora_encoder=0)
    assert "are not on this machine" in capsys.readouterr().err
