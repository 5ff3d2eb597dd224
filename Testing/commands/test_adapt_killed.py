"""The subcommand ``adapt`` as a process that is killed at random moments, and run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from adapt_cases import register_small_model, write_cases
from ProxyPromptSegmentLib.weights import registry

ROOT = Path(__file__).resolve().parents[2]
KILLS, STEPS, MOST_SAVES = 3, 4, 3  # three trainings of four steps, so that there are saves left for the last kill
# The command, which stores its state after every step and not every 20 seconds.
PROGRAM = """
import sys
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.training.adapting import run
run.SAVE_SECONDS = -1.0
sys.exit(main(sys.argv[1:]))
"""


def begin(home: Path, name: str) -> subprocess.Popen:
    words = ["adapt", "--cases", str(home / "cases"), "--model", "small", "--out", name, "--steps", str(STEPS)]
    words += ["--threads", "1", "--device", "cpu", "--keep-anyway", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words], cwd=home, env=environment, stderr=subprocess.PIPE)


def kill_after(process: subprocess.Popen, state: Path, saves: int) -> None:
    """Kill a process once it has stored its training so many times."""
    seen, last = 0, None
    while seen < saves:
        assert process.poll() is None, process.stderr.read().decode()
        now = state.stat().st_mtime_ns if state.is_file() else None
        seen, last = seen + (now is not None and now != last), now
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_a_command_that_is_killed_three_times_gives_the_weights_of_one_that_is_not(home):
    register_small_model(home)
    write_cases(home / "cases", 2)
    chance = random.Random()
    folder = home / "cache" / "adapting" / "mine"
    moments = []
    for _ in range(KILLS):
        moments.append(chance.randint(1, MOST_SAVES))
        process = begin(home, "mine")
        kill_after(process, folder / "training.safetensors", moments[-1])
        assert (folder / "state.json").is_file() and not (home / "cache" / "mine").exists()
    for name in ("mine", "other"):
        process = begin(home, name)
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    mine, other = (load(name) for name in ("mine", "other"))
    assert mine.keys() == other.keys()
    assert all((mine[name] == other[name]).all() for name in mine), moments
    assert not folder.exists()


def load(name: str) -> dict:
    from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint

    return read_checkpoint(registry.location(registry.find(name)))[0]
