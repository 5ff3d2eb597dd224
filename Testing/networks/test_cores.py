"""Threads for networks: those that a container allows, and what the user chose in any case."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.networks import cores as threads


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of eight cores whose user chose nothing; its limits are written into files."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(threads, "_OLD_LIMIT", (tmp_path / "quota", tmp_path / "period"))
    set_to = [32]
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: set_to[-1])
    monkeypatch.setattr(threads.torch, "set_num_threads", set_to.append)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({"quota": "300000\n", "period": "100000\n"}, 3),
        ({"quota": "-1\n", "period": "100000\n"}, 8),
        ({"quota": "300000", "period": "0"}, 8),
    ],
)
def test_threads_are_no_more_than_the_cores_that_a_container_may_use(machine, files, cores):
    for name, text in files.items():
        (machine / name).write_text(text)
    assert threads.allowed_cores() == cores and threads.limit_threads() == cores


def test_what_the_user_chose_stays(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "32")
    assert threads.limit_threads() == 32


def test_a_machine_that_uses_fewer_threads_by_itself_keeps_them(machine, monkeypatch):
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 4)
    assert threads.limit_threads() == 4
