"""Claims: which process computes which study, so that none is computed twice and none of a killed process is lost.

A process that works in a folder is a `Worker`: a file that it touches every few seconds. A claim on a study is a file
KEY.0 that only one process can create. If its worker is dead, the next process creates KEY.1, again as the only one,
and so on; nothing is ever taken away from a living process, and the number says how many died at a study.

Times are compared with each other as the file server writes them, never with a machine's clock.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.cohort.writing import read_json, readable_folder

BEAT_SECONDS = 10.0
"""Time between two signs of life."""

DEAD_SECONDS = 120.0
"""A process on another machine without a sign of life for so long is dead; on the same machine it is asked."""

MOST_DEATHS = 5
"""So many processes may die at a study before it counts as failed."""

_WORKER = ".worker"


@dataclass(frozen=True)
class Claim:
    """The right to compute a study.

    Attributes:
        key: The study's key.
        path: The file that says so.
        number: How many processes died at it before.
        token: The worker's.
    """

    key: str
    path: Path
    number: int
    token: str


class DiedTooOften(Exception):
    """Too many processes died at a study; nobody holds it."""


class Worker:
    """A process that computes studies; a context, in which it is alive.

    Attributes:
        token: Its name.
    """

    def __init__(self, folder: Path, token: str = "", beat: float = BEAT_SECONDS, dead: float = DEAD_SECONDS) -> None:
        """Work in a folder of claims.

        Args:
            folder: The folder, which exists.
            token: A name that no other has; by default a new one.
            beat: Seconds between two signs of life.
            dead: Seconds without one after which another worker is dead.
        """
        self.token = token or uuid.uuid4().hex[:12]
        self._folder, self._beat, self._dead = folder, beat, dead
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def _file(self) -> Path:
        return self._folder / f"{self.token}{_WORKER}"

    def __enter__(self) -> Worker:
        """Begin to live.

        Raises:
            OutputError: If the folder cannot be written.
        """
        with readable_folder(self._folder):
            self._file.write_text(json.dumps(_identity()), encoding="utf-8")
        self._thread = threading.Thread(target=self._live, name="cohort heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and leave no claims: without its worker, each is free."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):
            self._file.unlink()

    def _live(self) -> None:
        while not self._end.wait(self._beat):
            with suppress(OSError):  # the file server may be away for a while; a file that was removed stays so
                os.utime(self._file)

    def claim(self, key: str) -> Claim | None:
        """Claim a study; of several processes one succeeds.

        Returns:
            The claim; None if another process that is alive holds it, or has just ended with it.

        Raises:
            DiedTooOften: If `MOST_DEATHS` processes died at it.
            OutputError: If the folder cannot be written.
        """
        with readable_folder(self._folder):
            if not self._file.exists():  # this process slept so long that others took it for dead
                self._file.write_text(json.dumps(_identity()), encoding="utf-8")
            last = self._last(key)
            if last >= 0 and self._is_held(self._path(key, last)):
                return None
            claim = Claim(key, self._path(key, last + 1), last + 1, self.token)
            if claim.number == MOST_DEATHS:
                raise DiedTooOften
            try:
                handle = os.open(claim.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return None
            try:
                os.write(handle, self.token.encode())
            finally:
                os.close(handle)
        return claim if self.holds(claim) else None

    def _path(self, key: str, number: int) -> Path:
        return self._folder / f"{key}.{number}"

    def _last(self, key: str) -> int:
        """Return the highest number of a study's claims; -1 if there is none."""
        return next((n for n in range(MOST_DEATHS - 1, -1, -1) if self._path(key, n).exists()), -1)

    def holds(self, claim: Claim) -> bool:
        """Return whether a claim is still this process's: others took it if they had to believe that it died."""
        last = self._last(claim.key) == claim.number
        return last and self._file.exists() and _read(claim.path) == self.token

    def release(self, claim: Claim, ended: bool) -> None:
        """Give a claim up.

        Args:
            claim: The claim.
            ended: Whether the study is done or failed, so that those who died at it before are forgotten, too.
        """
        if self._last(claim.key) != claim.number:
            return  # another has taken it over
        for number in range(claim.number, -1 if ended else claim.number - 1, -1):
            with suppress(OSError):
                self._path(claim.key, number).unlink()

    def forget(self, key: str) -> None:
        """Remove all claims on a study at which too many died."""
        for number in range(MOST_DEATHS - 1, -1, -1):
            with suppress(OSError):
                self._path(key, number).unlink()

    def others(self) -> list[str]:
        """Return the tokens of the other workers that are alive; forget the dead ones."""
        alive = []
        for path in sorted(self._folder.glob(f"*{_WORKER}")):
            token = path.name.removesuffix(_WORKER)
            if token == self.token:
                continue
            if self._lives(token):
                alive.append(token)
            else:
                declare_dead(self._folder, token)
        return alive

    def seems_dead(self, key: str) -> bool:
        """Return whether whoever holds a study has not given a sign of life for several beats."""
        holder = _read(self._path(key, self._last(key)))
        return not holder or not self._lives(holder) or self._silent(holder) > 3 * self._beat

    def _is_held(self, claim: Path) -> bool:
        """Return whether a claim is one of a worker that is alive."""
        token = _read(claim)
        if token is None:
            return True  # it has just been given up: look again later
        if not token:  # being created, or its creator died in that moment
            with suppress(OSError):
                os.utime(self._file)
                return self._file.stat().st_mtime - claim.stat().st_mtime <= self._dead
            return True
        return token == self.token or self._lives(token)

    def _lives(self, token: str) -> bool:
        """Return whether a worker is alive."""
        path = self._folder / f"{token}{_WORKER}"
        if not path.exists():
            return False
        if _is_gone(read_json(path)):
            return False
        return self._silent(token) <= self._dead

    def _silent(self, token: str) -> float:
        """Return for how many seconds a worker has given no sign of life."""
        try:
            os.utime(self._file)
            return self._file.stat().st_mtime - (self._folder / f"{token}{_WORKER}").stat().st_mtime
        except OSError:
            return 0.0


def declare_dead(folder: Path, token: str) -> None:
    """Remove a worker that is known to be dead, so that its claims are free."""
    with suppress(OSError):
        (folder / f"{token}{_WORKER}").unlink()


def _read(path: Path) -> str | None:
    """Return the token in a claim; None if there is none any more."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def _identity() -> dict[str, Any]:
    """Return what tells whether this process is alive, for processes on the same machine."""
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _machine() -> str:
    """Return a name of the machine since its last start, and of the container that numbers its processes itself."""
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            parts.append(os.readlink(path) if path.endswith("pid") else Path(path).read_text().strip())
    return " ".join(parts)


def _started(pid: int) -> str:
    """Return when a process started, since numbers are given again; "" where the system does not say it.

    One that has ended, and whose parent has not asked how, counts as never started.
    """
    with suppress(OSError, IndexError):
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "never" if facts[0] in "ZX" else facts[19]
    return ""


def _is_gone(identity: dict[str, Any] | None) -> bool:
    """Return whether a process ran on this machine and is no more; False if nobody here can tell."""
    if identity is None or identity.get("machine") != _machine() or os.name == "nt":
        return False
    pid = identity.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is another user's
    started = _started(pid)
    return bool(started) and started != identity.get("started")
