"""Tiles on the command line: what is chosen, what the user reads, and what the report holds."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip("torch")

import SimpleITK as sitk

from command_cases import Desk
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import progress_bars
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.networks import checkpoints
from tile_cases import PerfectModel, picture_of, vessel_tree

SHAPE = (300, 280)


@pytest.fixture
def fundus(tmp_path, monkeypatch):
    """A desk with two pictures of vessels, and the words that segment one by the other with a perfect network."""
    monkeypatch.setattr(checkpoints, "load_model", lambda *_: (PerfectModel(), {"name": "perfect", "steps": 1}))
    model = tmp_path / "perfect.safetensors"
    model.write_bytes(b"not read")
    for name, seed in (("old", 1), ("new", 11)):
        mask = vessel_tree(seed, SHAPE, widest=2.2)
        picture = picture_of(mask, seed, (3,)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(tmp_path / f"{name}.png"))
        sitk.WriteImage(sitk.GetImageFromArray(mask * 255), str(tmp_path / f"{name}_mask.png"))
    desk = object.__new__(Desk)
    desk.folder, desk.model, desk.output = tmp_path, str(model), tmp_path / "found.png"
    desk.support, desk.marks, desk.target = (tmp_path / name for name in ("old.png", "old_mask.png", "new.png"))
    return desk


def found_dice(desk):
    truth, found = (sitk.GetArrayFromImage(sitk.ReadImage(str(desk.folder / f))) for f in ("new_mask.png", "found.png"))
    return dice(truth > 0, found > 0)


def test_thin_vessels_are_segmented_in_tiles_which_the_user_reads_and_the_report_holds(fundus, capsys) -> None:
    report, preview = fundus.folder / "r.json", fundus.folder / "p.png"
    assert main(fundus.words("--report", report, "--preview", preview)) == 0
    assert found_dice(fundus) >= 0.85
    said = capsys.readouterr().err
    assert "too thin or too small for this model on whole slices" in said
    assert "Choose --tiles off for whole slices, or another magnification" in said
    written = json.loads(report.read_text("utf-8"))
    tiles, settings = written["tiles"], written["settings"]
    assert settings["tiles"] == "auto"
    assert tiles["tiles_per_slice"] >= 9
    assert f"{tiles['tiles_per_slice']} overlapping tiles" in said
    assert tiles["objects"][0]["highest_dice_whole"] < 0.8 < tiles["objects"][0]["highest_dice_tiles"]
    assert "proxyprompt segment: note: " in said and "warning" not in said
    assert any("overlapping tiles" in note for note in written["notes"]) and written["warnings"] == []
    assert preview.stat().st_size > 1000


def test_tiles_are_turned_off_and_the_user_reads_what_that_costs(fundus, capsys) -> None:
    assert main(fundus.words("--tiles", "off", "--json")) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert found_dice(fundus) < 0.55
    assert (report["tiles"], report["settings"]["tiles"]) == (None, "off")
    assert "warning: " in said.err and "Tiles are turned off." in said.err
    assert report["warnings"] == report["notes"]


@pytest.mark.parametrize(("word", "magnification"), [("on", 2.0), ("3", 3.0)])
def test_tiles_are_used_for_what_is_not_thin_where_they_are_asked_for(desk, capsys, word, magnification) -> None:
    assert main(desk.words("--tiles", word, "--json")) == 0
    said = capsys.readouterr()
    tiles = json.loads(said.out)["tiles"]
    assert tiles["magnification"] == magnification
    assert [o["name"] for o in tiles["objects"]] == ["gland", "stone"]
    assert "larger, as chosen." in said.err


def test_without_tiles_nothing_is_said_of_them(desk, capsys) -> None:
    assert main(desk.words("--json")) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["tiles"] is None
    assert "tile" not in said.err


@pytest.mark.parametrize("word", ["yes", "1", "99"])
def test_other_words_are_refused_with_those_that_are_allowed(desk, capsys, no_model, word) -> None:
    assert main(desk.words("--tiles", word)) == 2
    assert "auto, off, on, or a magnification above 1 and at most 16" in capsys.readouterr().err


def test_tiles_are_counted_as_tiles_while_the_user_waits(fundus, capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress_bars, "REDRAW_SECONDS", 0.0)  # every step is drawn, however fast the machine is
    assert main(fundus.words("--progress")) == 0
    said = capsys.readouterr().err
    assert "segmenting in tiles" in said
    counts = [int(count) for count in re.findall(r"segmenting in tiles \[[.#]+\] tile (\d+) of", said)]
    assert len(set(counts)) > 2 and counts == sorted(counts)
    assert "tile 1" in said
    assert "slice 1" not in said
