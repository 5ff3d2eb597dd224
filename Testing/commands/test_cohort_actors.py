"""How a cohort is shared out among actors, with a stand-in for Ray whose actors die when they are asked to."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.commands import cohort_ray


class ActorDied(Exception):
    """Any of Ray's errors about an actor that is no more or could not begin."""

    _actor_init_failed = False


class TaskFailed(Exception):
    """Ray's error about a call that raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class StandIn:
    """As much of Ray as is used: a call is made when its result is asked for, in this process."""

    exceptions = SimpleNamespace(RayError=ActorDied, RayTaskError=TaskFailed)

    def __init__(self, deaths: int = 0) -> None:
        self.deaths, self.started, self.begun = deaths, 0, {}

    def init(self, address: str, **more: object) -> None:
        self.begun = {"address": address, **more}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, kind: type) -> SimpleNamespace:
        def start(*arguments: object) -> SimpleNamespace:
            self.started += 1
            actor = kind(*arguments)

            def call(method):
                return SimpleNamespace(remote=lambda *words: Promise(method, words))

            return Handle(do=call(actor.do), end=call(actor.end))

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=start))

    def wait(self, promises: list, num_returns: int = 1, timeout: float | None = None) -> tuple[list, list]:
        if num_returns > 1 or timeout == cohort_ray._ENDING_SECONDS:
            [promise.method(*promise.words) for promise in promises]
        return promises[:1], promises[1:]

    def get(self, promise: Promise) -> object:
        if self.deaths and self.started:
            self.deaths -= 1
            raise ActorDied
        try:
            return promise.method(*promise.words)
        except Exception as error:
            raise TaskFailed(error) from None

    def kill(self, actor: object) -> None:
        pass

    def shutdown(self) -> None:
        pass


class Handle(SimpleNamespace):
    __hash__ = object.__hash__


class Promise:
    def __init__(self, method, words: tuple) -> None:
        self.method, self.words = method, words


@pytest.fixture
def ray(monkeypatch) -> StandIn:
    made = StandIn()
    monkeypatch.setattr(
        "ProxyPromptSegmentLib.commands.cohort.check_ray", lambda: None
    )  # first: it is imported by this
    monkeypatch.setattr(cohort_ray, "check_ray", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


def test_actors_do_what_one_process_does(archive, computed, ray, capsys) -> None:
    assert archive.run("--ray") == 0
    assert "2 Ray actors on processor cores" in capsys.readouterr().out
    assert ray.started == 2 and ray.begun["address"] == "local"
    assert sorted(computed) == ["case0.nrrd", "case1.nrrd", "case2.nrrd"] and archive.leftovers() == []


def test_an_actor_that_dies_is_replaced_and_its_study_done(archive, computed, ray, capsys) -> None:
    ray.deaths = 2
    assert archive.run("--ray", "auto", "--actors", "1") == 0
    said = capsys.readouterr()
    assert said.err.count("an actor died; its study is computed by another one") == 2
    assert ray.started == 3 and ray.begun["address"] == "auto" and len(archive.records()) == 3
    assert sorted(computed) == ["case0.nrrd", "case1.nrrd", "case2.nrrd"]


def test_actors_that_die_again_and_again_end_the_command(archive, computed, ray, capsys) -> None:
    ray.deaths = 10**6
    assert archive.run("--ray", "--actors", "2") == 8
    assert "actors die again and again" in capsys.readouterr().err and ray.started == 20


def test_what_would_fail_every_study_ends_the_command(archive, ray, capsys) -> None:
    assert archive.run("--ray", "--device", "cuda:77") == 8
    assert archive.records("failed") == []
    assert archive.run("--ray", "auto", "--actors", "3", output=archive.folder / "other") == 8
    assert "3 actors were asked for, and the Ray cluster has 2 cores" in capsys.readouterr().err


def test_ray_that_is_not_installed_is_said_with_what_to_install(archive, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cohort_ray.importlib.util, "find_spec", lambda name: None)
    assert archive.run("--ray") == 2
    assert "--ray needs the Python package Ray" in capsys.readouterr().err and not archive.output.exists()


def test_a_cluster_that_is_too_slow_to_start_is_started_again_and_one_of_others_is_not(archive, computed, ray, capsys):
    slow, tried = [True, True], []

    def init(address: str, **more: object) -> None:
        tried.append(address)
        if slow:
            slow.pop()
            raise RuntimeError("The current node timed out\nduring startup.")

    ray.init = init
    assert archive.run("--ray") == 0 and tried == ["local"] * 3 and len(computed) == 3
    slow.append(True)
    assert archive.run("--ray", "auto", output=archive.folder / "other") == 8 and tried[3:] == ["auto"]
    assert (
        "the Ray cluster 'auto' cannot be used: The current node timed out during startup." in capsys.readouterr().err
    )
