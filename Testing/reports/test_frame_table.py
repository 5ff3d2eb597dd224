"""The table of tracked frames: whole rows only, also after an interrupt, a kill or a full disk."""

from __future__ import annotations

import csv
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.reports.frame_table import TrackTable


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_row_for_each_frame_and_object(tmp_path):
    path = tmp_path / "t.csv"
    with TrackTable(path, (0.5, 0.4)) as table:
        table.add(0, 'lobe, "left"', 12, 0.04, 0.91237, 1.0)
        table.add(1, "ü", None, float("nan"), state="bad", note="its data\nare damaged")
        assert not path.exists()
    first, second = rows_of(path)
    assert first == {
        "frame": "0", "time_s": "0.04", "object": 'lobe, "left"', "area_px": "12", "area_mm2": "2.4",
        "confidence": "0.9124", "agreement": "1", "state": "ok", "note": "",
    }  # fmt: skip
    assert (second["time_s"], second["area_px"], second["area_mm2"]) == ("", "", "")
    assert (second["object"], second["state"], second["note"]) == ("ü", "bad", "its data are damaged")
    with TrackTable(path) as table:
        table.add(0, "a", 100)
        with pytest.raises(ValueError, match="not done"):
            table.add(1, "a", 1, state="perfect")
    assert [(row["area_px"], row["area_mm2"]) for row in rows_of(path)] == [("100", "")]
    assert os.listdir(tmp_path) == ["t.csv"]


def test_after_ctrl_c_the_rows_until_then_are_in_the_table(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with TrackTable(tmp_path / "t.csv") as table:
            table.add(0, "a", 1)
            table.add(1, "a", 2)
            raise KeyboardInterrupt
    assert [row["area_px"] for row in rows_of(tmp_path / "t.csv")] == ["1", "2"]
    assert os.listdir(tmp_path) == ["t.csv"]


def test_after_a_failure_the_older_table_stays(tmp_path):
    (tmp_path / "t.csv").write_text("older")
    with pytest.raises(RuntimeError, match="the model"):
        with TrackTable(tmp_path / "t.csv") as table:
            table.add(0, "a", 1)
            raise RuntimeError("the model")
    assert (tmp_path / "t.csv").read_text() == "older" and os.listdir(tmp_path) == ["t.csv"]
    with pytest.raises(OutputError, match="does not exist"):
        with TrackTable(tmp_path / "nowhere" / "t.csv"):
            pass


def test_a_killed_program_leaves_whole_rows_beside(tmp_path):
    code = (
        "import os, signal, sys; from ProxyPromptSegmentLib.reports.frame_table import TrackTable\n"
        "with TrackTable(sys.argv[1]) as table:\n"
        "    for n in range(50): table.add(n, 'a', n)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.csv")], cwd=root)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".t.partial") and [row["area_px"] for row in rows_of(left)] == [
        str(n) for n in range(50)
    ]


def test_a_table_on_a_full_disk_is_told_and_removed(tmp_path):
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(OutputError, match="could not be written"):
            with TrackTable(tmp_path / "t.csv") as table:
                for n in range(1000):
                    table.add(n, "a", n)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert n < 999 and os.listdir(tmp_path) == []
