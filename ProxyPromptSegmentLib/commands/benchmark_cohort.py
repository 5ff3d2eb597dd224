"""Rows of the table of speed about a cohort: by one or two Ray actors, with one killed, and by one process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.commands.benchmark_processes import (
    NO_PROCESS_TIMES,
    PROGRAM,
    SMALL,
    compared,
    took,
    write_case,
)
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.speed_table.row import Goal, Row
from ProxyPromptSegmentLib.evaluation.speed_table.timing import PROCESSOR
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.speed_table.table import Plan

THICK = 3  # slices of a study, those in the middle of what is drawn
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TWICE = re.compile(r"(\d+) stud\w+ computed by two processes")
"""What the command warns of if a study was done twice."""


class Watched(threading.Thread):
    """Notes the processor time of each process that works on a cohort, and that at its first claim."""

    def __init__(self, output: Path) -> None:
        super().__init__(daemon=True)
        self._output, self.ending = output, threading.Event()
        self._times: dict[int, list[float]] = defaultdict(list)
        self._first: dict[int, float] = {}
        self._ticks = os.sysconf("SC_CLK_TCK")

    def run(self) -> None:
        """Look five times a second until the end is set."""
        while not self.ending.wait(0.2):
            for path in (self._output / "claims").glob("*.worker"):
                with suppress(OSError, ValueError, IndexError, KeyError):
                    pid = json.loads(path.read_text(encoding="utf-8"))["pid"]
                    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
                    facts = stat.rpartition(")")[2].split()
                    used = (int(facts[11]) + int(facts[12])) / self._ticks
                    self._times[pid].append(used)
                    token = path.name.removesuffix(".worker")
                    if any(claim.read_text(encoding="utf-8") == token for claim in path.parent.glob("*.[0-9]")):
                        self._first.setdefault(pid, used)

    def busiest(self) -> float:
        """Return the processor time of the busiest process since its first claim."""
        return max((times[-1] - self._first.get(pid, times[-1]) for pid, times in self._times.items()), default=0.0)


@dataclass(frozen=True)
class Survived:
    """What became of a cohort of which an actor was killed.

    Attributes:
        done: Studies that have a record, each once.
        killed: The actors that were killed, by process number.
        twice: Studies that two actors finished.
    """

    done: int
    killed: tuple[int, ...]
    twice: int


def cohort_rows(plan: Plan) -> list[Row]:
    """Return the rows of a cohort: one Ray actor against two, one killed, one process against a call for each study.

    Of Ray's actors, the time of the busiest one counts from its first claim on: with a core for each actor, that is how
    long a cohort takes, loading included and imports left out.
    """
    count = plan.studies
    apart = Row(
        what=f"cohort of {count} studies, one Ray actor", against="two actors, one thread each", device="cpu",
        goal=Goal(least=1.8), clock=PROCESSOR,
    )  # fmt: skip
    kept = Row(
        what=f"cohort of {count} studies, done once by two Ray actors of which one was killed",
        against="studies that were given", device="cpu", goal=Goal(least=1.0, most=1.0), clock="studies",
    )  # fmt: skip
    together = Row(
        what=f"cohort of {count} studies, one process", against="segment called for each", device="cpu",
        clock=PROCESSOR,
    )  # fmt: skip
    if not Path("/proc/self/stat").exists():
        return [replace(row, skipped=NO_PROCESS_TIMES) for row in (apart, kept, together)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shared = ["--support", *write_case(folder, "old", 1), "--model", plan.model, "--device", "cpu", "--quiet"]
        (folder / "studies").mkdir()
        studies = [folder / "studies" / f"case{number:03d}.nrrd" for number in range(count)]
        for number, path in enumerate(studies):
            write_volume(path, drawn_study(number))
        calls, whole = [], []
        for turn in range(plan.repeats):
            one = ["segment", *shared, "--target", studies[turn % count], "--output", folder / f"{turn}.seg.nrrd"]
            calls.append(count * took([*PROGRAM, *one], ONE_THREAD).seconds)
            many = ["cohort", folder / "studies", *shared, "--output", folder / f"alone{turn}"]
            whole.append(took([*PROGRAM, *many], ONE_THREAD).seconds)
        together = compared(together, whole, calls)
        if importlib.util.find_spec("ray") is None:
            return [*(replace(row, skipped="Ray is not installed") for row in (apart, kept)), together]
        busiest: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(plan.repeats):
            for actors in (1, 2):
                words = by_ray(folder / "studies", folder / f"out{actors}-{turn}", shared, actors)
                busiest[actors].append(_busiest(words, folder / f"out{actors}-{turn}"))
        words = by_ray(folder / "studies", folder / "killed", shared, 2)
        found = with_one_killed(words, folder / "killed", count // 3)
    more = {"killed": len(found.killed), "lost": count - found.done, "done_twice": found.twice}
    return [compared(apart, busiest[1], busiest[2]), replace(kept, ratios=(found.done / count,), more=more), together]


def drawn_study(number: int) -> Volume:
    """Return a drawn study: a few slices through the gland, unlike those of any other number."""
    volume, _ = pelvis_phantom(10 + number, SMALL)
    first, size = (SMALL[0] - THICK) // 2, volume.geometry.size_ijk
    geometry = replace(volume.geometry, size_ijk=(size[0], size[1], THICK))
    return Volume(volume.array[first : first + THICK], geometry, volume.name)


def by_ray(studies: Path, output: Path, shared: Sequence[object], actors: int) -> list[str]:
    """Return the words that segment studies by a local Ray cluster."""
    words = [*PROGRAM, "cohort", studies, *shared, "--output", output, "--ray", "local", "--actors", actors]
    return [str(word) for word in words]


def _busiest(words: Sequence[str], output: Path) -> float:
    """Return the processor time of the busiest of some actors on a cohort."""
    watched = Watched(output)
    watched.start()
    try:
        took(words, ONE_THREAD)
    finally:
        watched.ending.set()
        watched.join()
    return watched.busiest()


def with_one_killed(
    words: Sequence[str], output: Path, after: int, kill: Callable[[int, int], None] = os.kill
) -> Survived:
    """Run a cohort, and kill the first process that holds a claim when some studies are done.

    Args:
        words: The command.
        output: Its output folder.
        after: Number of studies that are done before.
        kill: Sends a signal to a process.

    Raises:
        InputError: If the command failed.
    """
    killed: list[int] = []
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            list(words), env={**os.environ, **ONE_THREAD}, stdout=subprocess.DEVNULL, stderr=said
        )
        while process.poll() is None:
            if not killed and len(_names(output / "records")) >= after and (pid := _computing(output / "claims")):
                with suppress(ProcessLookupError):  # it ended meanwhile; another one is taken
                    kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.01 if not killed else 0.2)
        said.seek(0)
        text = said.read()
    if process.returncode not in (0, 9):
        raise InputError(f"the cohort with a killed actor ended with {process.returncode}: {text[-300:]}")
    twice = TWICE.search(text)
    return Survived(len(_names(output / "records")), tuple(killed), int(twice[1]) if twice else 0)


def _names(records: Path) -> list[str]:
    """Return the studies that have a record."""
    return [path.name for path in records.glob("[!.]*.json")]


def _computing(claims: Path) -> int | None:
    """Return the number of a process that holds a claim; None if there is none."""
    for claim in claims.glob("*.0"):
        with suppress(OSError, ValueError, KeyError):
            worker = claims / f"{claim.read_text(encoding='utf-8')}.worker"
            return int(json.loads(worker.read_text(encoding="utf-8"))["pid"])
    return None


ROWS: dict[str, Callable[[Plan], list[Row]]] = {"cohort": cohort_rows}
