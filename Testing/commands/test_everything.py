"""The subcommand everything: a label map in files that other programs read, its limits, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import engine_doubles  # noqa: F401 - skips where a package is missing
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND, EXIT_OK
from ProxyPromptSegmentLib.imaging.label_files import distinct_color, write_labels
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume, write_volume

LOOSE = ["--points", "4", "--quality", "0.3", "--stability", "0.5", "--device", "cpu"]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("everything") / "target.nrrd"
    write_volume(path, pelvis_phantom(4, (8, 48, 48))[0])
    return path


def everything(*words):
    return main(["everything", *map(str, words)])


def test_a_slice_becomes_a_segmentation_on_the_targets_grid(target, tmp_path, capsys):
    output, report = tmp_path / "all.seg.nrrd", tmp_path / "all.json"
    assert everything("--target", target, "--slices", "4", "--output", output, "--report", report, *LOOSE) == EXIT_OK
    found, volume = read_segmentation(output), read_volume(target)
    assert found.geometry.is_close(volume.geometry)
    assert all(name.startswith("thing ") for name in found.names)
    drawn = np.any([segment.mask for segment in found.segments], axis=0)
    assert np.flatnonzero(drawn.any(axis=(1, 2))).tolist() == [4]
    said = json.loads(report.read_text())
    assert [label["name"] for label in said["labels"]] == found.names
    assert said["slices_done"] == [4] and said["state"] == "complete"
    assert [label["voxels"] for label in said["labels"]] == [int(s.mask.sum()) for s in found.segments]
    out = capsys.readouterr().out
    assert "on 1 slice" in out and "Research use only" in out


def test_nothing_that_appeared_meanwhile_is_replaced(target, tmp_path, monkeypatch):
    from ProxyPromptSegmentLib.commands import everything as command

    output, run = tmp_path / "all.seg.nrrd", command.run_task

    def slow(*words, **more):
        found = run(*words, **more)
        output.write_bytes(b"of another program")
        return found

    monkeypatch.setattr(command, "run_task", slow)
    assert everything("--target", target, "--slices", "4", "--output", output, *LOOSE) == 6
    assert output.read_bytes() == b"of another program"


def test_nothing_good_enough_writes_nothing_and_says_so(target, tmp_path, capsys):
    output = tmp_path / "none.nii.gz"
    words = ["--slices", "0", "--points", "2", "--quality", "0.9999", "--device", "cpu", "--json"]
    report = tmp_path / "none.json"
    assert everything("--target", target, "--output", output, "--report", report, *words) == EXIT_NOTHING_FOUND
    assert not output.exists()
    said = capsys.readouterr()
    assert "lower the least quality" in said.err and "no labels were written." in said.err
    assert json.loads(said.out) == json.loads(report.read_text()) and json.loads(said.out)["labels"] == []
    output.write_bytes(b"what was found in another image")
    assert everything("--target", target, "--output", output, "--force", *words) == EXIT_NOTHING_FOUND
    assert "none.nii.gz is of an earlier run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--points", "0"], "number (allowed: 1 or more)"),
        (["--points", "999"], "999 points per side were requested; allowed are 1 to 128"),
        (["--quality", "1.5"], "share (allowed: 0 to below 1)"),
        (["--slices", "99"], "its slices are 0 to 7"),
        (["--slices", "x"], "--slices is 'x'; write slices as"),
        (["--least-pixels", "-3"], "0 or more pixels"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_allowed(target, tmp_path, words, message, capsys):
    assert everything("--target", target, "--output", tmp_path / "out.nii.gz", *words) != EXIT_OK
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_many_labels_are_kept_without_a_mask_for_each(tmp_path):
    volume = pelvis_phantom(4, (8, 48, 48))[0]
    labels = np.zeros(volume.array.shape, np.uint16)
    labels.reshape(-1)[:300] = np.arange(1, 301)
    names = [f"thing {n}" for n in range(1, 301)]
    for name in ("many.seg.nrrd", "many.nrrd"):
        write_labels(tmp_path / name, labels, volume.geometry, names)
    found = read_segmentation(tmp_path / "many.seg.nrrd")
    assert found.names == names and found.geometry.is_close(volume.geometry)
    assert all(int(segment.mask.sum()) == 1 for segment in found.segments[::50])
    np.testing.assert_array_equal(read_volume(tmp_path / "many.nrrd").array, labels)
    assert len({distinct_color(n) for n in range(300)}) == 300
