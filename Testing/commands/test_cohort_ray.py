"""A cohort by two actors of a local Ray cluster, one of which is killed while it computes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray", reason="the optional package ray is not installed")

import torch

from adapt_cases import TINY
from cohort_cases import Archive
from ProxyPromptSegmentLib.networks.checkpoints import save_checkpoint
from ProxyPromptSegmentLib.networks.model import build_model

STUDIES = 12


@pytest.fixture
def archive(tmp_path) -> Archive:
    torch.manual_seed(0)
    model = build_model("sam-compact", TINY)
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, model.state_dict(), {"name": "small", "model": model.describe()})
    return Archive(tmp_path, str(path), count=STUDIES)


def kill_one_in_its_work(claims: Path, killed: list[int]) -> None:
    """Kill the first process that holds a claim when some studies are done."""
    records = claims.parent / "records"
    while not records.is_dir() or len(list(records.glob("*.json"))) < 3:
        time.sleep(0.01)
    while not killed:
        for claim in claims.glob("*.0"):
            try:
                identity = json.loads((claims / f"{claim.read_text()}.worker").read_text())
            except (OSError, ValueError):
                continue
            os.kill(identity["pid"], signal.SIGKILL)
            killed.append(identity["pid"])
            return
        time.sleep(0.001)


@pytest.mark.slow
def test_of_two_actors_one_is_killed_and_no_study_is_lost_or_done_twice(archive, capsys) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_in_its_work, args=[archive.output / "claims", killed], daemon=True)
    killer.start()
    assert archive.run("--ray", "local", "--actors", "2") in (0, 9)  # random weights may find nothing
    said = capsys.readouterr()
    assert len(killed) == 1 and "an actor died; its study is computed by another one" in said.err
    assert "2 Ray actors" in said.out and "by two processes at once" not in said.err
    assert sorted(record["study"] for record in archive.records()) == sorted(
        path.name for path in archive.studies.iterdir()
    )
    assert len(archive.results) == STUDIES and archive.leftovers() == []
    assert not any(row["state"] in ("failed", "not done yet") for row in archive.rows())
    assert archive.run("--ray", "local") in (0, 9)
    assert f"0 to do, {STUDIES} done before" in capsys.readouterr().out
