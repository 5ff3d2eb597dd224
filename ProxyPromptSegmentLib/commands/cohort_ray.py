"""Runs a cohort with the actors of a Ray cluster, one for each GPU or core; Ray is an optional package."""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.cohort.claims import declare_dead
from ProxyPromptSegmentLib.cohort.folder import CLAIMS
from ProxyPromptSegmentLib.cohort.process import POLL_SECONDS, Kind, More, Outcome
from ProxyPromptSegmentLib.cohort.studies import Study
from ProxyPromptSegmentLib.commands.cohort_run import Reporter
from ProxyPromptSegmentLib.commands.cohort_worker import Order, StudyWorker
from ProxyPromptSegmentLib.errors import DeviceError, UsageError
from ProxyPromptSegmentLib.progress import CancelToken

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.commands.console import Console

LOCAL = "local"
"""The address that starts a cluster on this machine, whatever others there are."""

_STORE_BYTES = 100 << 20
"""Memory for objects that actors share; paths and outcomes are all there is."""

_MOST_STARTS = 10
"""So many actors may die for each that was asked for, before the cluster counts as unusable."""

_MOST_TRIES = 3
"""So often a cluster is started on a machine that is too busy to start it in time."""

_ENDING_SECONDS = 30.0


def check_ray() -> None:
    """Refuse the option without Ray.

    Raises:
        UsageError: Saying what to install.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--ray needs the Python package Ray, which is not installed here: `pip install ray`, or `pip install "
            "'.[ray]'` in a checkout. Without it, start the same command several times, or use --shard."
        )


class Actor:
    """What an actor does: a `StudyWorker` that lives until `end` is called."""

    def __init__(self, order: Order, token: str) -> None:
        """Begin, under a name that the driver knows."""
        self._worker = StudyWorker(order, token).__enter__()

    def do(self, study: Study) -> Outcome:
        """Segment a study; see `StudyWorker.do`."""
        return self._worker.do(study, CancelToken())

    def end(self) -> None:
        """End, and leave no claims."""
        self._worker.__exit__()


class _Pool:
    """The actors and what each computes."""

    def __init__(self, ray: Any, order: Order, count: int, options: dict[str, Any], console: Console) -> None:
        self._ray, self._order, self._options, self._console = ray, order, options, console
        self._kind = ray.remote(Actor)
        self._starts_left = count * _MOST_STARTS
        self._tokens: dict[Any, str] = {}
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, Study]] = {}
        for _ in range(count):
            self.start()

    def start(self) -> None:
        """Start an actor.

        Raises:
            DeviceError: If they die again and again.
        """
        if self._starts_left == 0:
            raise DeviceError(
                "actors die again and again, most often because memory runs out; the studies that are done are kept. "
                "Start fewer with --actors, or look into Ray's logs."
            )
        self._starts_left -= 1
        token = uuid.uuid4().hex[:12]
        actor = self._kind.options(**self._options).remote(self._order, token)
        self._tokens[actor] = token
        self.idle.append(actor)

    def give(self, study: Study) -> None:
        """Let an idle actor segment a study."""
        actor = self.idle.pop(0)
        self.running[actor.do.remote(study)] = (actor, study)

    def ended(self) -> list[tuple[Study, Outcome | None]]:
        """Return the studies that ended within a moment; None for those whose actor died, which is replaced.

        Raises:
            ProxyPromptError: As `StudyWorker.do`.
        """
        ready, _ = self._ray.wait(list(self.running), timeout=POLL_SECONDS)
        found: list[tuple[Study, Outcome | None]] = []
        for reference in ready:
            actor, study = self.running.pop(reference)
            try:
                found.append((study, self._ray.get(reference)))
                self.idle.append(actor)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:  # it died, or could not be started in its place
                self._buried(actor, error)
                found.append((study, None))
        return found

    def _buried(self, actor: Any, error: Exception) -> None:
        """Free the claims of an actor that died, and start another; one that could not begin ends all.

        Raises:
            DeviceError: Why it could not begin.
        """
        declare_dead(self._order.folder.folder(CLAIMS), self._tokens.pop(actor))
        if getattr(error, "_actor_init_failed", False):
            raise DeviceError(f"an actor could not begin: {' '.join(str(error).split())[-300:]}")
        self._console.warn("an actor died; its study is computed by another one.")
        self.start()

    def end(self) -> None:
        """End the actors that are alive."""
        last = [actor.end.remote() for actor in self.idle]
        self._ray.wait(last, num_returns=len(last), timeout=_ENDING_SECONDS) if last else None
        for actor, token in self._tokens.items():
            self._ray.kill(actor)
            declare_dead(self._order.folder.folder(CLAIMS), token)


def run_with_ray(
    order: Order,
    studies: Sequence[Study],
    more: More,
    reporter: Reporter,
    cancel: CancelToken,
    console: Console,
    address: str = "",
    actors: int | None = None,
) -> int:
    """Segment studies with actors; return the number of those that other processes are computing.

    Args:
        order: The order; its folder and all inputs have the same paths on all machines.
        studies: The studies.
        more: See `More`.
        reporter: Informed of each study.
        cancel: Stops when the studies being computed are done.
        console: Where it is said that an actor died.
        address: Of a running cluster, or ``auto`` for one that runs here; "" takes that of ``RAY_ADDRESS``, or starts a
            cluster on this machine.
        actors: Their number; by default one for each GPU, or for each core where there is none.

    Raises:
        DeviceError: If no cluster can be reached, or it has too few cores.
        ProxyPromptError: As `StudyWorker.do`.
    """
    import ray

    where = address or os.environ.get("RAY_ADDRESS") or LOCAL
    begun = {"object_store_memory": _STORE_BYTES, "include_dashboard": False} if where == LOCAL else {}
    if where == LOCAL and actors:
        begun["num_cpus"] = max(actors, os.cpu_count() or 1)
    _connect(ray, where, begun)
    try:
        has = ray.cluster_resources()
        gpus, cores = int(has.get("GPU", 0)), int(has.get("CPU", 1))
        count = actors or gpus or cores
        if not gpus and count > cores:
            raise DeviceError(f"{count} actors were asked for, and the Ray cluster has {cores} cores; ask for fewer.")
        pool = _Pool(ray, order, count, _options(count, gpus, cores), console)
        console.say(f"{count} Ray actors on {'GPUs' if gpus else 'processor cores'}")
        try:
            return _share_out(pool, deque(studies), more, reporter, cancel)
        finally:
            pool.end()
            with StudyWorker(order):  # alone now, it removes what actors that died were writing
                pass
    finally:
        ray.shutdown()


def _connect(ray: Any, where: str, begun: dict[str, Any]) -> None:
    """Connect to a cluster; one that is to be started here is tried again, because Ray gives it half a minute.

    Raises:
        DeviceError: If it cannot be used.
    """
    for left in reversed(range(_MOST_TRIES if where == LOCAL else 1)):
        try:
            ray.init(where, log_to_driver=False, logging_level="ERROR", **begun)
        except Exception as error:  # noqa: BLE001  # whatever Ray raises; a node that is too slow has no kind of its own
            ray.shutdown()
            if not left:
                said = " ".join(str(error).split())[:300]
                raise DeviceError(f"the Ray cluster '{where}' cannot be used: {said}") from None
        else:
            return


def _share_out(pool: _Pool, waiting: deque[Study], more: More, reporter: Reporter, cancel: CancelToken) -> int:
    """Give studies to idle actors until none is left; return the number of those that other processes hold."""
    held = 0
    while True:
        while waiting and pool.idle and not cancel.cancelled:
            pool.give(waiting.popleft())
        if not pool.running:
            added = [] if cancel.cancelled else more()
            if not added:
                return held
            reporter.add(len(added))
            waiting.extend(added)
            continue
        for study, outcome in pool.ended():
            if outcome is None:
                waiting.appendleft(study)
            elif outcome.kind is Kind.HELD:
                held += 1
            else:
                reporter.ended(study, outcome)


def _options(count: int, gpus: int, cores: int) -> dict[str, Any]:
    """Return what each actor reserves and finds around it."""
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    threads = max(1, cores // max(1, count)) if gpus else 1
    return {
        "num_cpus": threads,
        "num_gpus": min(1.0, gpus / count) if gpus else 0,
        "max_restarts": 0,  # a dead one is replaced here, under another name
        "runtime_env": {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}},
    }
