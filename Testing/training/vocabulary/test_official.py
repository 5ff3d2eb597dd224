"""Class and image generators on official ViT-B with random weights: train two steps, save, load, segment.

That of a proxy prompt is in Testing/commands/test_official_training.py.
"""

from __future__ import annotations

import json

import pytest

from described_discs import write_discs

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.networks.backbones import sam
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.shapes import official_shapes, summary_of

GENERATORS = {
    "automedsam": {"widths": [8, 8, 8], "embedding": 8, "readout": False},
    "autosam": {"read_size": 64, "width": 8},
}


def the_whole_way(home, kind: str) -> None:
    """Import an official file, train two steps on it, and segment with what they wrote."""
    torch.manual_seed(0)
    official = sam.build_sam_modules("sam-vit-b").state_dict()
    torch.save(official, home / "from_somewhere.pth")
    entry = {"name": "our-vit-b", "kind": "backbone", "file": "our_vit_b.pth", "fits": "sam-vit-b"}
    (home / "own.json").write_text(json.dumps({"format": 2, "models": [entry]}))
    assert main(["models", "import", str(home / "from_somewhere.pth"), "--as", "our-vit-b"]) == 0
    data = write_discs(home / "data", 2, test=["case1"])
    recipe = {
        "training": "vocabulary", "kind": "class" if kind == "automedsam" else "image", "name": "our-discs",
        "base": "our-vit-b", "backbone": "sam-vit-b", "images": 1, "variants": 0, "strangers": 0,
        "generator": GENERATORS[kind],
    }  # fmt: skip
    (home / "recipe.json").write_text(json.dumps(recipe))
    train = ["train", "--recipe", str(home / "recipe.json"), "--data", str(data), "--out", str(home / "run")]
    assert main([*train, "--steps", "2", "--device", "cpu"]) == 0
    file = home / "run" / "our-discs.safetensors"
    tensors, metadata = read_checkpoint(file)
    assert metadata["steps"] == 2 and metadata["base"]["sha256"] == sha256(home / "from_somewhere.pth")
    assert all(name.startswith("generator.") for name in tensors)
    model = load_model(file)[0]
    state = model.state_dict()
    assert all(torch.equal(state[f"backbone.sam.{name}"], tensor) for name, tensor in official.items())
    if kind == "autosam":  # the trunk is that of the embedded model, which official weights do not have
        own = load_model("sam-compact")[0].state_dict()
        name = "generator.encoder.trunk.conv_stem.weight"
        torch.testing.assert_close(
            state[name], own["backbone.sam.image_encoder.trunk.conv_stem.weight"], atol=1e-3, rtol=1e-2
        )
    del model, state
    words = ["segment", "--model", str(file), "--target", str(data / "images" / "case1.png")]
    words += ["--output", str(home / "found.png"), "--device", "cpu", "--any-modality"]
    assert main(words) in (0, 9)  # two steps need not find anything
    assert (home / "found.png").is_file()


@pytest.mark.parametrize("kind", [pytest.param("automedsam", marks=pytest.mark.slow), "autosam"])
def test_a_small_network_goes_the_whole_way(kind, home, monkeypatch):
    monkeypatch.setattr(sam, "OFFICIAL_SIZE", 256)
    monkeypatch.setitem(sam.VIT_SIZES, "sam-vit-b", (32, 2, 2, (1,)))
    monkeypatch.setitem(GENERATORS[kind], "image_size", 256)
    monkeypatch.setitem(GENERATORS[kind], "grid", 16)
    with torch.device("meta"):
        monkeypatch.setitem(official_shapes(), "sam-vit-b", summary_of(sam.build_sam_modules("sam-vit-b").state_dict()))
    the_whole_way(home, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", GENERATORS)
def test_vit_b_itself_goes_the_whole_way(kind, home):
    the_whole_way(home, kind)
