"""Empty slices inside an object, at the command line and in scripts: filled and said, left and said, or kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import GRID, LEVELS, SIDE, Desk, InContextModel
from ProxyPromptSegmentLib.api import load_model, read_support_case, read_volume
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.engine import Engine
from ProxyPromptSegmentLib.worker.tasks import SegmentTask
from track_cases import COUNT, a_frame, read_frames, save

LONG = VolumeGeometry((SIDE, SIDE, 10), GRID.spacing_mm, GRID.origin_lps)
GAP = 4
MARK = 800.0  # brighter than every object


class DoubtfulModel(InContextModel):
    """Thinks that nothing is shown where the image has a mark; its mask is right there, too."""

    def predict(self, features, support, chosen=None):
        decoded, prompt = super().predict(features, support, chosen)
        marked = features.top[:, 0, 10, 2] > 0.7
        prompt.presence[marked] = -6.0
        return decoded, prompt


@pytest.fixture
def doubtful(tmp_path, monkeypatch) -> Desk:
    """A desk whose target shows the gland on slices 1 to 8, with a mark on slice 4."""
    file = tmp_path / "double.safetensors"
    file.write_bytes(b"not read")
    monkeypatch.setattr(checkpoints, "load_model", lambda *_: (DoubtfulModel(), {"name": "double"}))
    desk = Desk(tmp_path, str(file))
    array = np.random.default_rng(0).normal(100, 2, LONG.shape_kji).astype(np.float32)
    array[:, :3] = 1000.0
    rows, columns = np.mgrid[:SIDE, :SIDE]
    array[1:9, np.hypot(rows - 32, columns - 32) < 9] = LEVELS["gland"]
    array[GAP, 8:12, :5] = MARK
    write_volume(desk.target, Volume(array, LONG, "new"))
    return desk


def words(desk: Desk, *more: str) -> list[str]:
    across = [word for word in desk.words("--object", "gland", "--json", *more) if word != "--each-slice-alone"]
    return across


def shown_on(desk: Desk) -> list[int]:
    return np.flatnonzero(read_segmentation(desk.output).segments[0].mask.any(axis=(1, 2))).tolist()


def test_a_gap_is_filled_named_and_in_the_report(doubtful, capsys) -> None:
    assert main(words(doubtful)) == 0
    said = capsys.readouterr()
    assert shown_on(doubtful) == list(range(1, 9))
    name = SliceNames.of(LONG, "k").name(GAP)
    assert f"'gland' was filled in on {name}:" in said.err and "With --keep-gaps such slices stay empty." in said.err
    (entry,) = json.loads(said.out)["objects"]
    assert entry["slices_filled"] == [GAP] and entry["slices_left_empty"] == []
    assert json.loads(said.out)["settings"]["fill_gaps"] is True


def test_a_gap_that_is_kept_is_named_too(doubtful, capsys) -> None:
    assert main(words(doubtful, "--keep-gaps")) == 0
    said = capsys.readouterr()
    assert shown_on(doubtful) == [1, 2, 3, 5, 6, 7, 8]
    assert f"'gland' is empty on {SliceNames.of(LONG, 'k').name(GAP)}, between others that show it." in said.err
    (entry,) = json.loads(said.out)["objects"]
    assert entry["slices_filled"] == [] and entry["slices_left_empty"] == [GAP]


def test_scripts_can_keep_gaps_and_see_which_slices_were_filled(doubtful) -> None:
    model = load_model(doubtful.model, "cpu")
    support, target = read_support_case(doubtful.support, doubtful.marks), read_volume(doubtful.target)
    filled = model.segment([support], target, "gland")
    assert np.flatnonzero(filled.filled[:, 0]).tolist() == [GAP] and filled.masks[GAP].any()
    kept = model.segment([support], target, "gland", fill_gaps=False)
    assert not kept.filled.any() and not kept.masks[GAP].any()


def test_slices_that_are_frames_in_time_are_named_so_and_not_filled(doubtful) -> None:
    job = plan([read_support_case(doubtful.support, doubtful.marks)], read_volume(doubtful.target), ["gland"])
    task = SegmentTask(job, model=doubtful.model, device="cpu", in_time=True)
    found = task(Engine(), Context(0, CancelToken(), lambda event: None))
    assert not found.masks[GAP].any()
    assert [note.text.partition(",")[0] for note in found.notes] == [f"'gland' is empty on frame {GAP}"]


def test_frames_without_an_object_between_frames_that_show_it_are_named_and_never_filled(track_desk, capsys) -> None:
    for n in (2, 3):
        picture, masks = a_frame(n)
        picture[masks.any(axis=0)] = 30
        save(track_desk.target / f"frame_{n}.png", picture)
    assert main(track_desk.words("--object", "label 1")) == 0
    assert "'label 1' is empty on frames 2-3, between others that show it." in capsys.readouterr().err
    found = read_frames(track_desk.output)
    assert [n for n in range(COUNT) if found[n].any()] == [0, 1, 4, 5]
