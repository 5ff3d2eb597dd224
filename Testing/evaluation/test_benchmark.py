"""The published tables: every figure in them can be worked out by hand, and every method is scored as it says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from command_cases import InContextModel
from drawn_data import DataFolder
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation import benchmark, unet_baseline
from ProxyPromptSegmentLib.evaluation.benchmark import EMPTIED, FUNDUS, MEAN, PROXY, Table, run_table
from ProxyPromptSegmentLib.inference.segmenter import Segmenter

SIDE, SLICES, DRAWS = 64, 4, 6
BRIGHT, DIM = 600, 300


def a_table() -> Table:
    """Two draws on three targets of two objects."""
    table = Table(dataset="made", supports=2, draws=2, targets=["one", "two", "three"])
    table.scores = {
        "method": {
            "gland": np.array([[0.9, 0.6, 0.3], [0.7, 0.8, 0.9]]),
            "stone": np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]),
        }
    }
    table.foreground = {
        "method": {
            "gland": np.array([[0.9, 0.7, np.nan], [0.8, 0.8, np.nan]]),
            "stone": np.array([[0.4, 0.5, 0.6], [0.4, 0.5, 0.6]]),
        }
    }
    table.inconsistent = {
        "method": {
            "gland": np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]),
            "stone": np.zeros((2, 3)),
        }
    }
    return table


def test_the_rows_are_means_and_population_standard_deviations_over_targets_and_over_draws():
    gland, stone = a_table().rows()
    # targets: 0.8, 0.7, 0.6; draws: 0.6, 0.8
    assert (gland["method"], gland["object"], gland["targets"]) == ("method", "gland", 3)
    assert gland["dice"] == 0.7
    assert gland["sd_over_targets"] == pytest.approx(np.sqrt(0.02 / 3), abs=5e-5)
    assert gland["sd_over_draws"] == 0.1
    assert gland["foreground_dice"] == 0.8, "a target without the object has none"
    assert gland["inconsistent_slices"] == 2.5, "of all targets, mean of the draws"
    assert 0.6 <= gland["ci95"][0] < 0.7 < gland["ci95"][1] <= 0.8
    assert (stone["dice"], stone["sd_over_targets"], stone["sd_over_draws"]) == (0.5, 0, 0)
    assert stone["ci95"] == [0.5, 0.5]


def test_the_table_is_written_for_people_and_for_programs():
    table = a_table()
    lines = table.to_markdown().splitlines()
    assert lines[0] == "made: 3 test targets, K = 2, 2 draws of supports."
    assert replace(table, part="validation").to_markdown().startswith("made: 3 validation targets, ")
    assert "| method | gland | 0.700 | 0.082 | 0.6" in lines[4] and lines[4].endswith("| 0.100 | 0.800 | 2.5 |")
    assert lines[5] == "| method | stone | 0.500 | 0.000 | 0.500 to 0.500 | 0.000 | 0.500 | 0.0 |"
    assert {line.count("|") for line in lines[2:]} == {9}
    written = json.loads(json.dumps(table.to_dict()))
    assert (written["dataset"], written["supports"], written["draws"]) == ("made", 2, 2)
    assert written["rows"] == list(table.rows())
    assert written["per_target"]["method"]["gland"] == [0.8, 0.7, 0.6]


def test_targets_of_one_patient_count_once():
    """Two phases of a heart are no two patients, of whom an interval would be narrower."""
    table = replace(a_table(), patients=["a", "a", "b"])
    gland, _ = table.rows()
    assert gland["dice"] == 0.675 and gland["patients"] == 2 and gland["ci95"] is None
    assert table.to_markdown().startswith("made: 3 test targets of 2 patients, K = 2")


def blob(level: int, shift: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume with a square of some brightness on its inner slices, and a brighter bar that is no object."""
    images = np.random.default_rng(seed).normal(100, 2, (SLICES, SIDE, SIDE))
    labels = np.zeros((SLICES, SIDE, SIDE), np.uint8)
    labels[1:-1, 20:36, 20 + shift : 36 + shift] = 1
    images[:, :3] = 1000
    images[labels > 0] = level
    return images, labels


