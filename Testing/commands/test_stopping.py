"""Ctrl-C: what is done is kept, a second one stops at once, nothing half-written stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")

from command_cases import ROOT, Desk
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.progress import Progress
from signals import SignalAt


def _progress(monkeypatch, progress: Progress) -> None:
    monkeypatch.setattr("ProxyPromptSegmentLib.commands.console.ConsoleProgress", lambda *_: progress)


def test_ctrl_c_in_the_middle_keeps_the_slices_that_are_done(desk, monkeypatch, capsys) -> None:
    _progress(monkeypatch, SignalAt(4))
    before = signal.getsignal(signal.SIGINT)
    report = desk.folder / "r.json"
    assert main(desk.words("--progress", "--report", report)) == 130
    assert signal.getsignal(signal.SIGINT) is before
    mask, truth = read_segmentation(desk.output).segments[0].mask, desk.truth[1].segments[0].mask
    np.testing.assert_array_equal(mask[:4], truth[:4])
    assert not mask[4:].any()
    assert "4 of 6 slices" in capsys.readouterr().err
    written = json.loads(report.read_text("utf-8"))
    assert written["state"] == "stopped by the user"
    assert written["slices_done"] == [0, 1, 2, 3], "two slices are computed together"


def test_a_second_ctrl_c_stops_at_once_and_writes_nothing(desk, monkeypatch, capsys) -> None:
    _progress(monkeypatch, SignalAt(4, times=2))
    before = desk.files()
    assert main(desk.words("--progress")) == 130
    assert "stopped immediately" in capsys.readouterr().err
    assert desk.files() == before


def test_ctrl_c_while_the_network_is_loaded_writes_nothing(desk, monkeypatch, capsys) -> None:
    load = loading.load

    def slow(*args: str) -> object:
        signal.raise_signal(signal.SIGINT)
        return load(*args)

    monkeypatch.setattr(loading, "load", slow)
    assert main(desk.words()) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not desk.output.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_sigint_from_outside_keeps_the_slices_of_a_running_process(tmp_path, random_checkpoint) -> None:
    desk = Desk(tmp_path, str(random_checkpoint))
    long = VolumeGeometry((64, 64, 900), (1, 1, 3))
    array = np.random.default_rng(0).normal(size=long.shape_kji).astype(np.float32)
    target = tmp_path / "long.nrrd"
    write_volume(target, Volume(array, long))
    command = [sys.executable, "-m", "ProxyPromptSegmentLib", *desk.words("--progress", target=target)]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    seen = ""
    while not re.search("segmenting .*slice [1-9]", seen[-90:]):  # however long that takes on a busy machine
        more = process.stderr.read(1)
        assert more, f"it ended before the first slice: {seen}"
        seen += more
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=600)[1]
    assert process.returncode == 130, seen + rest
    assert "of 900 slices that were finished" in rest
    assert read_segmentation(desk.output).geometry.size_ijk == (64, 64, 900)
    assert not list(tmp_path.glob(".*partial*"))
