"""The way of a user with official weights: import them, adapt, segment by name, and find it in the module's list.

The official file has random weights. The fast test goes this way with a network of a fraction of the size, the slow one
with ViT-B itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from described_discs import write_discs
from official_cases import assert_unchanged, list_official, make_small, official_file
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.registry import find, location
from ProxyPromptSegmentModule.models.catalog import ModelCatalog

MOST_BYTES = 170_000_000
ADAPT = ["adapt", "--model", "our-vit-b", "--out", "our-discs", "--device", "cpu", "--keep-anyway"]


def the_whole_way(home: Path, steps: int) -> None:
    """Go from an official file to a segmentation by name."""
    official = official_file(home / "from_somewhere.pth")
    list_official(home)
    data = write_discs(home / "data", 3)
    cases = [str(data / "images" / "case2.png"), str(data / "masks" / "case2.png")]
    supports = [[str(data / kind / f"case{n}.png") for kind in ("images", "masks")] for n in range(2)]
    given = [word for pair in supports for word in ("--support", *pair)]
    adapt = [*ADAPT, *given, "--steps", str(steps)]
    assert main(adapt) == CheckpointError.exit_code  # without the official weights nothing is trained
    assert not (home / "cache" / "adapting").exists()

    assert main(["models", "import", str(home / "from_somewhere.pth"), "--as", "our-vit-b"]) == 0
    assert main(adapt) == 0
    file = location(find("our-discs"))
    tensors, metadata = read_checkpoint(file)
    assert all(name.startswith("generator.") or "lora_" in name for name in tensors)
    assert metadata["base"] == {"name": "our-vit-b", "sha256": sha256(home / "from_somewhere.pth")}
    assert file.stat().st_size < MOST_BYTES
    assert_unchanged(official, load_model("our-discs")[0].state_dict())

    (row,) = (row for row in ModelCatalog().rows() if row.name == "our-discs")
    assert (row.usable, row.kind, row.base) == (True, "generator", "our-vit-b")
    asked = ["segment", *given[:3], "--target", cases[0], "--output", str(home / "found.png"), "--device", "cpu"]
    assert main([*asked, "--model", "our-discs", "--tiles", "off"]) in (0, 9)  # some steps need not find anything
    assert (home / "found.png").is_file()


def test_a_user_adapts_official_weights_and_segments_by_name(home, monkeypatch, capsys):
    make_small(monkeypatch)
    the_whole_way(home, 1)
    said = capsys.readouterr()
    assert "the weights of 'our-vit-b' are not on this machine" in said.err
    assert "2 patients, 2 cases: learning" in said.out and "kept as our-discs" in said.out


@pytest.mark.slow
def test_a_user_goes_the_same_way_with_vit_b_itself(home, capsys):
    """It takes about 7 minutes and 10 GB of memory on two cores."""
    the_whole_way(home, 2)
    assert "kept as our-discs" in capsys.readouterr().out


def test_missing_official_weights_are_said_before_any_case_is_read(home, capsys):
    adapt = ["adapt", "--cases", "nowhere", "--out", "mine", "--model", "sam-vit-b"]
    assert main(adapt) == CheckpointError.exit_code
    said = capsys.readouterr().err
    assert "the weights of 'sam-vit-b' are not on this machine" in said and "nowhere" not in said
    assert main([*adapt, "--base", str(home / "nothing.pth")]) == CheckpointError.exit_code
    assert "nothing.pth" in (said := capsys.readouterr().err) and "'nowhere'" not in said