def eye(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose disc and cup are as bright as nothing in the volumes."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[20:40, 20:40], labels[25:35, 25:35] = 1, 2
    picture = np.full((SIDE, SIDE, 3), 20, np.uint8) + np.uint8(seed)
    picture[:6] = 250
    picture[labels > 0] = 200
    return picture, labels


@pytest.fixture
def data(tmp_path, monkeypatch) -> DataFolder:
    """Four patients to train on, one to validate, three for test; the patients' names say how bright the object is."""
    monkeypatch.setitem(splits.COUNTS, "promise12", (0, 0))
    monkeypatch.setitem(splits.COUNTS, "drishti_gs", (0, 0))
    folder = DataFolder(tmp_path / "data")
    for n in range(8):
        dim = n in (2, 3)
        drawing = blob(DIM if dim else BRIGHT, 8 if n == 1 else 0, n)
        folder.add_volume("promise12", f"{'dim' if dim else 'bright'}{n}", drawing)
    for n in range(4):
        folder.add_picture("drishti_gs", f"eye{n}", eye(n))
    cases = {case.name[-1]: case for case in load_dataset(folder.path, "promise12")}
    parts = splits.Split(train=[cases[n] for n in "0123"], validation=[cases["4"]], test=[cases[n] for n in "567"])
    real = splits.split
    monkeypatch.setattr(benchmark, "split", lambda found, name: parts if name == "promise12" else real(found, name))
    return folder


@pytest.fixture
def segmenter() -> Segmenter:
    """It finds what is as bright as the marked part of the supports; each slice counts for itself."""
    return Segmenter(InContextModel(), "cpu")


def test_every_method_is_scored_on_the_same_targets_and_supports(data, segmenter):
    told = []
    table = run_table(
        segmenter, data.path, "promise12", 1, DRAWS, on_target=lambda done, count: told.append((done, count))
    )
    assert table.targets == ["bright5", "bright6", "bright7"] and told == [(1, 3), (2, 3), (3, 3)]
    drawn = {target: [draw[0].name for draw in draws] for target, draws in table.drawn.items()}
    assert set(sum(drawn.values(), [])) == {"bright0", "bright1", "dim2", "dim3"}, "every support was drawn once"
    assert all(draw[0].slice_index in (1, 2) for draws in table.drawn.values() for draw in draws), "only marked slices"
    # A bright support finds the bright square, a dim one nothing. The copied mask of patient 1 is shifted by half.
    found = np.array([[name.startswith("bright") for name in drawn[target]] for target in table.targets], float).T
    copied = np.array([[0.5 if name == "bright1" else 1.0 for name in drawn[target]] for target in table.targets]).T
    assert list(table.scores) == [MEAN, PROXY, EMPTIED, FUNDUS]
    np.testing.assert_allclose(table.scores[PROXY]["prostate"], found, atol=0.02)
    np.testing.assert_allclose(table.scores[MEAN]["prostate"], copied * 2 * 2 / (2 + SLICES), atol=0.02)
    np.testing.assert_allclose(table.foreground[MEAN]["prostate"], copied, atol=0.02)
    assert table.scores[EMPTIED]["prostate"].max() < 0.02 and table.scores[FUNDUS]["prostate"].max() < 0.02
    row = next(row for row in table.rows() if row["method"] == PROXY)
    assert row["sd_over_draws"] == pytest.approx(found.mean(axis=1).std(), abs=0.02)
    assert table.to_dict()["drawn"]["bright5"][0][0] in {f"{name}:{n}" for name in drawn["bright5"] for n in (1, 2)}


def test_the_copied_mask_is_scored_on_targets_of_every_size(data, segmenter, monkeypatch):
    """What was not scored would count as a Dice of 0, and the model beside it would look better."""
    real = benchmark.split

    def cropped(found, name):
        parts = real(found, name)
        if name != "promise12":
            return parts
        first, *others = parts.test
        small = replace(first, images=first.images[:, 8:56, 8:56], masks=first.masks[..., 8:56, 8:56])
        return splits.Split(train=parts.train, validation=parts.validation, test=[small, *others])

    monkeypatch.setattr(benchmark, "split", cropped)
    table = run_table(segmenter, data.path, "promise12", 1, 2)
    assert table.scores[MEAN]["prostate"].min() > 0.2 and table.patients == ["bright5", "bright6", "bright7"]


def test_the_same_seed_draws_the_same_and_the_next_one_begins_a_draw_later(data, segmenter):
    drawn = [run_table(segmenter, data.path, "promise12", 1, 3, seed).to_dict()["drawn"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(drawn[2][target][:2] == drawn[0][target][1:] for target in drawn[0])


def test_a_slice_that_falls_out_between_two_good_ones_is_counted(data, segmenter):
    table = Table(dataset="made", supports=1, draws=1, targets=["case"])
    case = load_dataset(data.path, "promise12")[0]
    masks = case.masks.copy()
    masks[1] = 0
    benchmark._note(table, "m", case, masks, 0, 0)
    assert table.inconsistent["m"]["prostate"].tolist() == [[1]]
    assert table.scores["m"]["prostate"][0, 0] == pytest.approx(2 / 3)
    assert table.foreground["m"]["prostate"][0, 0] == pytest.approx(2 / 3)


def test_fewer_targets_are_spread_evenly_and_another_part_is_taken_when_asked(data, segmenter):
    assert run_table(segmenter, data.path, "promise12", 1, 1, limit=2).targets == ["bright5", "bright7"]
    table = run_table(segmenter, data.path, "promise12", 1, 1, part="validation")
    assert table.targets == ["bright4"] and table.to_dict()["part"] == "validation"
    with pytest.raises(UsageError, match="choose test or validation"):
        run_table(segmenter, data.path, "promise12", 1, 1, part="train")


class LowerHalf(torch.nn.Module):
    """Stands for the trained network: whatever the image, its lower half is the object."""

    def forward(self, images):
        return torch.where(torch.arange(SIDE).view(-1, 1) < SIDE // 2, -1.0, 1.0).expand(len(images), 1, -1, SIDE)


def test_the_u_net_has_a_row_of_its_own_that_no_draw_of_supports_changes(data, segmenter, tmp_path, monkeypatch):
    weights = tmp_path / "unet.safetensors"
    save_file({"x": torch.zeros(1)}, weights, {"training": "promise12, 14 patients", "minutes": "45"})
    monkeypatch.setattr(unet_baseline, "load_unet", lambda path: {weights: LowerHalf()}[path])
    table = run_table(segmenter, data.path, "promise12", 1, 2, unet=weights)
    name = "U-Net (monai), 14 patients, 45 min"
    assert list(table.scores) == [MEAN, PROXY, EMPTIED, FUNDUS, name]
    # 4 of the square's 16 rows, 16 columns, 2 slices; the square has 2 x 256 voxels, the lower half 4 x 2048
    expected = 2 * (4 * 16 * 2) / (2 * 256 + SLICES * 2048)
    np.testing.assert_allclose(table.scores[name]["prostate"], np.full((2, 3), expected))
    assert [row["sd_over_draws"] for row in table.rows() if row["method"] == name] == [0]
