"""Real processes on one cohort: killed at any moment, and two at once; forked, so that none has to import torch."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
if not hasattr(os, "fork"):
    pytest.skip("the system cannot fork", allow_module_level=True)

from cohort_cases import Archive
from ProxyPromptSegmentLib.commands import cohort_worker, segment_run


@pytest.fixture
def archive(tmp_path, model) -> Archive:
    return Archive(tmp_path, model, count=4)


def forked(work: Callable[[], int]) -> int:
    """Begin work in another process; return its number."""
    child = os.fork()
    if not child:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Wait for a process; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def logging_perform(log: Path, before: Callable = lambda _: None, after: Callable = lambda _: None) -> Callable:
    """Segment, and note the study's name in a file that all processes add to."""

    def perform(request, *more, **named):
        before(request)
        report = segment_run.perform(request, *more, **named)
        after(request)
        with log.open("a") as file:
            file.write(f"{request.target.name}\n")
        return report

    return perform


def stop_here(sign: Path) -> None:
    sign.touch()
    time.sleep(600)


@pytest.mark.parametrize("moment", ["claimed", "writing", "written"])
def test_a_process_that_is_killed_loses_the_study_that_it_computes_and_no_other(archive, monkeypatch, moment) -> None:
    sign, log = archive.folder / "sign", archive.folder / "log"

    def at(request) -> None:
        if request.target.name != "case2.nrrd" or sign.exists():
            return
        if moment == "writing":
            request.output.with_name(".case2.partial-12345678.seg.nrrd").write_bytes(b"NRRD")
        stop_here(sign)

    def nothing(_: object) -> None:
        pass

    perform = logging_perform(log, *((nothing, at) if moment == "written" else (at, nothing)))
    monkeypatch.setattr(cohort_worker, "perform", perform)
    child = forked(archive.run)
    while not sign.exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    assert archive.leftovers() and len(archive.records()) == 2
    assert archive.run() == 0
    assert log.read_text().split() == [f"case{number}.nrrd" for number in range(4)]
    assert len(archive.records()) == len(archive.results) == 4 and archive.leftovers() == []


def test_two_processes_on_one_folder_do_each_study_once(archive, monkeypatch) -> None:
    log = archive.folder / "log"
    for number in range(4, 8):
        archive.add(f"case{number}.nrrd", 10 + number)
    monkeypatch.setattr(cohort_worker, "perform", logging_perform(log, before=lambda _: time.sleep(0.02)))
    children = [forked(archive.run) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    assert Counter(log.read_text().split()) == Counter(f"case{number}.nrrd" for number in range(8))
    assert len(archive.records()) == 8 and archive.leftovers() == []
    assert {row["state"] for row in archive.rows()} <= {"done", "not everything found"}


def test_what_a_living_process_computes_is_left_to_it(archive, monkeypatch, capsys) -> None:
    sign, log = archive.folder / "sign", archive.folder / "log"
    monkeypatch.setattr(
        cohort_worker,
        "perform",
        logging_perform(log, before=lambda _: None if sign.exists() else stop_here(sign)),
    )
    child = forked(archive.run)
    try:
        while not sign.exists():
            time.sleep(0.01)
        assert archive.run() == 0
        said = capsys.readouterr().out
        assert "3 studies segmented" in said and "1 study being computed by other processes" in said
        assert "1 study not done yet" in said
    finally:
        os.kill(child, signal.SIGKILL)
        ended(child)
    assert archive.run() == 0 and len(archive.records()) == 4
    assert max(Counter(log.read_text().split()).values()) == 1
