"""The table of tracking: the paper's figures come out of its arithmetic, and the command writes it."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.evaluation import tracking
from ProxyPromptSegmentLib.evaluation.tracking_table import ALL_OBJECTS, FRAMES, VOLUMES, TrackTable
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.networks.model import build_model
from sweep_cases import sweep

# --- the arithmetic ------------------------------------------------------------------------------------------------


def test_the_papers_standard_deviations_come_out_of_its_own_figures():
    """Tables 10 and 11 give table 3's 0.3 and 10.9: the sample SD of the objects' mean over five support pairs."""
    table = TrackTable(dataset="jnu_ifm", part="test", unit=FRAMES, supports=1, draws=5, targets=["all"])
    table.scores = {
        "ours": {
            "pubic symphysis": np.array([[0.779], [0.780], [0.778], [0.781], [0.780]]),
            "fetal head": np.array([[0.834], [0.845], [0.835], [0.833], [0.840]]),
        },
        "MedSAM 2": {
            "pubic symphysis": np.array([[0.508], [0.779], [0.674], [0.609], [0.562]]),
            "fetal head": np.array([[0.529], [0.842], [0.566], [0.548], [0.715]]),
        },
    }
    rows = {(row["method"], row["object"]): row for row in table.rows()}
    ours, theirs = rows["ours", ALL_OBJECTS], rows["MedSAM 2", ALL_OBJECTS]
    assert ours["sd_over_supports"] == pytest.approx(0.0027, abs=1e-4)
    assert theirs["sd_over_supports"] == pytest.approx(0.1093, abs=1e-4)
    assert ours["max_minus_min"] == pytest.approx(0.006, abs=1e-4)
    assert rows["ours", "fetal head"]["dice"] == pytest.approx(0.8374)
    assert "| ours | mean of the objects | 0.808 | 0.3 | 0.6 |" in table.to_markdown()
    assert "| 10.9 | 29.2 |" in table.to_markdown()


def test_a_sweep_counts_once_however_long_it_is_and_a_frame_once_however_large():
    long, short = sweep("long", [0, 0, 0, 0]), sweep("short", [0, 5])
    table = TrackTable(dataset="ccaus_video", part="test", unit=FRAMES, supports=1, draws=1, targets=["long", "short"])
    wrong = long.masks.copy()
    wrong[1] = 0
    table.note("m", long, wrong, 0, 0, disagreements=2)
    small = short.masks.copy()
    small[1, :, 2:] = 0  # Dice of 2 rows within 20
    table.note("m", short, small, 0, 1, disagreements=0)
    (row,) = table.rows()
    assert row["per_target"] == [0.75, pytest.approx((1 + 2 * 2 / 22) / 2, abs=1e-4)]
    assert row["dice"] == pytest.approx(np.mean(row["per_target"]), abs=1e-4)
    assert row["falling_out"] == 1
    assert row["disagreements"] == 2
    assert row["sd_over_supports"] is None and row["max_minus_min"] is None


def test_a_volumes_dice_is_that_of_all_its_voxels():
    volume = sweep("case", [0, 5, 5], "promise12")
    table = TrackTable(dataset="promise12", part="test", unit=VOLUMES, supports=4, draws=1, targets=["case"])
    predicted = volume.masks.copy()
    predicted[0] = 0
    table.note("m", volume, predicted, 0, 0)
    (row,) = table.rows()
    assert row["dice"] == pytest.approx(2 * 400 / (400 + 600), abs=1e-4)
    assert "volume Dice" in table.to_markdown() and "S1" not in table.to_markdown()


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model_file(tmp_path, monkeypatch, segmenter):
    """A checkpoint by name, and what stands for the model that it holds."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"not read")
    models = {"model": segmenter.model}
    monkeypatch.setattr(checkpoints, "load_model", lambda *_: (models["model"], {"name": "m", "steps": 5}))
    return path, models


def test_a_model_without_memory_is_refused_in_one_sentence(model_file, tmp_path, capsys):
    path, models = model_file
    models["model"] = build_model("sam-compact")
    words = ["evaluate", "ccaus_video", "--data", str(tmp_path), "--model", str(path), "--protocol", "track"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "sam-compact has no memory" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--beside", "sam-compact"], "--protocol track"),
        (["--protocol", "track", "--unet", "u.safetensors"], "--unet"),
        (["--draws", "0"], "--draws is 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(more, told, model_file, tmp_path, capsys):
    assert main(["evaluate", "promise12", "--data", str(tmp_path), "--model", str(model_file[0]), *more]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_the_command_writes_the_table_as_json_and_markdown(model_file, tmp_path, monkeypatch, capsys):
    table = TrackTable(dataset="ccaus_video", part="validation", unit=FRAMES, supports=1, draws=2, targets=["one"])
    case = sweep("one", [1, 2, 3])
    for draw in range(2):
        table.note("m", case, case.masks, draw, 0)
    asked = []
    monkeypatch.setattr(tracking, "run_tracking", lambda *words: asked.append(words) or table)
    words = ["evaluate", "ccaus_video", "--data", str(tmp_path), "--model", str(model_file[0]), "--protocol", "track"]
    assert main([*words, "--draws", "2", "--part", "validation", "--out", str(tmp_path / "out" / "t")]) == 0
    written = json.loads((tmp_path / "out" / "t.json").read_text("utf-8"))
    assert (written["model"], written["steps"], written["protocol"]) == ("m", 5, "track")
    assert (tmp_path / "out" / "t.md").read_text("utf-8") in capsys.readouterr().out
    assert asked[0][1:7] == (tmp_path, "ccaus_video", 4, 2, 0, "validation")
