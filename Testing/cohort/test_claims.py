"""Claims: one process gets a study, a dead one keeps none, and a living one loses none."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from ProxyPromptSegmentLib.cohort import claims
from ProxyPromptSegmentLib.cohort.claims import MOST_DEATHS, Claim, DiedTooOften, Worker, declare_dead

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="asks the system about processes by their number")


def of_another_machine(folder, token: str, silent: float) -> None:
    """A worker that another machine runs, and that gave its last sign of life so many seconds ago."""
    path = folder / f"{token}.worker"
    path.write_text(json.dumps({"machine": "elsewhere", "pid": 1, "started": ""}))
    os.utime(path, (time.time() - silent,) * 2)


def of_a_dead_process(folder, token: str) -> None:
    """A worker that ran on this machine and ended without a word."""
    child = os.fork()
    if not child:
        Worker(folder, token).__enter__()
        os._exit(0)
    os.waitpid(child, 0)


def test_one_of_many_gets_a_study_and_the_next_one_when_it_is_given_up(tmp_path) -> None:
    with Worker(tmp_path) as first, Worker(tmp_path) as second:
        claim = first.claim("k")
        assert claim is not None and first.holds(claim)
        assert second.claim("k") is None and first.claim("k") is None
        first.release(claim, ended=False)
        assert second.claim("k") is not None
    assert list(tmp_path.glob("*.worker")) == []


def test_of_threads_that_claim_at_once_exactly_one_succeeds(tmp_path) -> None:
    workers = [Worker(tmp_path).__enter__() for _ in range(8)]
    for number in range(20):
        start, found = threading.Barrier(8), []

        def ask(worker, key=f"k{number}", start=start, found=found) -> None:
            start.wait()
            found.append(worker.claim(key))

        threads = [threading.Thread(target=ask, args=[worker]) for worker in workers]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len([claim for claim in found if claim]) == 1
    [worker.__exit__() for worker in workers]


def test_a_dead_process_of_this_machine_is_known_at_once(tmp_path) -> None:
    of_a_dead_process(tmp_path, "dead")
    (tmp_path / "k.0").write_text("dead")
    with Worker(tmp_path) as worker:
        assert worker.seems_dead("k")
        claim = worker.claim("k")
        assert claim is not None and claim.number == 1
        assert worker.others() == [] and not (tmp_path / "dead.worker").exists()
        worker.release(claim, ended=True)
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_another_machine_is_dead_when_it_was_silent_for_long(tmp_path) -> None:
    (tmp_path / "k.0").write_text("far")
    with Worker(tmp_path) as worker:
        of_another_machine(tmp_path, "far", silent=100)
        assert worker.claim("k") is None and worker.others() == ["far"] and worker.seems_dead("k")
        of_another_machine(tmp_path, "far", silent=5)
        assert worker.claim("k") is None and not worker.seems_dead("k")
        of_another_machine(tmp_path, "far", silent=130)
        assert worker.claim("k") is not None


def test_a_process_that_slept_too_long_notices_that_its_study_was_taken(tmp_path) -> None:
    with Worker(tmp_path) as sleeper, Worker(tmp_path) as other:
        mine = sleeper.claim("k")
        os.utime(tmp_path / f"{sleeper.token}.worker", (time.time() - 1000,) * 2)
        (tmp_path / f"{sleeper.token}.worker").write_text(json.dumps({"machine": "elsewhere"}))
        os.utime(tmp_path / f"{sleeper.token}.worker", (time.time() - 1000,) * 2)
        taken = other.claim("k")
        assert taken is not None and taken.number == 1
        os.utime(tmp_path / f"{sleeper.token}.worker")  # it wakes up
        assert not sleeper.holds(mine) and other.holds(taken)
        sleeper.release(mine, ended=False)
        with Worker(tmp_path) as third:
            assert third.claim("k") is None  # what the sleeper gave up was no longer its own
        declare_dead(tmp_path, other.token)
        assert not other.holds(taken)
        assert other.claim("another") is not None and other.holds(taken)  # alive again, under its name


def test_a_sign_of_life_is_given_again_and_again(tmp_path) -> None:
    with Worker(tmp_path, beat=0.01) as worker:
        path = tmp_path / f"{worker.token}.worker"
        os.utime(path, (1, 1))
        end = time.monotonic() + 20
        while path.stat().st_mtime < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert path.stat().st_mtime > 2


def test_a_study_at_which_many_died_is_given_to_nobody(tmp_path) -> None:
    for number in range(MOST_DEATHS):
        (tmp_path / f"k.{number}").write_text("gone")
    with Worker(tmp_path) as worker:
        with pytest.raises(DiedTooOften):
            worker.claim("k")
        worker.forget("k")
        assert worker.claim("k") == Claim("k", tmp_path / "k.0", 0, worker.token)


def test_a_claim_that_is_being_written_is_not_taken(tmp_path) -> None:
    (tmp_path / "k.0").touch()
    with Worker(tmp_path) as worker:
        assert worker.claim("k") is None
        os.utime(tmp_path / "k.0", (time.time() - 1000,) * 2)
        assert worker.claim("k") is not None


def test_another_process_with_the_same_number_is_not_the_dead_one(tmp_path, monkeypatch) -> None:
    identity = claims._identity()
    assert not claims._is_gone(identity)
    assert claims._is_gone({**identity, "started": "12345"})
    assert not claims._is_gone({**identity, "machine": "elsewhere"}) and not claims._is_gone(None)
